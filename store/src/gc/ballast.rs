//! A file of no use but its size: removed when the disk is full, it gives back the room that removing needs, for
//! even a row that is deleted is written first.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use super::policy::Disk;
use crate::limits::BALLAST_BYTES;

/// Its name in the store.
pub(crate) const BALLAST: &str = "ballast";

/// The ballast of one store.
pub(crate) struct Ballast {
    root: PathBuf,
    path: PathBuf,
}

impl Ballast {
    pub fn of(root: &Path) -> Self {
        Self { root: root.to_owned(), path: root.join(BALLAST) }
    }

    /// Drops it if there is hardly any space; true if it was there.
    pub fn drop_if_full(&self) -> bool {
        let is_full = Disk::of(&self.root).is_ok_and(|disk| disk.free < BALLAST_BYTES / 2);
        is_full && fs::remove_file(&self.path).is_ok()
    }

    /// Puts it by, if there is space for it and more.
    pub fn put_by(&self) {
        if self.path.exists() || !Disk::of(&self.root).is_ok_and(|disk| disk.free > 4 * BALLAST_BYTES) {
            return;
        }
        let made = File::create(&self.path)
            .and_then(|file| Ok(fallocate(&file, FallocateFlags::empty(), 0, BALLAST_BYTES)?));
        if made.is_err() {
            // A file system that cannot promise space.
            let _ = fs::remove_file(&self.path);
        }
    }
}
