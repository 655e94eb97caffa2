//! What can go wrong in the store: verb, object, path.

use std::io;
use std::path::{Path, PathBuf};

use crate::Digest;

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
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
    /// A tree in the store could not be reached.
    #[error(transparent)]
    RootDir(#[from] crate::rootdir::RootDirError),
    /// The index database refused.
    #[error("the store's index failed: {0}")]
    Index(#[from] rusqlite::Error),
    /// Bytes that are not what their name says.
    #[error("{object} is damaged: {detail}")]
    Corrupt {
        /// Which blob or layer.
        object: String,
        /// What was expected and found.
        detail: String,
    },
    /// A blob that should be there.
    #[error("blob {0} is not in the store")]
    MissingBlob(Digest),
    /// A layer of which neither tree nor blob is there.
    #[error("layer {0} is not in the store")]
    MissingLayer(String),
    /// A blob larger than its reader allows.
    #[error("blob {digest} has {size} bytes, more than the {limit} allowed for its kind")]
    TooLarge {
        /// Which.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A store written by a later forge.
    #[error("the store at {} has format {found}, newer than the {known} this forge knows; use the newer forge, or another --root", path.display())]
    Newer {
        /// The store's root.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format this forge knows.
        known: i64,
    },
    /// A file that is no longer what it was when it was hashed.
    #[error("{} changed while it was read", .0.display())]
    Changed(PathBuf),
    /// A store that may only be read.
    #[error("cannot write {}: the store is read-only", .0.display())]
    ReadOnly(PathBuf),
    /// An index that SQLite cannot make sense of.
    #[error("the store's index {} is damaged", .0.display())]
    DamagedIndex(PathBuf),
    /// A layer could not be packed.
    #[error("cannot pack layer: {0}")]
    Pack(String),
    /// A layer could not be unpacked.
    #[error("cannot unpack layer {object}: {detail}")]
    Unpack {
        /// Which blob.
        object: String,
        /// Why.
        detail: String,
    },
}

impl StoreError {
    /// True where the store may only be read.
    pub fn is_read_only(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() == io::ErrorKind::ReadOnlyFilesystem,
            Self::ReadOnly(_) => true,
            _ => false,
        }
    }

    /// True where the disk (or a quota) is full.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Index(e) => e.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull),
            Self::Pack(detail) | Self::Unpack { detail, .. } => detail.contains("No space left"),
            _ => false,
        }
    }
}

/// Adds verb and path to an I/O error.
pub(crate) trait At<T> {
    fn at(self, verb: &'static str, path: &Path) -> Result<T, StoreError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, verb: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|e| StoreError::Io { verb, path: path.to_owned(), source: e.into() })
    }
}
