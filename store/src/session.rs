//! What is unfinished: one directory per running forge under `ROOT/tmp`, locked while that forge lives.
//!
//! ```text
//! ROOT/tmp/<random>/           flock'ed by its owner; swept by the next forge once the lock is free
//! ROOT/tmp/<random>/<n>/fs     a draft tree
//! ROOT/tmp/<random>/<n>/work   overlayfs' work directory for it
//! ```

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FlockOperation, flock};

use crate::StoreError;
use crate::error::At;

/// The running forge's own directory for what is unfinished; removed when it is dropped.
pub struct Session {
    dir: PathBuf,
    _lock: File,
    next: AtomicU64,
}

impl Session {
    /// Makes and locks a directory under `tmp`, after sweeping those whose owners are gone.
    pub fn start(tmp: &Path) -> Result<Self, StoreError> {
        let _gate = sweep(tmp)?;
        let dir =
            tempfile::Builder::new().prefix("s-").tempdir_in(tmp).at("create a directory in", tmp)?.keep();
        let lock = File::open(&dir).at("open", &dir)?;
        flock(&lock, FlockOperation::LockShared).at("lock", &dir)?;
        Ok(Self { dir, _lock: lock, next: AtomicU64::new(0) })
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// An empty draft tree, root directory `0755`.
    pub fn draft(&self) -> Result<Draft, StoreError> {
        let dir = self.dir.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        for (path, mode) in [(dir.clone(), 0o700), (dir.join("fs"), 0o755), (dir.join("work"), 0o700)] {
            fs::DirBuilder::new().mode(mode).create(&path).at("create", &path)?;
        }
        let fs_dir = dir.join("fs");
        // `mkdir` obeyed the umask; a tree's modes are content and must not.
        fs::set_permissions(&fs_dir, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .at("chmod", &fs_dir)?;
        Ok(Draft { dir })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The next forge sweeps what cannot be removed now.
        let _ = remove_tree(&self.dir);
    }
}

/// The session, made when something first needs it: a cached build writes nothing and makes none.
pub(crate) struct LazySession {
    tmp: PathBuf,
    session: Mutex<Option<Arc<Session>>>,
}

impl LazySession {
    pub(crate) fn new(tmp: PathBuf) -> Self {
        Self { tmp, session: Mutex::new(None) }
    }

    pub(crate) fn with<T>(
        &self,
        work: impl FnOnce(&Session) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let session = {
            let mut slot = self.session.lock().unwrap_or_else(PoisonError::into_inner);
            match &*slot {
                Some(session) => session.clone(),
                None => slot.insert(Arc::new(Session::start(&self.tmp)?)).clone(),
            }
        };
        work(&session)
    }
}

/// A tree being made. Dropped, it is gone; committed, it is a layer.
#[derive(Debug)]
pub struct Draft {
    dir: PathBuf,
}

impl Draft {
    /// The tree: overlayfs' upper directory.
    pub fn tree(&self) -> PathBuf {
        self.dir.join("fs")
    }

    /// Overlayfs' work directory, beside the tree.
    pub fn work(&self) -> PathBuf {
        self.dir.join("work")
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = remove_tree(&self.dir);
    }
}

/// True if no process holds what is at `path`: a session's directory, or a blob on its way.
pub(crate) fn is_abandoned(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok())
}

/// Removes the sessions that no process holds any more.
///
/// Nobody else makes or sweeps sessions while the answer is held: none is swept between its making and its lock.
pub(crate) fn sweep(tmp: &Path) -> Result<File, StoreError> {
    let gate = File::open(tmp).at("open", tmp)?;
    flock(&gate, FlockOperation::LockExclusive).at("lock", tmp)?;
    for entry in fs::read_dir(tmp).at("list", tmp)?.flatten() {
        let path = entry.path();
        let Ok(dir) = File::open(&path) else { continue };
        if flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = remove_tree(&path);
        }
    }
    Ok(gate)
}

/// Removes a tree that forge made, directories without write permission included.
///
/// `std` removes by directory descriptors and follows no link.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes every directory below `path` passable for its owner: overlayfs' `work/work` has mode 0.
fn open_up(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mut pending = vec![path.to_owned()];
    while let Some(dir) = pending.pop() {
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    Ok(())
}
