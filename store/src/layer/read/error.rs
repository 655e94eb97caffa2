//! Why an archive cannot be read.

use std::io;

/// An archive that is cut short, malformed, over a limit, or whose bytes cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The bytes cannot be had: the disk, the network, or the decompressor refused.
    #[error("cannot read archive: {0}")]
    Io(#[from] io::Error),
    /// The bytes are not a tar archive that every reader would take in the same way.
    #[error("cannot read archive entry at byte {offset}: {fault}")]
    Entry {
        /// Where the entry's last header begins in the uncompressed archive.
        offset: u64,
        /// What is wrong with it.
        fault: Fault,
    },
}

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The archive ends inside it.
    #[error("the archive ends in the middle of {0}")]
    Truncated(&'static str),
    /// The header's sum does not match its bytes: not a tar header.
    #[error("its header checksum is wrong")]
    Checksum,
    /// A block of zeros that is not followed by a second one.
    #[error("a lone zero block stands before it")]
    LoneZeroBlock,
    /// A field that is not a number, or one that does not fit.
    #[error("its {0} is not a valid number")]
    Number(&'static str),
    /// An extended header that does not follow POSIX pax(1).
    #[error("its extended header is malformed: {0}")]
    Pax(&'static str),
    /// A sparse map that is malformed or does not match the file.
    #[error("its sparse map is malformed: {0}")]
    Sparse(&'static str),
    /// Headers that contradict each other, so that readers differ in what the archive holds.
    #[error("its headers are ambiguous: {0}")]
    Ambiguous(&'static str),
    /// A type that no layer has: multi-volume, sockets, vendors' own.
    #[error("its type {:?} is not supported", char::from(*.0))]
    Type(u8),
    /// A symbolic or hard link without target.
    #[error("it is a link without target")]
    NoTarget,
    /// More than a limit of [`crate::limits`].
    #[error("its {what} is longer than {limit}")]
    TooLong {
        /// Of which part.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}
