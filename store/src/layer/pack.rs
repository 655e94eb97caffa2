//! From tar to blob in one pass: DiffID, compression and digest, each beside the reading.
//!
//! ```text
//! caller:  write ─ block ─┬──────────────────── … ── in order ── sha256 (digest) ── out
//! thread:                 ├─ sha256 (DiffID)
//! threads:                └─ compress, compress, …
//! ```
//!
//! Where blocks end is chosen by the tar's content ([`super::cut`]), so the blob's bytes depend neither on the number
//! of threads nor on how the tar was cut into writes, and a block that was compressed before can be taken as it was
//! ([`super::known`]). Memory is bounded by the blocks under way, however large the layer.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::blocks::{Block, Blocks, Compressed, Known};
use super::codec::Codec;
use super::cut::{Bounds, Cutter};
use super::known::{KnownBlocks, PackedBlock};
use super::{Compression, WriteError, WriteOptions, write_tree};
use crate::Threads;
use crate::digest::{DiffId, Digest, Hashing};
use crate::rootdir::Dir;
use crate::tree::OverlayXattrs;

/// What is known of a layer once it is packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// Of the uncompressed tar.
    pub diff_id: DiffId,
    /// Bytes of the uncompressed tar.
    pub uncompressed_size: u64,
    /// Of the blob.
    pub blob_digest: Digest,
    /// Bytes of the blob.
    pub blob_size: u64,
    /// Its blocks, to be known the next time; none if nobody remembers them.
    pub blocks: Vec<PackedBlock>,
}

/// Without compression blocks only carry bytes to the hashing thread.
const UNCOMPRESSED_BLOCK_BYTES: usize = 256 * 1024;

/// How to pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackOptions {
    /// Of the blob.
    pub compression: Compression,
    /// How many compress; they do not change the bytes. Each takes about a megabyte with gzip, and five with
    /// zstd at its default level.
    pub threads: Threads,
    /// What the tar says.
    pub write: WriteOptions,
}

/// Packs a layer tree. Gives back the output, not flushed to disk, and what it holds.
pub fn pack_tree<W: Write>(
    tree: &Dir,
    xattrs: OverlayXattrs,
    options: PackOptions,
    out: W,
) -> Result<(W, Packed), WriteError> {
    let packer = Packer::new(out, options.compression, options.threads, None).map_err(WriteError::Output)?;
    write_tree(tree, xattrs, options.write, packer)?.finish().map_err(WriteError::Output)
}

/// Takes a tar by its [`Write`] and writes the blob to `out`. Dropped before [`Packer::finish`], it leaves an
/// incomplete blob there.
pub struct Packer<W> {
    out: Hashing<W>,
    compressor: Option<Compressor>,
    hasher: Hasher,
    block: Vec<u8>,
    blocks: u64,
}

/// The compressing threads, and what came back from them.
struct Compressor {
    cutter: Cutter,
    bounds: Bounds,
    blocks: Blocks,
    packed: Vec<PackedBlock>,
}

impl<W: Write> Packer<W> {
    /// Starts the threads. `known` may spare the compressing of blocks, and does not change the bytes.
    pub fn new(
        out: W,
        compression: Compression,
        threads: Threads,
        known: Option<Arc<dyn KnownBlocks>>,
    ) -> io::Result<Self> {
        let codec = Codec::new(compression);
        let compressor = codec.map(|codec| Compressor::start(codec, threads, &known)).transpose()?;
        let out = Hashing::new(out);
        Ok(Self { out, compressor, hasher: Hasher::start()?, block: Vec::new(), blocks: 0 })
    }

    /// Writes what is under way and the blob's end. Gives back the output and what it holds.
    pub fn finish(mut self) -> io::Result<(W, Packed)> {
        if !self.block.is_empty() || self.blocks == 0 {
            self.push_block()?;
        }
        let blocks = match self.compressor.take() {
            Some(compressor) => compressor.finish(&mut self.out)?,
            None => Vec::new(),
        };
        let (diff_digest, uncompressed_size) = self.hasher.finish()?;
        let (out, blob_digest, blob_size) = self.out.finish();
        let diff_id = DiffId::new(diff_digest);
        Ok((out, Packed { diff_id, uncompressed_size, blob_digest, blob_size, blocks }))
    }

