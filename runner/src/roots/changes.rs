//! What a step did to a copied tree, as a layer: found by a walk, and moved rather than copied.
//!
//! A file is in the layer if it is another file than before: its type, owner, mode, time, attributes or bytes, or if it
//! got another name beside. One that was only opened for writing is not. A directory is in it if it changed itself or if
//! anything below did, with its metadata of now. What is gone leaves a whiteout; a directory that was replaced by
//! another is opaque.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use forge_store::rootdir::{At, Dir, FileKind, Stat};
use forge_store::tree::{OverlayXattrs, create_whiteout, is_whiteout, node};

use super::kept::Names;
use super::stamps::{Stamps, same_metadata, untouched};
use crate::files::{At as _, FilesError, TreeView};

/// What [`collect`] did to the tree.
#[derive(Default)]
pub(super) struct Moved {
    /// Names that are no longer what they were before the step.
    pub(super) names: Names,
    /// A file of the layer still has a name in the tree, so that writing there would change it.
    pub(super) shares_files: bool,
    /// Something got an access list. Copies begin without any, so the next step would find it in the tree.
    pub(super) has_acls: bool,
}

/// Moves what is in `now` and not in `view` to `to`, the root of an empty layer; what went is marked there.
pub(super) fn collect(
    view: &dyn TreeView,
    before: &Stamps,
    now: &Dir,
    to: &Dir,
    marks: OverlayXattrs,
) -> Result<Moved, FilesError> {
    let (names, links, has_acls) = Default::default();
    let collector = Collector { view, before, marks, names, links, has_acls };
    let stat = now.stat()?;
    let out = Out { parent: None, name: OsStr::new(""), now, stat, dir: OnceCell::from(to.clone()) };
    copy_metadata(now, &stat, to)?;
    collector.look_for_acls(&now.itself().xattrs()?);
    collector.directory(now, Path::new(""), &out)?;
    to.itself().set_mtime(stat.mtime)?;
    let shares_files = collector.links.borrow().values().any(|(moved, names)| moved < names);
    Ok(Moved { names: collector.names.into_inner(), shares_files, has_acls: collector.has_acls.get() })
}

/// A directory of the layer, made once something goes into it.
struct Out<'a> {
    parent: Option<&'a Out<'a>>,
    name: &'a OsStr,
    now: &'a Dir,
    stat: Stat,
    dir: OnceCell<Dir>,
}

impl Out<'_> {
    fn get(&self) -> Result<&Dir, FilesError> {
        if let Some(dir) = self.dir.get() {
            return Ok(dir);
        }
        // Only the root has no parent, and it is there from the start.
        let parent = self.parent.ok_or_else(|| FilesError::Changed(PathBuf::new()))?.get()?;
        let at = parent.at(self.name)?;
        at.create_dir(0o700)?;
        let made = at.open_dir()?;
        copy_metadata(self.now, &self.stat, &made)?;
        Ok(self.dir.get_or_init(|| made))
    }

    fn finish(&self) -> Result<(), FilesError> {
        match self.dir.get() {
            Some(dir) => Ok(dir.itself().set_mtime(self.stat.mtime)?),
            None => Ok(()),
        }
    }
}

struct Collector<'a> {
    view: &'a dyn TreeView,
    before: &'a Stamps,
    marks: OverlayXattrs,
    /// What was moved, removed or changed.
    names: RefCell<Names>,
    /// Moved files with several names: how many of them were moved, and how many there are.
    links: RefCell<HashMap<(u64, u64), (u64, u64)>>,
    has_acls: Cell<bool>,
}

