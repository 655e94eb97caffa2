//! What a build saw of a context: one look at each name, shared by every COPY of every stage.
//!
//! It spares asking the kernel again, and it keeps a build of one mind: what was hashed for a key is what is copied
//! later, even if the directory changes in between. A file that was changed since is told by its stat.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use forge_store::rootdir::Stat;

use super::error::FilesError;
use super::view::Child;

/// Answers by path.
#[derive(Default)]
pub struct Seen {
    stats: Memo<Option<Stat>>,
    children: Memo<Arc<Vec<Child>>>,
    links: Memo<OsString>,
}

impl Seen {
    pub fn stat(
        &self,
        path: &Path,
        look: impl FnOnce() -> Result<Option<Stat>, FilesError>,
    ) -> Result<Option<Stat>, FilesError> {
        self.stats.get(path, look)
    }

    pub fn children(
        &self,
        path: &Path,
        look: impl FnOnce() -> Result<Arc<Vec<Child>>, FilesError>,
    ) -> Result<Arc<Vec<Child>>, FilesError> {
        self.children.get(path, look)
    }

    pub fn link(
        &self,
        path: &Path,
        look: impl FnOnce() -> Result<OsString, FilesError>,
    ) -> Result<OsString, FilesError> {
        self.links.get(path, look)
    }
}

struct Memo<T>(Mutex<HashMap<PathBuf, T>>);

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Memo<T> {
    /// The first answer; errors are not kept. Whoever comes second to the same name takes what the first one saw.
    fn get(&self, path: &Path, look: impl FnOnce() -> Result<T, FilesError>) -> Result<T, FilesError> {
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = known().get(path) {
            return Ok(answer.clone());
        }
        let answer = look()?;
        Ok(known().entry(path.to_owned()).or_insert(answer).clone())
    }
}
