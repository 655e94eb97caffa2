//! The directories that entries go into, held open: an archive's neighbours are mostly the tree's.

use rustix::io::Errno;

use super::error::path_of;
use crate::rootdir::{Dir, RootDir, RootDirError};

/// How many directories are held open at once: more than trees are deep, and few beside the 1024 descriptors
/// that a process may usually have, with several layers under way.
const HELD: usize = 32;

/// An open directory of the tree.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub dir: Dir,
    /// Device and inode number.
    pub inode: (u64, u64),
}

/// Open directories by path, the last used ones at the end.
pub(super) struct Parents<'a> {
    root: &'a RootDir,
    recent: Vec<(Vec<u8>, Held)>,
}

impl<'a> Parents<'a> {
    pub(super) fn new(root: &'a RootDir) -> Self {
        Self { root, recent: Vec::with_capacity(HELD) }
    }

    /// The directory at `path`, symlinks followed in the root.
    pub(super) fn open(&mut self, path: &[u8]) -> Result<Held, RootDirError> {
        if let Some(at) = self.recent.iter().rposition(|(held, _)| held == path) {
            self.recent[at..].rotate_left(1);
            return Ok(self.recent[self.recent.len() - 1].1.clone());
        }
        let dir = match path {
            b"" => self.root.dir().clone(),
            path => self.root.open_dir(path_of(path))?,
        };
        self.hold(path, dir)
    }

    /// Remembers an open directory.
    pub(super) fn hold(&mut self, path: &[u8], dir: Dir) -> Result<Held, RootDirError> {
        let stat = dir.stat()?;
        let held = Held { dir, inode: (stat.dev, stat.ino) };
        if self.recent.len() == HELD {
            self.recent.remove(0);
        }
        self.recent.push((path.to_vec(), held.clone()));
        Ok(held)
    }

    /// Forgets them all: a directory or a symlink went, so that paths may lead elsewhere now.
    pub(super) fn forget(&mut self) {
        self.recent.clear();
    }
}

/// Whether a directory may just have to be made: a part of its path is missing, or is something else.
pub(super) fn is_missing(error: &RootDirError) -> bool {
    matches!(error.errno(), Some(Errno::NOENT | Errno::NOTDIR))
}
