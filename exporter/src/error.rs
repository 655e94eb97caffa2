//! What can go wrong while writing an image.

use std::io;
use std::path::{Path, PathBuf};

use forge_store::{Digest, StoreError};

/// A failure of an export.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system's.
    #[error("cannot {verb} {}: {source}", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// A blob of the image is not in the store.
    #[error("blob {0} of the image is not in the store")]
    MissingBlob(Digest),
    /// The target was not solved.
    #[error("the build has no result")]
    NoResult,
    /// What was asked for and what was built do not go together.
    #[error("{0}")]
    Unsuitable(String),
    /// The destination cannot take this.
    #[error("{0}")]
    Destination(String),
}

impl ExportError {
    pub(crate) fn io(verb: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Io { verb, path: path.as_ref().to_owned(), source }
    }

    /// True where the disk (or a quota) is full.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Store(error) => error.is_disk_full(),
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            // What wrote there kept the kernel's words only.
            Self::Destination(detail) => {
                detail.contains("No space left") || detail.contains("quota exceeded")
            }
            _ => false,
        }
    }
}