    /// Sends the block on its ways.
    fn push_block(&mut self) -> io::Result<()> {
        let block: Block = Arc::new(std::mem::take(&mut self.block));
        self.blocks += 1;
        self.hasher.push(&block)?;
        match &mut self.compressor {
            Some(compressor) => compressor.push(&block, &mut self.out),
            None => self.out.write_all(&block),
        }
    }

    /// How many of the next bytes belong to the block, and whether it ends behind them.
    fn cut(&mut self, bytes: &[u8]) -> (usize, bool) {
        if let Some(compressor) = &mut self.compressor {
            return compressor.cutter.take(bytes);
        }
        let taken = bytes.len().min(UNCOMPRESSED_BLOCK_BYTES - self.block.len());
        (taken, self.block.len() + taken == UNCOMPRESSED_BLOCK_BYTES)
    }

    fn largest_block(&self) -> usize {
        self.compressor.as_ref().map_or(UNCOMPRESSED_BLOCK_BYTES, |compressor| compressor.bounds.max)
    }
}

impl<W: Write> Write for Packer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.block.capacity() == 0 {
            self.block.reserve_exact(self.largest_block());
        }
        let (taken, ends) = self.cut(bytes);
        self.block.extend_from_slice(&bytes[..taken]);
        if ends {
            self.push_block()?;
        }
        Ok(taken)
    }

    /// Does nothing: where blocks end is no matter of flushes, or the bytes would depend on them.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Compressor {
    fn start(codec: Codec, threads: Threads, known: &Known) -> io::Result<Self> {
        let bounds = codec.bounds();
        let blocks = Blocks::new(codec, threads, known)?;
        Ok(Self { cutter: Cutter::new(bounds), bounds, blocks, packed: Vec::new() })
    }

    fn push(&mut self, block: &Block, out: &mut Hashing<impl Write>) -> io::Result<()> {
        self.blocks.push(block);
        while self.blocks.is_full()
            && let Some(done) = self.blocks.pop()
        {
            self.take(done?, out)?;
        }
        while let Some(done) = self.blocks.try_pop() {
            self.take(done?, out)?;
        }
        Ok(())
    }

    fn take(&mut self, done: Compressed, out: &mut Hashing<impl Write>) -> io::Result<()> {
        if let Some((key, seal)) = done.name {
            self.packed.push(PackedBlock { key, offset: out.count(), size: done.bytes.len(), seal });
        }
        out.write_all(&done.bytes)
    }

    fn finish(mut self, out: &mut Hashing<impl Write>) -> io::Result<Vec<PackedBlock>> {
        while let Some(done) = self.blocks.pop() {
            self.take(done?, out)?;
        }
        Ok(self.packed)
    }
}

/// Hashes blocks in a thread of its own.
struct Hasher {
    blocks: Option<SyncSender<Block>>,
    thread: Option<JoinHandle<(Digest, u64)>>,
}

/// Enough for the thread never to starve.
const HASHER_QUEUE_BLOCKS: usize = 2;

impl Hasher {
    fn start() -> io::Result<Self> {
        let (blocks, queue) = sync_channel::<Block>(HASHER_QUEUE_BLOCKS);
        let thread = std::thread::Builder::new().name("hash".into()).spawn(move || {
            let mut hashing = Hashing::new(io::sink());
            for block in queue {
                // A sink takes everything.
                let _ = hashing.write_all(&block);
            }
            let (_, digest, count) = hashing.finish();
            (digest, count)
        })?;
        Ok(Self { blocks: Some(blocks), thread: Some(thread) })
    }

    fn push(&mut self, block: &Block) -> io::Result<()> {
        let sent = self.blocks.as_ref().map(|blocks| blocks.send(Arc::clone(block)));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(ended()),
        }
    }

    fn finish(&mut self) -> io::Result<(Digest, u64)> {
        self.blocks = None;
        let thread = self.thread.take().ok_or_else(ended)?;
        thread.join().map_err(|_| ended())
    }
}

impl Drop for Hasher {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

fn ended() -> io::Error {
    io::Error::other("the hashing thread ended early")
}
