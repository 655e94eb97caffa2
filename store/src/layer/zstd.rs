//! Zstandard as a sequence of frames, which every decoder takes for one stream (RFC 8878, section 3).
//!
//! The library's own multi-threading has larger frames and a slightly better ratio, but takes tens of megabytes,
//! and its bytes depend on whether it is used. Frames can also be unpacked in parallel: each tells its size.

use std::io;

use super::ZstdLevel;
use super::cut::Bounds;

/// Measured on programs and texts: within 2 % of one endless frame.
pub(super) const BOUNDS: Bounds = Bounds { min: 512 * 1024, bits: 19, max: 2 * 1024 * 1024 };

/// What made the bytes: part of a block's key.
pub(super) const MAKER: &str = "zstd 0.14";

/// Compresses one frame, by a fresh compressor.
pub(super) fn compress(level: ZstdLevel, block: &[u8]) -> io::Result<Vec<u8>> {
    ::zstd::bulk::compress(block, level.get().into())
}
