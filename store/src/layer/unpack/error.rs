//! Why an archive cannot be unpacked.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::super::read::ReadError;
use super::bounded::TooLong;
use crate::digest::DiffId;
use crate::rootdir::RootDirError;

/// An archive that is broken, hostile, too large, or not what its DiffID says; or a disk that does not take it.
/// What was unpacked until then is left for the caller to remove, and nothing of it may be trusted.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive cannot be read.
    #[error(transparent)]
    Read(ReadError),
    /// The tree cannot be written. The path is the entry's.
    #[error(transparent)]
    Write(#[from] RootDirError),
    /// An entry that no archive of its kind may have.
    #[error("cannot unpack entry `{}`: {refusal}", path.display())]
    Refused {
        /// The entry's name as the archive has it.
        path: PathBuf,
        /// What is wrong with it.
        refusal: Refusal,
    },
    /// More than [`super::UnpackLimits`] allow.
    #[error("archive holds more than {limit} {what}")]
    TooLarge {
        /// Bytes or entries.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The disk is not full yet, and would be.
    #[error("No space left on device: unpacking would leave less than {reserved} bytes free")]
    Reserve {
        /// What is to stay free, in bytes.
        reserved: u64,
    },
    /// The archive is sound, and another than the image says.
    #[error("layer is not the one its image names: its DiffID is {found}, and not {expected}")]
    DiffId {
        /// The image's claim.
        expected: DiffId,
        /// Of the bytes that were unpacked.
        found: DiffId,
    },
}

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its `..` lead out of the tree.
    #[error("its path leads out of the tree")]
    Escapes,
    /// It is the tree's root and no directory.
    #[error("the root of a tree can only be a directory")]
    Root,
    /// A `.wh.` name that hides nothing, hides `.` or `..`, or is reserved (OCI image-spec, layer.md).
    #[error("it is not a valid whiteout")]
    Whiteout,
    /// A character device 0:0, which overlayfs takes for a whiteout.
    #[error("character device 0:0 is overlayfs's own mark")]
    WhiteoutDevice,
    /// An extended attribute that overlayfs or forge would take for its own.
    #[error("extended attribute `{0}` is reserved")]
    Xattr(String),
    /// A hard link to what is not in the tree, or is a directory.
    #[error("its hard link target `{0}` is not a file in the tree")]
    LinkTarget(String),
    /// An owner that this user namespace has no place for.
    #[error(
        "its owner {uid}:{gid} is not mapped in this user namespace; give it more ids in /etc/subuid and /etc/subgid"
    )]
    Owner {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// A time that the file system cannot hold.
    #[error("the file system cannot hold its modification time of {0} seconds")]
    Time(i64),
}

impl UnpackError {
    pub(super) fn refused(path: &[u8], refusal: Refusal) -> Self {
        Self::Refused { path: path_of(path).to_owned(), refusal }
    }

    /// For `map_err`: names the entry.
    pub(super) fn write(path: &[u8]) -> impl FnOnce(RootDirError) -> Self + '_ {
        move |error| Self::Write(error.with_path(path_of(path)))
    }
}

/// A stream over its limit comes as an I/O error through whatever reads it.
impl From<io::Error> for UnpackError {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<TooLong>()) {
            Some(TooLong { limit }) => Self::TooLarge { what: "bytes", limit: *limit },
            None => Self::Read(ReadError::Io(error)),
        }
    }
}

impl From<ReadError> for UnpackError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(error) => error.into(),
            error => Self::Read(error),
        }
    }
}

/// Bytes as a path.
pub(super) fn path_of(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}
