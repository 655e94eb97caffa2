//! The way from a root down to where a walk is, with few directories open however deep the tree goes.

use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::error::{Result, os};
use super::{Dir, RootDirError, Stat};

/// How many of the deepest directories are kept open: more than trees are deep, less than a process may open.
pub(crate) const OPEN_LEVELS: usize = 64;

/// A stack of directories. The top one is always open; one that was closed to save descriptors is opened again
/// through its child's `..`, and believed only if it is the same inode as before.
#[derive(Debug)]
pub(crate) struct Descent {
    levels: Vec<Level>,
    open_levels: usize,
}

#[derive(Debug)]
struct Level {
    dir: Option<Dir>,
    dev: u64,
    ino: u64,
}

impl Descent {
    /// Starts in `root`, which stays open.
    pub(crate) fn new(root: Dir) -> Self {
        Self::with_open_levels(root, OPEN_LEVELS)
    }

    /// Starts in `root`, and keeps only so many (at least one) of the directories below it open.
    pub(crate) fn with_open_levels(root: Dir, open_levels: usize) -> Self {
        Self { levels: vec![Level { dir: Some(root), dev: 0, ino: 0 }], open_levels }
    }

    /// The directory that the walk is in.
    pub(crate) fn current(&self) -> &Dir {
        self.levels.last().and_then(|level| level.dir.as_ref()).expect("the top of a descent is open")
    }

    /// Goes into a child of the current directory.
    pub(crate) fn push(&mut self, child: Dir, stat: &Stat) {
        self.levels.push(Level { dir: Some(child), dev: stat.dev, ino: stat.ino });
        let closing = self.levels.len().saturating_sub(self.open_levels + 1);
        if closing > 0 {
            self.levels[closing].dir = None;
        }
    }

    /// Goes back to the parent. `name` is that of the directory left, for the error.
    pub(crate) fn pop(&mut self, name: &Path) -> Result<()> {
        let left = self.levels.pop().and_then(|level| level.dir).expect("the top of a descent is open");
        let parent = self.levels.last_mut().expect("the root of a descent is not left");
        if parent.dir.is_none() {
            parent.dir = Some(reopen(&left, parent, name)?);
        }
        Ok(())
    }
}

fn reopen(child: &Dir, parent: &Level, name: &Path) -> Result<Dir> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(child, "..", flags, Mode::empty()).map_err(os("open parent of", name))?;
    let stat = Stat::of_fd(&fd).map_err(os("stat parent of", name))?;
    match (stat.dev, stat.ino) == (parent.dev, parent.ino) {
        true => Ok(Dir::from_fd(fd)),
        false => Err(RootDirError::Moved { path: name.into() }),
    }
}
