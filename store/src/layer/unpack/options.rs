//! How to unpack.

use std::fmt;
use std::sync::Arc;
use std::thread::available_parallelism;

use crate::limits::{ARCHIVE_ENTRIES_MAX, UNPACKED_BYTES_MAX};
use crate::rootdir::FileKind;
use crate::tree::OverlayXattrs;

/// How to unpack an archive.
#[derive(Debug, Clone)]
pub struct UnpackOptions {
    /// What `.wh.` names mean.
    pub whiteouts: Whiteouts,
    /// Of the tree that is written to.
    pub xattrs: OverlayXattrs,
    /// Whose the files become.
    pub owner: Owner,
    /// Changes the permission bits of files, directories and nodes: `ADD --chmod`.
    pub chmod: Option<Chmod>,
    /// What the archive may cost.
    pub limits: UnpackLimits,
    /// Threads that write small files beside the one that reads the archive; with none, that one writes. The tree
    /// does not depend on it.
    pub writers: usize,
}

/// What names that begin with `.wh.` mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whiteouts {
    /// A layer's: they become overlayfs's marks, and the archive is a tree of its own.
    Overlay,
    /// An archive's that ADD unpacks: they are names, and the archive goes into a directory that exists.
    Literal,
}

/// Whose unpacked files become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Owner and group as the archive says. In a user namespace they must be mapped there.
    OfArchive,
    /// These, for all that is made: `ADD --chown`.
    Fixed {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// Of the process, for want of any other id: a user namespace with a single one.
    OfProcess,
}

/// What an archive may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackLimits {
    /// Bytes of the uncompressed archive, and bytes of all its files with their holes.
    pub bytes: u64,
    /// Files and directories, implied ones counted.
    pub entries: u64,
}

/// A change of permission bits.
#[derive(Clone)]
pub struct Chmod(Arc<dyn Fn(FileKind, u32) -> u32 + Send + Sync>);

impl UnpackOptions {
    /// For a layer, into an empty tree with this kind of marks.
    pub fn layer(xattrs: OverlayXattrs) -> Self {
        Self {
            whiteouts: Whiteouts::Overlay,
            xattrs,
            owner: Owner::OfArchive,
            chmod: None,
            limits: UnpackLimits::default(),
            writers: default_writers(),
        }
    }

    /// For an archive that ADD unpacks, into a directory of a tree with this kind of marks.
    pub fn archive(xattrs: OverlayXattrs) -> Self {
        Self { whiteouts: Whiteouts::Literal, ..Self::layer(xattrs) }
    }
}

/// One makes small files half as fast again even where inflating and hashing take the other cores; more than two
/// wait for the thread that makes the names.
fn default_writers() -> usize {
    available_parallelism().map_or(0, |cores| (cores.get() - 1).min(2))
}

impl Default for UnpackLimits {
    fn default() -> Self {
        Self { bytes: UNPACKED_BYTES_MAX, entries: ARCHIVE_ENTRIES_MAX }
    }
}

impl Chmod {
    /// From a function of a file's type and the permission bits that the archive gives it (`0o7777`).
    pub fn new(change: impl Fn(FileKind, u32) -> u32 + Send + Sync + 'static) -> Self {
        Self(Arc::new(change))
    }

    pub(super) fn apply(&self, kind: FileKind, mode: u32) -> u32 {
        (self.0)(kind, mode) & 0o7777
    }
}

impl fmt::Debug for Chmod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chmod")
    }
}
