//! gzip in blocks that are compressed independently of each other and concatenate to one member.
//!
//! A block is raw deflate data (RFC 1951) that ends on a byte boundary by a sync flush; it may refer to the 32 KiB
//! before it, which it gets as a dictionary. So its bytes are a function of those two inputs and of nothing else,
//! and blocks can be made by any number of threads, or be taken from a layer that was packed before. No block is
//! the last one: an empty one follows.
//!
//! Every block gets a fresh compressor and sees its input at once, because the compressor's output differs with
//! the chunks it is fed and after a reset (zlib-rs#459). Its version is pinned for the same reason.

use std::io;

use flate2::{Compress, Crc, FlushCompress, Status};

use super::GzipLevel;

/// Measured on programs and texts: the smallest block whose ratio is that of an unbroken stream.
pub(super) const BLOCK_BYTES: usize = 128 * 1024;

/// How far back deflate can refer.
pub(super) const WINDOW_BYTES: usize = 32 * 1024;

/// Deflate, no flags, no time, no hint on the level, operating system unknown: nothing of the moment or machine.
pub(super) const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// The last block: fixed codes, empty.
const LAST_BLOCK: [u8; 2] = [3, 0];

/// Compresses one block. `before` is all or the end of what precedes it.
pub(super) fn compress_block(level: GzipLevel, before: &[u8], block: &[u8]) -> io::Result<Vec<u8>> {
    let mut compress = Compress::new(flate2::Compression::new(level.get().into()), false);
    if !before.is_empty() {
        let dictionary = &before[before.len().saturating_sub(WINDOW_BYTES)..];
        compress.set_dictionary(dictionary)?;
    }
    // Room for data that does not compress, so that one call takes all of it.
    let mut out = vec![0; block.len() + block.len() / 8 + 1024];
    compress.compress(block, &mut out, FlushCompress::Sync)?;
    if compress.total_in() != block.len() as u64 || compress.total_out() == out.len() as u64 {
        return Err(io::Error::other("deflate made a block larger than it may"));
    }
    out.truncate(compress.total_out() as usize);
    Ok(out)
}

/// A whole gzip member of its own.
pub(super) fn compress_member(level: GzipLevel, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut compress = Compress::new(flate2::Compression::new(level.get().into()), false);
    let mut out = vec![0; HEADER.len() + bytes.len() + bytes.len() / 8 + 1024];
    out[..HEADER.len()].copy_from_slice(&HEADER);
    let status = compress.compress(bytes, &mut out[HEADER.len()..], FlushCompress::Finish)?;
    if status != Status::StreamEnd || compress.total_in() != bytes.len() as u64 {
        return Err(io::Error::other("deflate made a member larger than it may"));
    }
    out.truncate(HEADER.len() + compress.total_out() as usize);
    let mut crc = Crc::new();
    crc.update(bytes);
    out.extend_from_slice(&crc.sum().to_le_bytes());
    out.extend_from_slice(&crc.amount().to_le_bytes());
    Ok(out)
}

/// What follows the blocks: the last block, and the check and size (modulo 2^32) of all uncompressed bytes.
pub(super) fn trailer(crc: &Crc) -> Vec<u8> {
    [&LAST_BLOCK[..], &crc.sum().to_le_bytes(), &crc.amount().to_le_bytes()].concat()
}
