//! A layer's blob, unpacked and believed only when its bytes are those that the image names.

use std::io::Read;

use super::super::decompress::{Accept, Decompressed};
use super::bounded::Bounded;
use super::stream::hash_beside;
use super::{UnpackError, UnpackOptions, Unpacked, unpack};
use crate::digest::DiffId;
use crate::rootdir::RootDir;

/// Unpacks a layer blob (gzip, zstd or plain tar, by its first bytes) into an empty tree, and compares the DiffID
/// of its whole uncompressed stream, also of what lies behind the archive's end.
///
/// Inflating, hashing and writing run beside each other.
///
/// # Errors
/// After any error, [`UnpackError::DiffId`] too, what is in the tree must be thrown away: an image may claim the
/// DiffID of another's layer for its own bytes, and would otherwise become part of the other.
pub fn unpack_blob(
    blob: impl Read + Send,
    expected: &DiffId,
    root: &RootDir,
    options: &UnpackOptions,
) -> Result<Unpacked, UnpackError> {
    let tar = Bounded::new(Decompressed::new(blob, Accept::Layer)?, options.limits.bytes);
    let (mut unpacked, stream) = hash_beside(tar, |tar| unpack(tar, root, options))?;
    unpacked.stream_bytes = stream.bytes;
    match stream.diff_id == *expected {
        true => Ok(unpacked),
        false => Err(UnpackError::DiffId { expected: *expected, found: stream.diff_id }),
    }
}
