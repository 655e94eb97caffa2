//! What can go wrong with files that are copied.

use std::io;
use std::path::{Path, PathBuf};

use forge_store::StoreError;
use forge_store::rootdir::RootDirError;
use forge_store::tree::TreeError;

/// A failure while selecting, hashing or copying files.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A source that must be there is not.
    #[error("{:?}: not found", format!("/{}", path.display()))]
    NotFound {
        /// The path, relative to the source's root.
        path: PathBuf,
        /// It is there, but the ignore file hides it.
        ignored: bool,
    },
    /// The operating system refused.
    #[error("cannot {verb} {}: {source}", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// A path inside a tree was refused.
    #[error(transparent)]
    RootDir(#[from] RootDirError),
    /// A layer's tree could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Symlinks that lead nowhere in the end.
    #[error("too many levels of symbolic links: /{}", .0.display())]
    Loop(PathBuf),
    /// A pattern that is not one.
    #[error("{pattern:?}: syntax error in pattern")]
    Pattern {
        /// The pattern.
        pattern: String,
    },
    /// A file where there is a directory.
    #[error("cannot replace to directory {} with file", .0.display())]
    FileOverDirectory(PathBuf),
    /// A directory where there is a file.
    #[error("cannot copy to non-directory: {}", .0.display())]
    DirectoryOverFile(PathBuf),
    /// A file that is no file, directory or link, in a context.
    #[error("cannot copy {}: {kind} cannot be part of a build context", path.display())]
    Special {
        /// Which.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// A step made something that would mean another thing in a layer.
    #[error("keep {what} at /{} in a layer: a layer uses it as a mark of its own", path.display())]
    Unkept {
        /// Where.
        path: PathBuf,
        /// What.
        what: String,
    },
    /// A file that changed since it was looked at for the cache, or while it was read.
    #[error("{} changed during the build", .0.display())]
    Changed(PathBuf),
    /// `--chown` with a name that the image does not know.
    #[error("{0}")]
    Owner(String),
    /// `--chmod` that is none.
    #[error("{0}")]
    Mode(String),
    /// An archive that cannot be unpacked.
    #[error("cannot unpack {}: {detail}", path.display())]
    Archive {
        /// Which.
        path: PathBuf,
        /// Why.
        detail: String,
    },
}

/// Adds verb and path to an I/O error.
pub(crate) trait At<T> {
    fn at(self, verb: &'static str, path: &Path) -> Result<T, FilesError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, verb: &'static str, path: &Path) -> Result<T, FilesError> {
        self.map_err(|e| FilesError::Io { verb, path: path.to_owned(), source: e.into() })
    }
}
