//! How a layer's blob is compressed.

use crate::MediaType;

/// The compression of a blob. The same tar and the same value give the same bytes, whatever the threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// The tar as it is.
    None,
    /// A sequence of gzip members (RFC 1952).
    Gzip(GzipLevel),
    /// A sequence of Zstandard frames (RFC 8878).
    Zstd(ZstdLevel),
}

/// How a layer's blob is put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// The layer's tar, compressed.
    Tar(Compression),
    /// A gzipped tar that can be read file by file: see [`super::estargz`].
    Estargz(GzipLevel),
}

impl Packing {
    /// Its name: `tar`, `gzip-6`, `zstd-3`, `estargz-6`.
    pub fn name(self) -> String {
        match self {
            Self::Tar(Compression::None) => "tar".into(),
            Self::Tar(Compression::Gzip(level)) => format!("gzip-{}", level.get()),
            Self::Tar(Compression::Zstd(level)) => format!("zstd-{}", level.get()),
            Self::Estargz(level) => format!("estargz-{}", level.get()),
        }
    }

    /// What such a blob is, in OCI's terms.
    pub fn media_type(self) -> MediaType {
        match self {
            Self::Tar(Compression::None) => MediaType::ImageLayer,
            Self::Tar(Compression::Gzip(_)) | Self::Estargz(_) => MediaType::ImageLayerGzip,
            Self::Tar(Compression::Zstd(_)) => MediaType::ImageLayerZstd,
        }
    }
}

impl Default for Packing {
    fn default() -> Self {
        Self::Tar(Compression::Gzip(GzipLevel::default()))
    }
}

/// 0 (stored) to 9 (smallest); 6 by default, as everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GzipLevel(u8);

/// 1 (fastest) to 22 (smallest); 3 by default, as everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ZstdLevel(u8);

impl GzipLevel {
    /// `None` beyond 9.
    pub fn new(level: u8) -> Option<Self> {
        (level <= 9).then_some(Self(level))
    }

    /// The number.
    pub fn get(self) -> u8 {
        self.0
    }
}

impl Default for GzipLevel {
    fn default() -> Self {
        Self(6)
    }
}

impl ZstdLevel {
    /// `None` for 0 and beyond 22.
    pub fn new(level: u8) -> Option<Self> {
        (1..=22).contains(&level).then_some(Self(level))
    }

    /// The number.
    pub fn get(self) -> u8 {
        self.0
    }
}

impl Default for ZstdLevel {
    fn default() -> Self {
        Self(3)
    }
}
