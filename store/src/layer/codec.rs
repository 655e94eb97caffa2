//! What gzip and zstd have in common: blocks compressed each by itself, which concatenate to the blob.

use std::io;

use super::cut::Bounds;
use super::gzip::{self, Gzip};
use super::known::BlockKey;
use super::{Compression, GzipLevel, ZstdLevel, zstd};

/// A compression that compresses.
#[derive(Debug, Clone, Copy)]
pub(super) enum Codec {
    Gzip(GzipLevel),
    Zstd(ZstdLevel),
}

/// One thread's compressor.
pub(super) enum Encoder {
    Gzip(Gzip),
    Zstd(ZstdLevel),
}

impl Codec {
    pub(super) fn new(compression: Compression) -> Option<Self> {
        match compression {
            Compression::None => None,
            Compression::Gzip(level) => Some(Self::Gzip(level)),
            Compression::Zstd(level) => Some(Self::Zstd(level)),
        }
    }

    /// How large blocks are. Part of the format.
    pub(super) fn bounds(self) -> Bounds {
        match self {
            Self::Gzip(_) => gzip::BOUNDS,
            Self::Zstd(_) => zstd::BOUNDS,
        }
    }

    /// Names a block of these bytes, compressed by this codec.
    pub(super) fn key(self, block: &[u8]) -> BlockKey {
        let (maker, level) = match self {
            Self::Gzip(level) => (gzip::MAKER, level.get()),
            Self::Zstd(level) => (zstd::MAKER, level.get()),
        };
        BlockKey::of(maker, level, block)
    }

    pub(super) fn encoder(self) -> Encoder {
        match self {
            Self::Gzip(level) => Encoder::Gzip(Gzip::new(level)),
            Self::Zstd(level) => Encoder::Zstd(level),
        }
    }
}

impl Encoder {
    /// Compresses a block. What it makes is a function of the block alone.
    pub(super) fn compress(&mut self, block: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(gzip) => gzip.compress(block),
            Self::Zstd(level) => zstd::compress(*level, block),
        }
    }
}
