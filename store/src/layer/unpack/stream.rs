//! One stream of bytes for two readers: a thread fills buffers, another hashes them all, and the caller reads them
//! as far as it likes.
//!
//! ```text
//! thread:  source ── fill ─┬─ chunk ── ChunkReader     (the caller)
//! thread:                  └─ chunk ── SHA-256
//! ```
//!
//! A chunk is shared and not copied; its buffer goes back to be filled again when both are done with it.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use sha2::{Digest as _, Sha256};

use crate::digest::{DiffId, Digest};

/// Bytes of a chunk: enough that handing it on costs nothing beside inflating it.
const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks that may wait for a reader. With two readers this bounds memory at about 5 MiB.
const CHUNKS_WAITING: usize = 8;

/// What a stream turned out to be, once all of it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stream {
    pub diff_id: DiffId,
    pub bytes: u64,
}

/// Hashes all of `source` while `read` reads as much of it as it wants.
///
/// When `read` fails its error is the answer and the rest is not read; otherwise the first error of `source`, even
/// behind what `read` wanted.
pub(super) fn hash_beside<T, E: From<io::Error>>(
    source: impl Read + Send,
    read: impl FnOnce(ChunkReader) -> Result<T, E>,
) -> Result<(T, Stream), E> {
    let stop = AtomicBool::new(false);
    let (to_reader, from_filler) = sync_channel(CHUNKS_WAITING);
    let (to_hasher, to_hash) = sync_channel(CHUNKS_WAITING);
    thread::scope(|scope| {
        // Without a hasher there is no filler to wait for; without a filler the hasher has nothing to wait for.
        let hasher = thread::Builder::new().name("hash".into()).spawn_scoped(scope, move || hash(to_hash))?;
        let fill = || fill(source, to_reader, to_hasher, &stop);
        let filler = thread::Builder::new().name("inflate".into()).spawn_scoped(scope, fill)?;
        // Dropped by `read` at the end, so that the filler does not wait for it.
        let result = read(ChunkReader { chunks: from_filler, chunk: None, at: 0 });
        if result.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        let filled = filler.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let stream = hasher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let value = result?;
        filled?;
        Ok((value, stream))
    })
}

/// The caller's end of the stream.
pub(super) struct ChunkReader {
    chunks: Receiver<io::Result<Arc<Chunk>>>,
    chunk: Option<Arc<Chunk>>,
    at: usize,
}

impl Read for ChunkReader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.chunk.as_ref().is_none_or(|chunk| chunk.bytes.len() == self.at) {
            self.at = 0;
            self.chunk = self.chunks.recv().ok().transpose()?;
        }
        let Some(chunk) = &self.chunk else { return Ok(0) };
        let rest = &chunk.bytes[self.at..];
        let count = rest.len().min(bytes.len());
        bytes[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

/// Some of the stream; never empty.
struct Chunk {
    bytes: Vec<u8>,
    home: Sender<Vec<u8>>,
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // Nobody fills it any more at the stream's end: then it is freed.
        let _ = self.home.send(std::mem::take(&mut self.bytes));
    }
}

/// Reads the source to its end. An error goes to the reader, or is the answer when the reader has left.
fn fill(
    mut source: impl Read,
    reader: SyncSender<io::Result<Arc<Chunk>>>,
    hasher: SyncSender<Arc<Chunk>>,
    stop: &AtomicBool,
) -> io::Result<()> {
    let (home, free) = channel();
    let mut reader = Some(reader);
    while !stop.load(Ordering::Relaxed) {
        let mut bytes: Vec<u8> = free.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK_BYTES));
        bytes.clear();
        if let Err(error) = source.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut bytes) {
            let Some(reader) = reader else { return Err(error) };
            return reader.send(Err(error)).or_else(|unsent| unsent.0.map(drop));
        }
        if bytes.is_empty() {
            break;
        }
        let chunk = Arc::new(Chunk { bytes, home: home.clone() });
        // The hasher leaves only by a panic, which its join reports.
        let _ = hasher.send(chunk.clone());
        reader = reader.filter(|reader| reader.send(Ok(chunk)).is_ok());
    }
    Ok(())
}

fn hash(chunks: Receiver<Arc<Chunk>>) -> Stream {
    let mut hash = Sha256::new();
    let mut bytes = 0;
    for chunk in chunks {
        hash.update(&chunk.bytes);
        bytes += chunk.bytes.len() as u64;
    }
    Stream { diff_id: DiffId::new(Digest::from_sha256(hash)), bytes }
}
