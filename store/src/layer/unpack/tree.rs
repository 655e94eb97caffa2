//! The tree as far as it is unpacked: finding and making the directories that entries go into, and making room.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::directories::{Directories, Record};
use super::error::{UnpackError, path_of};
use super::options::{Owner, UnpackOptions, Whiteouts};
use super::parents::{Held, Parents, is_missing};
use super::path;
use crate::rootdir::{At, FileKind, Mtime, NewDir, RootDir, RootDirError, Stat};
use crate::tree::{OverlayXattrs, is_whiteout, owner};

/// What directories that no entry describes get.
const IMPLIED_MODE: u32 = 0o755;

pub(super) struct Tree<'a> {
    root: &'a RootDir,
    options: &'a UnpackOptions,
    parents: Parents<'a>,
    directories: Directories,
    /// Files and directories so far.
    entries: u64,
}

impl<'a> Tree<'a> {
    pub(super) fn new(root: &'a RootDir, options: &'a UnpackOptions) -> Self {
        Self { root, options, parents: Parents::new(root), directories: Directories::default(), entries: 0 }
    }

    /// Gives the directories what was left for the end. Gives how many entries there were, and the paths of
    /// directories that none of them described.
    pub(super) fn finish(self) -> Result<(u64, Vec<Vec<u8>>), UnpackError> {
        Ok((self.entries, self.directories.finish(self.root)?))
    }

    /// The directory at `path`, which must be there; symlinks are followed in the root.
    pub(super) fn open(&mut self, path: &[u8]) -> Result<Held, RootDirError> {
        self.parents.open(path)
    }

    /// The directory at `path`, made with its parents where they are missing.
    pub(super) fn parent(&mut self, path: &[u8]) -> Result<Held, UnpackError> {
        match self.parents.open(path) {
            Err(error) if is_missing(&error) => self.implied_parents(path),
            held => held.map_err(UnpackError::write(path)),
        }
    }

    /// Makes something; what has its name goes first, whole trees too.
    pub(super) fn make<T>(
        &mut self,
        at: At<'_>,
        make: impl Fn(At<'_>) -> Result<T, RootDirError>,
    ) -> Result<T, RootDirError> {
        match make(at) {
            Err(error) if error.exists() => {
                self.clear(at)?;
                make(at)
            }
            made => made,
        }
    }

    /// Makes a directory. One that is there stays, with all in it; over anything else, or over a whiteout, it hides
    /// what is below.
    pub(super) fn make_directory(&mut self, at: At<'_>, path: &[u8]) -> Result<Held, RootDirError> {
        match at.create_dir(0o700) {
            Err(error) if error.exists() => {
                if at.stat()?.kind != FileKind::Directory {
                    self.clear(at)?;
                    at.create_dir(0o700)?;
                    self.hide_below(at)?;
                }
            }
            made => made?,
        }
        self.parents.hold(path, at.open_dir()?)
    }

    /// Remembers what a directory is to get at the end.
    pub(super) fn note(&mut self, held: &Held, record: Record) -> Result<(), UnpackError> {
        self.directories.note(held, record)
    }

    /// Whether this is a layer's whiteout, and so nothing that an entry could mean.
    pub(super) fn is_hidden(&self, stat: &Stat) -> bool {
        self.options.whiteouts == Whiteouts::Overlay && is_whiteout(stat)
    }

    /// Counts one more file or directory.
    pub(super) fn count_entry(&mut self) -> Result<(), UnpackError> {
        self.entries += 1;
        let limit = self.options.limits.entries;
        match self.entries <= limit {
            true => Ok(()),
            false => Err(UnpackError::TooLarge { what: "files and directories", limit }),
        }
    }

    fn clear(&mut self, at: At<'_>) -> Result<(), RootDirError> {
        if matches!(at.stat()?.kind, FileKind::Directory | FileKind::Symlink) {
            self.parents.forget();
        }
        at.remove_tree()
    }

    /// For a directory where this layer has, or had, something else: overlayfs would otherwise join it with one
    /// further below.
    fn hide_below(&self, at: At<'_>) -> Result<(), RootDirError> {
        match self.options.whiteouts {
            Whiteouts::Overlay => self.options.xattrs.set_opaque(at),
            Whiteouts::Literal => Ok(()),
        }
    }

    fn implied_parents(&mut self, path: &[u8]) -> Result<Held, UnpackError> {
        let mut missing = vec![path];
        let mut here = loop {
            let Some((up, _)) = missing.last().and_then(|path| path::split(path)) else {
                return self.parents.open(b"").map_err(UnpackError::write(b"."));
            };
            match self.parents.open(up) {
                Err(error) if is_missing(&error) => missing.push(up),
                held => break held.map_err(UnpackError::write(up))?,
            }
        };
        for path in missing.into_iter().rev() {
            let name = path::split(path).map_or(&b""[..], |(_, name)| name);
            here = self.implied(at(&here, name)?, path)?;
        }
        Ok(here)
    }

    /// The directory of this name, made because something is in it.
    fn implied(&mut self, at: At<'_>, path: &[u8]) -> Result<Held, UnpackError> {
        let write = UnpackError::write;
        match at.try_stat().map_err(write(path))? {
            None => self.make_implied(at, path),
            Some(stat) if self.is_hidden(&stat) => {
                at.remove_file().map_err(write(path))?;
                let held = self.make_implied(at, path)?;
                self.hide_below(at).map(|()| held).map_err(write(path))
            }
            // It leads to what is not there: that is made, in the root.
            Some(stat) if stat.kind == FileKind::Symlink => {
                self.count_entry()?;
                let dir = self.root.create_dir_all(path_of(path), self.new_directory());
                dir.and_then(|dir| self.parents.hold(path, dir)).map_err(write(path))
            }
            Some(_) => at.open_dir().and_then(|dir| self.parents.hold(path, dir)).map_err(write(path)),
        }
    }

    fn make_implied(&mut self, at: At<'_>, path: &[u8]) -> Result<Held, UnpackError> {
        self.count_entry()?;
        let new = self.new_directory();
        let made = at.create_dir(new.mode).and_then(|()| match new.owner {
            Some((uid, gid)) => owner::set(at, uid, gid, self.options.xattrs),
            None => Ok(()),
        });
        let held = made.and_then(|()| at.open_dir()).and_then(|dir| self.parents.hold(path, dir));
        let held = held.map_err(UnpackError::write(path))?;
        // A layer's tree is the same whenever it is unpacked.
        let mtime = (self.options.whiteouts == Whiteouts::Overlay).then(Mtime::default);
        let record = Record { path: path.to_vec(), mtime, default_acl: None, implied: true };
        self.directories.note(&held, record)?;
        Ok(held)
    }

    fn new_directory(&self) -> NewDir {
        let owner = match self.options.owner {
            // Nobody's is root's there.
            Owner::OfArchive if self.options.xattrs == OverlayXattrs::Single => None,
            Owner::OfArchive => Some((0, 0)),
            Owner::Fixed { uid, gid } => Some((uid, gid)),
            Owner::OfProcess => None,
        };
        NewDir { mode: IMPLIED_MODE, owner }
    }
}

/// A name in an open directory.
pub(super) fn at<'a>(parent: &'a Held, name: &'a [u8]) -> Result<At<'a>, UnpackError> {
    parent.dir.at(OsStr::from_bytes(name)).map_err(UnpackError::write(name))
}
