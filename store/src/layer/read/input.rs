//! A buffered source that counts, for a reader that wants blocks, runs of bytes, and to know where it is.

use std::io::{self, Read};

use super::header::{BLOCK, Block};

/// Large enough that a read costs nothing beside the bytes.
const BUFFER_BYTES: usize = 256 * 1024;

pub(super) struct Input<R> {
    inner: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    offset: u64,
}

/// The source ended where more was needed.
pub(super) enum Shortage {
    End,
    Io(io::Error),
}

impl<R: Read> Input<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, buffer: vec![0; BUFFER_BYTES].into(), start: 0, end: 0, offset: 0 }
    }

    /// How many bytes were taken so far.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn into_inner(self) -> R {
        self.inner
    }

    /// The next block; `None` where the source ends before its first byte.
    pub(super) fn block(&mut self) -> Result<Option<Block>, Shortage> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let bytes = match self.take((BLOCK - filled) as u64) {
                Ok(bytes) => bytes,
                Err(Shortage::End) if filled == 0 => return Ok(None),
                Err(shortage) => return Err(shortage),
            };
            block[filled..filled + bytes.len()].copy_from_slice(bytes);
            filled += bytes.len();
        }
        Ok(Some(block))
    }

    /// At least one and at most `most` of the next bytes, from the buffer.
    pub(super) fn take(&mut self, most: u64) -> Result<&[u8], Shortage> {
        if self.start == self.end {
            self.refill().map_err(Shortage::Io)?;
        }
        let held = self.end - self.start;
        if held == 0 {
            return Err(Shortage::End);
        }
        let taken = usize::try_from(most).map_or(held, |most| most.min(held));
        let bytes = &self.buffer[self.start..self.start + taken];
        self.start += taken;
        self.offset += taken as u64;
        Ok(bytes)
    }

    /// Passes over `count` bytes.
    pub(super) fn skip(&mut self, mut count: u64) -> Result<(), Shortage> {
        while count > 0 {
            count -= self.take(count)?.len() as u64;
        }
        Ok(())
    }

    fn refill(&mut self) -> io::Result<()> {
        (self.start, self.end) = (0, 0);
        loop {
            match self.inner.read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => {
                    self.end = result?;
                    return Ok(());
                }
            }
        }
    }
}
