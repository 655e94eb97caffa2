//! All layers, copied into one directory for one step, and kept up to date for the next ones (see [`super::kept`]).
//!
//! Every byte is copied, never linked: a step may write to any file, and layers in the store never change.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;

use forge_store::rootdir::{Dir, FileKind, Stat};
use forge_store::tree::{OverlayXattrs, node, owner};
use forge_store::{Draft, RootDir, Snapshot, Store};

use super::changes;
use super::kept::{Kept, Names};
use super::stamps::Stamps;
use crate::files::{FilesError, TreeView, copy_bytes};
use crate::sandbox::spec::Rootfs;

/// The copy. It is gone with the value.
pub(super) struct Copied {
    place: Draft,
    stamps: Stamps,
    is_mounted: bool,
}

impl Copied {
    /// Copies what `view` shows. Where the step's mounts are not `nodev`, devices are copied as records.
    pub(super) fn make(
        place: Draft,
        view: &dyn TreeView,
        marks: OverlayXattrs,
        is_mounted: bool,
    ) -> Result<Copied, FilesError> {
        let root = RootDir::open_host(place.tree())?;
        let mut copier = Copier { view, marks, devices: is_mounted, links: HashMap::new() };
        copier.directory(Path::new(""), root.dir())?;
        if let Some(stat) = view.stat(Path::new(""))? {
            copier.furnish(Path::new(""), root.dir(), &stat)?;
        }
        let stamps = Stamps::take(&root)?;
        Ok(Copied { place, stamps, is_mounted })
    }

    /// Makes a tree of an earlier step what `view` shows of `below`. None if that cannot be.
    pub(super) fn again(
        mut kept: Kept,
        store: &Store,
        below: &Snapshot,
        view: &dyn TreeView,
        is_mounted: bool,
    ) -> Option<Copied> {
        let names = kept.names(store, below).ok().filter(|names| !names.is_whole)?;
        // What a step could not put back is nowhere to be found.
        let has_rest = std::fs::read_dir(kept.place.work()).ok()?.next().is_some();
        let root = RootDir::open_host(kept.place.tree()).ok().filter(|_| !has_rest)?;
        let marks = store.layers().xattrs();
        let mut copier = Copier { view, marks, devices: is_mounted, links: HashMap::new() };
        copier.refresh(Path::new(""), root.dir(), &names).ok()?;
        if !copier.links.values().all(|made| made.names == made.of) {
            return None;
        }
        copier.forget_attributes(Path::new(""), root.dir()).ok()?;
        if let Some(stat) = view.stat(Path::new("")).ok()? {
            copier.furnish(Path::new(""), root.dir(), &stat).ok()?;
        }
        let stamps = Stamps::take(&root).ok()?;
        Some(Copied { place: kept.place, stamps, is_mounted })
    }

    /// The tree, for a sandbox.
    pub(super) fn rootfs(&self) -> Rootfs {
        let path = self.place.tree();
        match self.is_mounted {
            true => Rootfs::Directory { path, read_only: false },
            false => Rootfs::Chroot { path, aside: self.place.work() },
        }
    }

    /// Moves what differs from `view`, which shows `below`, into `draft`, as a layer. Gives the tree for another step,
    /// if it is still good for one.
    pub(super) fn changes(
        self,
        below: &Snapshot,
        view: &dyn TreeView,
        draft: &Draft,
        marks: OverlayXattrs,
    ) -> Result<Option<Kept>, FilesError> {
        let now = RootDir::open_host(self.place.tree())?;
        let to = RootDir::open_host(draft.tree())?;
        let moved = changes::collect(view, &self.stamps, now.dir(), to.dir(), marks)?;
        // Owners that are records of a directory would outlive the names that they are for.
        let is_good = !moved.shares_files && !moved.has_acls && marks != OverlayXattrs::Single;
        let layers = below.layers().into_iter().cloned().collect();
        Ok(is_good.then_some(Kept { place: self.place, layers, stale: moved.names }))
    }
}

struct Copier<'a> {
    view: &'a dyn TreeView,
    marks: OverlayXattrs,
    devices: bool,
    links: HashMap<(u64, u64), Linked>,
}

/// A file with several names.
struct Linked {
    /// The first name's place.
    first: (Dir, OsString),
    /// How many names were made, and how many there are. In a tree that is used again those that were not made anew
    /// belong to another file now.
    names: u64,
    of: u64,
}

