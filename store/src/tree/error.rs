//! What can be wrong with a tree.

use std::path::PathBuf;

use crate::rootdir::RootDirError;

/// Why a tree could not be read. Paths are inside the tree.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The record of an owner says nothing (see [`super::owner`]).
    #[error("read the owner of {}: its record is damaged", path.display())]
    Owner {
        /// Of which file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error(transparent)]
    Access(#[from] RootDirError),
    /// A file's content could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The tree was made by an overlay mount with options that forge never sets.
    #[error("layer tree uses overlay feature `{attribute}` at {}, which forge does not", path.display())]
    Feature {
        /// The extended attribute that says so.
        attribute: String,
        /// Where.
        path: PathBuf,
    },
    /// The record of a device node says nothing that makes sense.
    #[error("device record of {} is not `c|b MAJOR MINOR`", path.display())]
    Node {
        /// The recorded device.
        path: PathBuf,
    },
    /// Nothing is there.
    #[error("{} does not exist", path.display())]
    NotFound {
        /// The path asked for.
        path: PathBuf,
    },
    /// Something that is not a directory is where only a directory makes sense.
    #[error("{} is not a directory", path.display())]
    NotDirectory {
        /// What is not one.
        path: PathBuf,
    },
    /// Only a regular file will do, and this is something else.
    #[error("{} is not a regular file", path.display())]
    NotRegular {
        /// What is not one.
        path: PathBuf,
    },
    /// Symlinks lead to each other, or too far.
    #[error("too many symbolic links in path {}", path.display())]
    TooManyLinks {
        /// The path asked for.
        path: PathBuf,
    },
    /// A file that is read whole has more than it may have.
    #[error("{} is larger than {limit_bytes} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What would have been read.
        limit_bytes: u64,
    },
    /// A file was written to while it was being read.
    #[error("file {} changed while it was being read", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
}
