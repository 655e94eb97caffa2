//! Locks by name, between threads and between forge processes: `ROOT/locks/<name>`, held by `flock`.
//!
//! The kernel frees them when their holder dies. A lock's file is removed with the lock, so none pile up.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::StoreError;
use crate::error::At;

/// The lock directory of a store.
pub struct Locks {
    dir: PathBuf,
}

impl Locks {
    pub(crate) fn new(root: &Path) -> Self {
        Self { dir: root.join("locks") }
    }

    /// Waits for the lock `name` (a single file name) and takes it.
    pub fn lock(&self, name: &str) -> Result<Lock, StoreError> {
        self.take(name, FlockOperation::LockExclusive).map(|lock| lock.expect("waiting never gives up"))
    }

    /// Takes the lock `name` if it is free.
    pub fn try_lock(&self, name: &str) -> Result<Option<Lock>, StoreError> {
        self.take(name, FlockOperation::NonBlockingLockExclusive)
    }

    /// Shares the lock `name` with others who do the same, unless somebody holds it for itself.
    pub fn try_lock_shared(&self, name: &str) -> Result<Option<Lock>, StoreError> {
        self.take(name, FlockOperation::NonBlockingLockShared)
    }

    fn take(&self, name: &str, how: FlockOperation) -> Result<Option<Lock>, StoreError> {
        let path = self.dir.join(name);
        loop {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)
                .at("open the lock", &path)?;
            match flock(&file, how) {
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(rustix::io::Errno::INTR) => continue,
                other => other.at("lock", &path)?,
            }
            // The holder before us removed the file while we waited: what we hold has no name any more.
            if is_at(&file, &path).at("stat", &path)? {
                return Ok(Some(Lock { path, file }));
            }
        }
    }
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// A held lock.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Others may share it: the last one removes the name.
        if flock(&self.file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // Before the descriptor closes: whoever waits sees that the name is gone and tries again.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_lock_keeps_out_who_wants_it_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("locks")).unwrap();
        let locks = Locks::new(dir.path());
        let share = || locks.try_lock_shared("x").unwrap();
        let (one, two) = (share().unwrap(), share().unwrap());
        assert!(locks.try_lock("x").unwrap().is_none());
        drop(one);
        assert!(locks.try_lock("x").unwrap().is_none(), "the other one still shares it");
        drop(two);
        let alone = locks.try_lock("x").unwrap().expect("it is free");
        assert!(share().is_none());
        drop(alone);
        assert_eq!(fs::read_dir(dir.path().join("locks")).unwrap().count(), 0);
    }
}
