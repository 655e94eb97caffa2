//! Zstandard as a sequence of frames of one size, which every decoder takes for one stream (RFC 8878, section 3).
//!
//! The library's own multi-threading has larger frames and a slightly better ratio, but takes tens of megabytes,
//! and its bytes depend on whether it is used. Frames can also be unpacked in parallel: each tells its size.

use std::io;

use super::ZstdLevel;

/// Measured on programs and texts: within 2 % of one endless frame.
pub(super) const BLOCK_BYTES: usize = 1024 * 1024;

/// Compresses one frame, by a fresh compressor.
pub(super) fn compress_block(level: ZstdLevel, block: &[u8]) -> io::Result<Vec<u8>> {
    ::zstd::bulk::compress(block, level.get().into())
}
