//! A stream that may not be longer than a limit.

use std::io::{self, Read};

/// Reads at most so many bytes, and fails where there is one more.
pub(super) struct Bounded<R> {
    inner: R,
    limit: u64,
    left: u64,
}

/// Inside an [`io::Error`]: the stream goes on behind its limit.
#[derive(Debug, thiserror::Error)]
#[error("stream is longer than {limit} bytes")]
pub(super) struct TooLong {
    pub limit: u64,
}

impl<R: Read> Bounded<R> {
    pub(super) fn new(inner: R, limit: u64) -> Self {
        Self { inner, limit, left: limit }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !bytes.is_empty() {
            return match self.inner.read(&mut [0])? {
                0 => Ok(0),
                _ => Err(io::Error::other(TooLong { limit: self.limit })),
            };
        }
        let most = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let count = self.inner.read(&mut bytes[..most])?;
        self.left -= count as u64;
        Ok(count)
    }
}
