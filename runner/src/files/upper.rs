//! A layer being made: a draft tree in overlayfs' upper format, seen together with what lies below it.
//!
//! No mount is needed to fill a layer: a directory that exists below is made here with the same metadata, as
//! overlayfs' copy-up would; names that the layer adds hide those below.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use forge_store::rootdir::{Dir, FileKind, Mtime, NewDir, Stat};
use forge_store::tree::{OverlayXattrs, owner};
use forge_store::{Draft, RootDir};

use super::error::FilesError;
use super::view::{Child, TreeView};

/// A draft tree over a view.
pub struct Upper<'a> {
    root: RootDir,
    below: &'a dyn TreeView,
    marks: OverlayXattrs,
    /// Directories that were copied up, with the time they had: set again once nothing is added any more.
    copied_up: RefCell<Vec<(Dir, Mtime)>>,
}

impl<'a> Upper<'a> {
    /// Starts an empty layer over `below`; its root directory looks as the one below.
    pub fn new(draft: &Draft, below: &'a dyn TreeView, marks: OverlayXattrs) -> Result<Self, FilesError> {
        let root = RootDir::open_host(draft.tree())?;
        let upper = Self { root, below, marks, copied_up: RefCell::new(Vec::new()) };
        if let Some(stat) = below.stat(Path::new(""))? {
            upper.copy_up(Path::new(""), upper.root.dir().clone(), &stat)?;
        }
        Ok(upper)
    }

    /// Gives the copied-up directories their times back.
    pub fn finish(self) -> Result<(), FilesError> {
        for (dir, mtime) in self.copied_up.into_inner() {
            dir.itself().set_mtime(mtime)?;
        }
        Ok(())
    }

    /// The layer's own directory at `path` (resolved), made as it is below, or as `new` says where there is none.
    ///
    /// # Errors
    /// [`FilesError::DirectoryOverFile`] if something else has the name.
    pub fn dir(&self, path: &Path, new: NewDir) -> Result<Dir, FilesError> {
        let mut dir = self.root.dir().clone();
        let mut at = PathBuf::new();
        for name in path.iter() {
            at.push(name);
            let place = dir.at(name)?;
            dir = match place.try_stat()? {
                Some(stat) if stat.kind == FileKind::Directory => place.open_dir()?,
                Some(_) => return Err(FilesError::DirectoryOverFile(shown(&at))),
                None => {
                    let below = self.below_stat(&at)?;
                    if below.is_some_and(|stat| stat.kind != FileKind::Directory) {
                        return Err(FilesError::DirectoryOverFile(shown(&at)));
                    }
                    place.create_dir(new.mode)?;
                    let made = place.open_dir()?;
                    match below {
                        Some(stat) => self.copy_up(&at, made.clone(), &stat)?,
                        None => own(&made, new, self.marks)?,
                    }
                    made
                }
            };
        }
        Ok(dir)
    }

    /// Marks a new directory so that nothing of what had its name below shows through.
    pub fn hide_below(&self, dir: &Dir, path: &Path) -> Result<(), FilesError> {
        if self.below_stat(path)?.is_some_and(|stat| stat.kind == FileKind::Directory) {
            dir.itself().set_xattr(self.marks.opaque(), b"y")?;
        }
        Ok(())
    }

    /// What is below at `path`, unless the layer put something that is no directory on the way.
    fn below_stat(&self, path: &Path) -> Result<Option<Stat>, FilesError> {
        self.below.stat(path)
    }

    fn copy_up(&self, path: &Path, dir: Dir, stat: &Stat) -> Result<(), FilesError> {
        let place = dir.itself();
        owner::set(place, stat.uid, stat.gid, self.marks)?;
        place.chmod(stat.mode)?;
        for (name, value) in self.below.xattrs(path)? {
            place.set_xattr(&name, &value)?;
        }
        self.copied_up.borrow_mut().push((dir, stat.mtime));
        Ok(())
    }

    /// Resolves a path as a process in the finished layer would.
    pub fn resolve(&self, path: &Path) -> Result<PathBuf, FilesError> {
        super::view::resolve(&Merged { root: &self.root, below: self.below }, path, true)
    }

    /// What is at `path` (resolved) now, in the layer or below.
    pub fn stat(&self, path: &Path) -> Result<Option<Stat>, FilesError> {
        Merged { root: &self.root, below: self.below }.stat(path)
    }

    /// Whether nothing is at `path` (resolved): it may be filled without looking at what was there.
    pub fn is_free(&self, path: &Path) -> Result<bool, FilesError> {
        if !path.as_os_str().is_empty() {
            return Ok(self.stat(path)?.is_none());
        }
        Ok(self.below.stat(path)?.is_none() && self.root.dir().read_dir()?.is_empty())
    }

    /// The layer's own directory at `path` (resolved), which must be there, as a root.
    pub fn tree(&self, path: &Path) -> Result<RootDir, FilesError> {
        Ok(self.root.open(path)?)
    }

    /// Below, for looking up names.
    pub fn below(&self) -> &'a dyn TreeView {
        self.below
    }
}

/// Gives a directory that was just made its owner and mode.
pub fn own(dir: &Dir, new: NewDir, marks: OverlayXattrs) -> Result<(), FilesError> {
    if let Some((uid, gid)) = new.owner {
        owner::set(dir.itself(), uid, gid, marks)?;
    }
    Ok(dir.itself().chmod(new.mode)?)
}

/// A path as people write it.
pub fn shown(path: &Path) -> PathBuf {
    Path::new("/").join(path)
}

/// A layer and what lies below it, as one view: for resolving paths only.
struct Merged<'a> {
    root: &'a RootDir,
    below: &'a dyn TreeView,
}

impl TreeView for Merged<'_> {
    fn stat(&self, path: &Path) -> Result<Option<Stat>, FilesError> {
        match self.root.stat_nofollow(path) {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if error.errno() == Some(rustix::io::Errno::NOTDIR) => Ok(None),
            Err(error) if error.not_found() => self.below.stat(path),
            Err(error) => Err(error.into()),
        }
    }

    fn children(&self, path: &Path) -> Result<Arc<Vec<Child>>, FilesError> {
        self.below.children(path)
    }

    fn read_link(&self, path: &Path) -> Result<OsString, FilesError> {
        match self.root.read_link(path) {
            Err(error) if error.not_found() => self.below.read_link(path),
            other => Ok(other?),
        }
    }

    fn open(&self, path: &Path) -> Result<(File, Stat), FilesError> {
        self.below.open(path)
    }

    fn xattrs(&self, path: &Path) -> Result<Vec<(OsString, Vec<u8>)>, FilesError> {
        self.below.xattrs(path)
    }

    fn is_hidden(&self, _path: &Path) -> bool {
        false
    }
}