impl Collector<'_> {
    fn directory(&self, now: &Dir, path: &Path, out: &Out<'_>) -> Result<(), FilesError> {
        let names = now.read_dir()?;
        let known = self.before.of(path);
        let is_there =
            |name: &OsStr| names.binary_search_by(|entry| entry.name.as_bytes().cmp(name.as_bytes())).is_ok();
        for name in known.into_iter().flat_map(|known| known.keys()).filter(|name| !is_there(name)) {
            create_whiteout(out.get()?.at(name)?, self.marks)?;
            self.names.borrow_mut().add(&path.join(name), true);
        }
        for entry in &names {
            let at = now.at(&entry.name)?;
            let was = known.and_then(|known| known.get(&entry.name));
            self.entry(at, was, &path.join(&entry.name), out)?;
        }
        Ok(())
    }

    fn entry(&self, at: At<'_>, was: Option<&Stat>, path: &Path, out: &Out<'_>) -> Result<(), FilesError> {
        let stat = at.stat()?;
        let is_directory = stat.kind == FileKind::Directory;
        if is_directory && let Some(was) = was {
            let now = at.open_dir()?;
            if self.before.is_still(path, was, &now, &stat) {
                let inner = Out { parent: Some(out), name: at.name(), now: &now, stat, dir: OnceCell::new() };
                self.directory(&now, path, &inner)?;
                if !same_metadata(was, &stat) || !self.same_attributes(at, path)? {
                    inner.get()?;
                    self.names.borrow_mut().add(path, false);
                }
                return inner.finish();
            }
        }
        match was {
            // A directory that is another one is no longer the old one's names either.
            Some(_) if is_directory => {}
            // It got another name beside: in a layer both are one file, or neither is.
            Some(was) if stat.nlink > was.nlink && stat.kind == FileKind::Regular => {}
            Some(was) if untouched(was, &stat) => return Ok(()),
            Some(was) if same_metadata(was, &stat) && self.same_content(at, &stat, path)? => return Ok(()),
            _ => {}
        }
        self.names.borrow_mut().add(path, true);
        // Without the process that listens it means nothing; it hides what had its name.
        if stat.kind == FileKind::Socket {
            return match was {
                Some(_) => Ok(create_whiteout(out.get()?.at(at.name())?, self.marks)?),
                None => Ok(()),
            };
        }
        self.admit(at, &stat, path)?;
        let to = out.get()?.at(at.name())?;
        at.rename_to(to)?;
        // As overlayfs has it: whatever a new directory stands in the place of.
        if is_directory && was.is_some() {
            self.marks.set_opaque(to)?;
        }
        Ok(())
    }

    fn same_attributes(&self, at: At<'_>, path: &Path) -> Result<bool, FilesError> {
        let was = self.view.xattrs(path)?;
        let (mut now, names) = (Vec::new(), at.xattrs()?);
        self.look_for_acls(&names);
        for name in names.into_iter().filter(|name| is_content(name)) {
            let value = at.xattr(&name)?.unwrap_or_default();
            now.push((name, value));
        }
        Ok(was == now)
    }

    fn look_for_acls(&self, attributes: &[OsString]) {
        if attributes.iter().any(|name| name.as_bytes().starts_with(b"system.posix_acl_")) {
            self.has_acls.set(true);
        }
    }

    /// Whether a file that was touched still is what it was.
    fn same_content(&self, at: At<'_>, stat: &Stat, path: &Path) -> Result<bool, FilesError> {
        match stat.kind {
            FileKind::Symlink => Ok(at.read_link()? == self.view.read_link(path)?),
            FileKind::Regular => {
                // The record of a device has no bytes.
                let is_device = self.view.stat(path)?.is_none_or(|stat| stat.kind != FileKind::Regular);
                let same = is_device || same_bytes(self.view.open(path)?.0, at.open_file()?.0, path)?;
                Ok(same && self.same_attributes(at, path)?)
            }
            _ => Ok(true),
        }
    }

    /// Refuses what would mean something else in a layer's tree than it does to the step.
    fn admit(&self, at: At<'_>, stat: &Stat, path: &Path) -> Result<(), FilesError> {
        if is_whiteout(stat) {
            return Err(FilesError::Unkept { path: path.to_owned(), what: "the device 0:0".into() });
        }
        if stat.nlink > 1 && stat.kind != FileKind::Directory {
            let mut links = self.links.borrow_mut();
            links.entry((stat.dev, stat.ino)).or_insert((0, stat.nlink)).0 += 1;
        }
        if stat.kind == FileKind::Symlink {
            return Ok(());
        }
        for name in at.xattrs()? {
            let bytes = name.as_bytes();
            if bytes.starts_with(b"trusted.overlay.") || bytes.starts_with(b"user.overlay.") {
                let what = format!("the attribute {}", name.display());
                return Err(FilesError::Unkept { path: path.to_owned(), what });
            }
        }
        if stat.kind != FileKind::Directory {
            return Ok(());
        }
        let dir = at.open_dir()?;
        for entry in dir.read_dir()? {
            let (inner, path) = (dir.at(&entry.name)?, path.join(&entry.name));
            let stat = inner.stat()?;
            match stat.kind {
                FileKind::Socket => inner.remove_file()?,
                _ => self.admit(inner, &stat, &path)?,
            }
        }
        Ok(())
    }
}

/// Attributes that belong to the content: those that views show.
pub(super) fn is_content(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let own = [b"user.overlay.".as_slice(), node::XATTR_PREFIX.as_bytes()];
    name == b"security.capability"
        || (name.starts_with(b"user.") && !own.iter().any(|own| name.starts_with(own)))
}

fn copy_metadata(from: &Dir, stat: &Stat, to: &Dir) -> Result<(), FilesError> {
    let (from, to) = (from.itself(), to.itself());
    to.chown(stat.uid, stat.gid)?;
    to.chmod(stat.mode)?;
    for name in from.xattrs()? {
        let bytes = name.as_bytes();
        if bytes.starts_with(b"user.") || bytes.starts_with(b"system.posix_acl_") {
            to.set_xattr(&name, &from.xattr(&name)?.unwrap_or_default())?;
        }
    }
    Ok(())
}

fn same_bytes(mut left: File, mut right: File, path: &Path) -> Result<bool, FilesError> {
    let (mut a, mut b) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let n = left.read(&mut a).at("read", path)?;
        let mut m = 0;
        while m < n {
            match right.read(&mut b[m..n]).at("read", path)? {
                0 => break,
                more => m += more,
            }
        }
        if m != n || a[..n] != b[..n] {
            return Ok(false);
        }
        if n == 0 {
            return Ok(right.read(&mut b).at("read", path)? == 0);
        }
    }
}
