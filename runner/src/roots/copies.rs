//! All layers, copied into one directory for one step.
//!
//! Every byte is copied, never linked: a step may write to any file, and layers in the store never change.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;

use forge_store::rootdir::{Dir, FileKind, Stat};
use forge_store::tree::{OverlayXattrs, node, owner};
use forge_store::{Draft, RootDir};

use super::changes;
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

    /// The tree, for a sandbox.
    pub(super) fn rootfs(&self) -> Rootfs {
        let path = self.place.tree();
        match self.is_mounted {
            true => Rootfs::Directory { path, read_only: false },
            false => Rootfs::Chroot { path, aside: self.place.work() },
        }
    }

    /// Moves what differs from `view` into `draft`, as a layer.
    pub(super) fn changes(
        self,
        view: &dyn TreeView,
        draft: &Draft,
        marks: OverlayXattrs,
    ) -> Result<(), FilesError> {
        let now = RootDir::open_host(self.place.tree())?;
        let to = RootDir::open_host(draft.tree())?;
        changes::collect(view, &self.stamps, now.dir(), to.dir(), marks)
    }
}

struct Copier<'a> {
    view: &'a dyn TreeView,
    marks: OverlayXattrs,
    devices: bool,
    /// Hard links: the first name's place.
    links: HashMap<(u64, u64), (Dir, OsString)>,
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
            if let Some((first_dir, first_name)) = self.links.get(&(stat.dev, stat.ino)) {
                return Ok(at.hard_link_from(first_dir.at(first_name)?)?);
            }
            self.links.insert((stat.dev, stat.ino), (dir.clone(), name.clone()));
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
