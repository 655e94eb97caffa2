//! Archives that ADD unpacks: tar, compressed in any way that Docker knows, recognised by content alone.

use std::io::{Read, Seek};

use super::unpack::UnpackError;
use super::{Accept, Decompressed, TarReader, UnpackOptions, Unpacked, unpack};
use crate::RootDir;

/// Whether a file is an archive: its first bytes, decompressed, are a tar header.
pub fn is_archive(file: impl Read + Send) -> bool {
    let Ok(stream) = Decompressed::new(file, Accept::Archive) else { return false };
    matches!(TarReader::new(stream).next_entry(), Ok(Some(_)))
}

/// Unpacks an archive from its beginning.
///
/// # Errors
/// As [`unpack()`].
pub fn unpack_archive(
    mut file: impl Read + Seek + Send,
    root: &RootDir,
    options: &UnpackOptions,
) -> Result<Unpacked, UnpackError> {
    file.rewind()?;
    unpack(Decompressed::new(file, Accept::Archive)?, root, options)
}
