//! How a layer's blob is compressed.

/// The compression of a blob. The same tar and the same value give the same bytes, whatever the threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// The tar as it is.
    None,
    /// One gzip member (RFC 1952).
    Gzip(GzipLevel),
    /// A sequence of Zstandard frames (RFC 8878).
    Zstd(ZstdLevel),
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
