//! From tar to tree: unpacks layers and archives of strangers.
//!
//! - Every path is resolved beneath the root by the kernel, symlinks too, and every operation is on a name in an
//!   open directory that it does not follow ([`crate::rootdir`]): nothing is read, made or changed outside,
//!   whatever the archive holds.
//! - The last entry of a name counts. A directory joins a directory; anything else is replaced, never written
//!   through, so that a hard link's other names keep their content.
//! - A file has exactly the archive's owner, mode, capability and time, whatever the umask; what cannot be had
//!   exactly is an error. [`Unpacked`] counts attributes that are no content.
//! - A layer's whiteouts become overlayfs's marks ([`crate::tree`]) and speak of the layers below only.
//! - Nothing is synced: who commits the tree does that once.

mod blob;
mod bounded;
mod directories;
mod error;
mod metadata;
mod options;
mod parents;
mod path;
mod reserve;
mod stream;
mod tree;
mod unpacker;
mod whiteout;
mod writers;

use std::io::Read;

pub use blob::unpack_blob;
pub use error::{Refusal, UnpackError};
pub use options::{Chmod, Owner, UnpackLimits, UnpackOptions, Whiteouts};

use self::bounded::Bounded;
use self::unpacker::Unpacker;
use super::read::TarReader;
use crate::rootdir::RootDir;

/// What an archive gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Entries, and directories that were made for them.
    pub entries: u64,
    /// Bytes of all files, holes counted, and each time an archive has a file twice.
    pub file_bytes: u64,
    /// Bytes of the uncompressed archive: with [`unpack_blob`] all, otherwise as many as were read.
    pub stream_bytes: u64,
    /// Paths of directories that no entry describes, without leading slash, sorted. They are `0755 root` here; in
    /// a stack, those of the layers below should keep what they have.
    pub implied_dirs: Vec<Vec<u8>>,
    /// Attributes that were left out: ACLs as text, SELinux contexts, other systems' attributes.
    pub attributes_left_out: u64,
}

/// Unpacks an uncompressed tar into `root`: the root of an empty tree for a layer, any directory for an archive.
///
/// Reads to the archive's end, and not what may follow it.
///
/// # Errors
/// What was unpacked until then is left for the caller to remove.
pub fn unpack(archive: impl Read, root: &RootDir, options: &UnpackOptions) -> Result<Unpacked, UnpackError> {
    let archive = TarReader::new(Bounded::new(archive, options.limits.bytes));
    Unpacker::new(root, options).run(archive)
}