impl Copier<'_> {
    fn directory(&mut self, path: &Path, to: &Dir) -> Result<(), FilesError> {
        for child in self.view.children(path)?.iter() {
            let (path, stat) = (path.join(&child.name), &child.stat);
            let at = to.at(&child.name)?;
            if stat.kind == FileKind::Directory {
                at.create_dir(0o700)?;
                let dir = at.open_dir()?;
                self.directory(&path, &dir)?;
                self.furnish(&path, &dir, stat)?;
            } else {
                self.file(&path, stat, to, &child.name)?;
            }
        }
        Ok(())
    }

    /// Makes everything that has one of these names what the view shows there.
    fn refresh(&mut self, path: &Path, to: &Dir, names: &Names) -> Result<(), FilesError> {
        for (name, inner) in &names.inner {
            let (path, at) = (path.join(name), to.at(name)?);
            let was = at.try_stat()?;
            match self.view.stat(&path)? {
                Some(stat) if stat.kind == FileKind::Directory => {
                    let stays = !inner.is_whole && was.is_some_and(|was| was.kind == FileKind::Directory);
                    if !stays {
                        at.remove_tree()?;
                        at.create_dir(0o700)?;
                    }
                    let dir = at.open_dir()?;
                    match stays {
                        true => self.refresh(&path, &dir, inner)?,
                        false => self.directory(&path, &dir)?,
                    }
                    self.forget_attributes(&path, &dir)?;
                    self.furnish(&path, &dir, &stat)?;
                }
                found => {
                    at.remove_tree()?;
                    if let Some(stat) = found {
                        self.file(&path, &stat, to, name)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes attributes off a directory that it does not have in the view.
    fn forget_attributes(&self, path: &Path, dir: &Dir) -> Result<(), FilesError> {
        let wanted = self.view.xattrs(path)?;
        let at = dir.itself();
        for name in at.xattrs()?.into_iter().filter(|name| changes::is_content(name)) {
            if !wanted.iter().any(|(wanted, _)| *wanted == name) {
                at.remove_xattr(&name)?;
            }
        }
        Ok(())
    }

    /// A directory's metadata, once everything is in it.
    fn furnish(&self, path: &Path, dir: &Dir, stat: &Stat) -> Result<(), FilesError> {
        let at = dir.itself();
        owner::set(at, stat.uid, stat.gid, self.marks)?;
        at.chmod(stat.mode)?;
        for (name, value) in self.view.xattrs(path)? {
            at.set_xattr(&name, &value)?;
        }
        Ok(at.set_mtime(stat.mtime)?)
    }

    fn file(&mut self, path: &Path, stat: &Stat, dir: &Dir, name: &OsString) -> Result<(), FilesError> {
        let at = dir.at(name)?;
        if stat.nlink > 1 {
            if let Some(Linked { first: (first_dir, first_name), names, .. }) =
                self.links.get_mut(&(stat.dev, stat.ino))
            {
                *names += 1;
                return Ok(at.hard_link_from(first_dir.at(first_name)?)?);
            }
            let linked = Linked { first: (dir.clone(), name.clone()), names: 1, of: stat.nlink };
            self.links.insert((stat.dev, stat.ino), linked);
        }
        match stat.kind {
            FileKind::Regular => copy_bytes(self.view, path, stat, &at.create_file(0o600)?)?,
            FileKind::Symlink => at.symlink(self.view.read_link(path)?)?,
            FileKind::Fifo => at.mknod(FileKind::Fifo, 0o600, stat.rdev)?,
            FileKind::Char | FileKind::Block if self.devices => {
                node::create(at, stat.kind, 0o600, stat.rdev, self.marks)?
            }
            FileKind::Char | FileKind::Block => node::create_record(at, stat.kind, 0o600, stat.rdev)?,
            FileKind::Socket | FileKind::Directory => return Ok(()),
        }
        owner::set(at, stat.uid, stat.gid, self.marks)?;
        if stat.kind != FileKind::Symlink {
            at.chmod(stat.mode)?;
            for (attribute, value) in self.view.xattrs(path)? {
                at.set_xattr(&attribute, &value)?;
            }
        }
        Ok(at.set_mtime(stat.mtime)?)
    }
}
