//! A writer in one thread and a reader in another, without a descriptor between them.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// Bytes handed over at a time.
const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks that may wait for the reader.
const CHUNKS_WAITING: usize = 4;

/// Gives `read` what `write` writes, in a thread of its own.
///
/// # Errors
/// The writer's, where both fail: the reader then failed for want of bytes. When the reader leaves early without
/// an error, what the writer could not hand over is no error.
pub fn piped<T, E: From<io::Error> + Send>(
    write: impl FnOnce(&mut dyn Write) -> Result<(), E> + Send,
    read: impl FnOnce(&mut dyn Read) -> Result<T, E>,
) -> Result<T, E> {
    let (sender, receiver) = sync_channel(CHUNKS_WAITING);
    thread::scope(|scope| {
        let writer = move || {
            let mut end = Writer { chunk: Vec::with_capacity(CHUNK_BYTES), sender };
            write(&mut end)?;
            Ok::<_, E>(end.hand_over()?)
        };
        let writer = thread::Builder::new().name("write".into()).spawn_scoped(scope, writer)?;
        let mut end = Reader { receiver, chunk: Vec::new(), at: 0 };
        let result = read(&mut end);
        // A writer that waits for room must not wait for ever.
        let left_early = !end.is_drained();
        drop(end);
        let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (result, written) {
            (Ok(value), Ok(())) => Ok(value),
            (Ok(value), Err(_)) if left_early => Ok(value),
            (Ok(_), Err(error)) => Err(error),
            // The reader's own error made the writer fail.
            (Err(error), _) if left_early => Err(error),
            (Err(_), Err(error)) | (Err(error), Ok(())) => Err(error),
        }
    })
}

struct Writer {
    chunk: Vec<u8>,
    sender: SyncSender<Vec<u8>>,
}

impl Writer {
    fn hand_over(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK_BYTES));
        self.sender.send(chunk).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        if self.chunk.len() == CHUNK_BYTES {
            self.hand_over()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Reader {
    receiver: Receiver<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
}

impl Reader {
    /// Whether all that was written was read. Waits for the writer's next chunk or its end.
    fn is_drained(&mut self) -> bool {
        self.at == self.chunk.len() && self.receiver.recv().is_err()
    }
}

impl Read for Reader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() {
            self.at = 0;
            self.chunk = self.receiver.recv().unwrap_or_default();
        }
        let count = bytes.len().min(self.chunk.len() - self.at);
        bytes[..count].copy_from_slice(&self.chunk[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n >> 5) as u8).collect();
        let read = piped::<_, io::Error>(
            |out| out.write_all(&bytes),
            |end| {
                let mut read = Vec::new();
                end.read_to_end(&mut read).map(|_| read)
            },
        );
        assert_eq!(read.unwrap(), bytes);
    }

    #[test]
    fn each_end_may_leave_early() {
        let endless = |out: &mut dyn Write| io::copy(&mut io::repeat(1), out).map(drop);
        let one = |end: &mut dyn Read| end.read_exact(&mut [0]).map(|()| 1);
        assert_eq!(piped::<_, io::Error>(endless, one).unwrap(), 1);
        let refuse = |_: &mut dyn Read| Err::<(), _>(io::Error::other("reader"));
        assert_eq!(piped(endless, refuse).unwrap_err().to_string(), "reader");
        let failing = |_: &mut dyn Write| Err(io::Error::other("writer"));
        let all = |end: &mut dyn Read| end.read_exact(&mut [0]);
        assert_eq!(piped(failing, all).unwrap_err().to_string(), "writer");
    }
}
