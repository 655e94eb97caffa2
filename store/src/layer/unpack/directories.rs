//! What directories get when everything is in them: their times, and the ACL that new files would inherit.
//!
//! They are remembered by inode, with the path they had. A path that leads to another inode at the end is of a
//! directory that was replaced, and then nothing is done: no name is followed to somewhere else.

use std::collections::HashMap;

use super::error::{UnpackError, path_of};
use super::metadata::{DEFAULT_ACL, set_time};
use super::parents::Held;
use crate::limits::DIRECTORY_PATHS_BYTES_MAX;
use crate::rootdir::{Mtime, RootDir};

/// The directories that were made or met.
#[derive(Default)]
pub(super) struct Directories {
    records: HashMap<(u64, u64), Record>,
    path_bytes: usize,
}

/// What is left to do for one.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub path: Vec<u8>,
    pub mtime: Option<Mtime>,
    pub default_acl: Option<Vec<u8>>,
    /// No entry describes it: it was made because something is in it.
    pub implied: bool,
}

impl Directories {
    /// Remembers a directory. A later record of the same inode counts: inode numbers are used again.
    pub(super) fn note(&mut self, held: &Held, record: Record) -> Result<(), UnpackError> {
        self.path_bytes += record.path.len() + record.default_acl.as_ref().map_or(0, Vec::len);
        if self.path_bytes > DIRECTORY_PATHS_BYTES_MAX {
            let limit = DIRECTORY_PATHS_BYTES_MAX as u64;
            return Err(UnpackError::TooLarge { what: "bytes of directories' paths", limit });
        }
        self.records.insert(held.inode, record);
        Ok(())
    }

    /// Does what is left, and gives the paths of those that no entry described, sorted.
    pub(super) fn finish(self, root: &RootDir) -> Result<Vec<Vec<u8>>, UnpackError> {
        let mut records: Vec<_> = self.records.into_iter().collect();
        records.sort_unstable_by(|(_, a), (_, b)| a.path.cmp(&b.path));
        let mut implied = Vec::new();
        for (inode, record) in records {
            if finish_one(root, inode, &record)? && record.implied {
                implied.push(record.path);
            }
        }
        Ok(implied)
    }
}

/// `false` where the directory is not there any more.
fn finish_one(root: &RootDir, inode: (u64, u64), record: &Record) -> Result<bool, UnpackError> {
    let Ok(dir) = root.open_dir(path_of(&record.path)) else { return Ok(false) };
    let stat = dir.stat().map_err(UnpackError::write(&record.path))?;
    if (stat.dev, stat.ino) != inode {
        return Ok(false);
    }
    if let Some(acl) = &record.default_acl {
        dir.itself().set_xattr(DEFAULT_ACL, acl).map_err(UnpackError::write(&record.path))?;
    }
    if let Some(mtime) = record.mtime {
        set_time(dir.itself(), mtime, &record.path)?;
    }
    Ok(true)
}
