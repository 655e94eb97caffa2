//! What gzip and zstd have in common: blocks compressed each by itself, between a beginning and an end.

use std::io;

use flate2::Crc;

use super::{Compression, GzipLevel, ZstdLevel, estargz, gzip, zstd};

/// A compression that compresses.
#[derive(Debug, Clone, Copy)]
pub(super) enum Codec {
    Gzip(GzipLevel),
    Zstd(ZstdLevel),
    /// Each block is a gzip member of its own, cut where the caller likes.
    Members(GzipLevel),
}

/// A block, compressed.
pub(super) struct Compressed {
    pub(super) bytes: Vec<u8>,
    /// Over the uncompressed bytes; empty unless the codec ends with it.
    pub(super) crc: Crc,
}

impl Codec {
    pub(super) fn new(compression: Compression) -> Option<Self> {
        match compression {
            Compression::None => None,
            Compression::Gzip(level) => Some(Self::Gzip(level)),
            Compression::Zstd(level) => Some(Self::Zstd(level)),
        }
    }

    /// How many uncompressed bytes blocks have, but for the last one. Part of the format: see [`super::gzip`].
    pub(super) fn block_bytes(self) -> usize {
        match self {
            Self::Gzip(_) => gzip::BLOCK_BYTES,
            Self::Zstd(_) => zstd::BLOCK_BYTES,
            Self::Members(_) => estargz::CHUNK_BYTES,
        }
    }

    /// What the blob begins with.
    pub(super) fn header(self) -> &'static [u8] {
        match self {
            Self::Gzip(_) => &gzip::HEADER,
            Self::Zstd(_) | Self::Members(_) => &[],
        }
    }

    /// Compresses a block. `before` is the block before it, empty for the first.
    pub(super) fn compress(self, before: &[u8], block: &[u8]) -> io::Result<Compressed> {
        let mut crc = Crc::new();
        let bytes = match self {
            Self::Gzip(level) => {
                crc.update(block);
                gzip::compress_block(level, before, block)?
            }
            Self::Zstd(level) => zstd::compress_block(level, block)?,
            Self::Members(level) => gzip::compress_member(level, block)?,
        };
        Ok(Compressed { bytes, crc })
    }

    /// What the blob ends with. `crc` is that of all blocks.
    pub(super) fn trailer(self, crc: &Crc) -> Vec<u8> {
        match self {
            Self::Gzip(_) => gzip::trailer(crc),
            Self::Zstd(_) | Self::Members(_) => Vec::new(),
        }
    }
}
