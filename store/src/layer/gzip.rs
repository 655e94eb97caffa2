//! gzip as a sequence of members, each a block compressed by itself (RFC 1952, section 2.2: their contents
//! concatenate). Every reader of layers takes them: eStargz images have nothing else, `gzip`, `pigz`, Go and Python
//! read them to the end.
//!
//! So a block's bytes are a function of its content and of nothing else. Blocks can be made by any number of
//! threads, or be taken from a layer that was packed before.
//!
//! By libdeflate, because it takes a third less time than zlib-rs for smaller blobs. It sees a whole block at once,
//! and neither its CPU nor what it compressed before changes what it makes. Its version is pinned: another one may
//! make other bytes.

use std::io;

use libdeflater::{CompressionLvl, Compressor};

use super::GzipLevel;
use super::cut::Bounds;

/// Measured on programs and texts: the smallest blocks with the ratio of an unbroken stream.
pub(super) const BOUNDS: Bounds = Bounds { min: 128 * 1024, bits: 17, max: 512 * 1024 };

/// What made the bytes: part of a block's key.
pub(super) const MAKER: &str = "gzip libdeflate 1.26";

/// Deflate, no flags, no time, no hint on the level, operating system unknown: nothing of the moment or machine.
pub(super) const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// One thread's compressor.
pub(super) struct Gzip(Compressor);

impl Gzip {
    pub(super) fn new(level: GzipLevel) -> Self {
        let level = CompressionLvl::new(level.get().into()).expect("libdeflate knows gzip's levels");
        Self(Compressor::new(level))
    }

    /// Makes one member: no time in its header, no name, operating system unknown.
    pub(super) fn compress(&mut self, block: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = vec![0; self.0.gzip_compress_bound(block.len())];
        let size = self.0.gzip_compress(block, &mut out).map_err(io::Error::other)?;
        out.truncate(size);
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_compressed_before_changes_nothing() {
        let texts: Vec<Vec<u8>> = (0..6u32)
            .map(|n| (0..n * 9000).flat_map(|i| (i.wrapping_mul(n + 3) / 5).to_le_bytes()).collect())
            .collect();
        for level in 0..=9 {
            let level = GzipLevel::new(level).unwrap();
            let mut used = Gzip::new(level);
            for text in &texts {
                assert_eq!(used.compress(text).unwrap(), Gzip::new(level).compress(text).unwrap());
            }
        }
    }
}
