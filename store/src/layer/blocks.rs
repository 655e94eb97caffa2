//! Blocks compressed by a pool of threads, and handed back in their order.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::codec::{Codec, Encoder};
use super::known::{BlockKey, BlockSeal, KnownBlocks};
use crate::Threads;

/// Uncompressed bytes, shared between the threads that hash and those that compress.
pub(super) type Block = Arc<Vec<u8>>;

/// What may spare the compressing.
pub(super) type Known = Option<Arc<dyn KnownBlocks>>;

/// A block, compressed.
pub(super) struct Compressed {
    pub(super) bytes: Vec<u8>,
    /// What it is known by, where blocks are remembered.
    pub(super) name: Option<(BlockKey, BlockSeal)>,
}

/// The pool. Dropping it ends its threads and waits for them.
pub(super) struct Blocks {
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
    /// One for each block handed in and not taken back, the oldest first.
    answers: VecDeque<Receiver<io::Result<Compressed>>>,
}

struct Job {
    block: Block,
    answer: Sender<io::Result<Compressed>>,
}

impl Blocks {
    /// Starts the threads.
    pub(super) fn new(codec: Codec, threads: Threads, known: &Known) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        let mut pool = Self { jobs: Some(jobs), threads: Vec::new(), answers: VecDeque::new() };
        for _ in 0..threads.get() {
            let (queue, known) = (Arc::clone(&queue), known.clone());
            let builder = std::thread::Builder::new().name("compress".into());
            pool.threads.push(builder.spawn(move || work(codec, &known, &queue))?);
        }
        Ok(pool)
    }

    /// Whether a block should be taken back before the next is handed in, to bound memory: two for each thread
    /// keep it busy.
    pub(super) fn is_full(&self) -> bool {
        self.answers.len() >= 2 * self.threads.len()
    }

    /// Hands in the next block.
    pub(super) fn push(&mut self, block: &Block) {
        let (answer, receiver) = mpsc::channel();
        if let Some(jobs) = &self.jobs {
            // Without threads left to take it, the answer's channel is closed, and `pop` tells.
            let _ = jobs.send(Job { block: Arc::clone(block), answer });
        }
        self.answers.push_back(receiver);
    }

    /// Takes the oldest block, waiting for it. `None` when there is none.
    pub(super) fn pop(&mut self) -> Option<io::Result<Compressed>> {
        let answer = self.answers.pop_front()?;
        Some(answer.recv().unwrap_or_else(|_| Err(io::Error::other("a compressing thread ended early"))))
    }

    /// Takes the oldest block if it is done.
    pub(super) fn try_pop(&mut self) -> Option<io::Result<Compressed>> {
        match self.answers.front()?.try_recv() {
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => self.pop(),
            Ok(result) => {
                self.answers.pop_front();
                Some(result)
            }
        }
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        self.jobs = None;
        self.answers.clear();
        for thread in self.threads.drain(..) {
            // A panic in it was told by its closed channel already.
            let _ = thread.join();
        }
    }
}

fn work(codec: Codec, known: &Known, queue: &Mutex<Receiver<Job>>) {
    let mut encoder = None;
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { block, answer }) = job else { return };
        // Nobody waits any more when the packer was dropped.
        let _ = answer.send(compress(codec, &mut encoder, known, &block));
    }
}

/// The block as it was compressed before, if that is known and unharmed, or compressed now.
fn compress(
    codec: Codec,
    encoder: &mut Option<Encoder>,
    known: &Known,
    block: &[u8],
) -> io::Result<Compressed> {
    let key = known.as_ref().map(|known| (known, codec.key(block)));
    if let Some((known, key)) = key
        && let Some((bytes, seal)) = known.find(&key)
        && key.seal(&bytes) == seal
    {
        return Ok(Compressed { bytes, name: Some((key, seal)) });
    }
    let bytes = encoder.get_or_insert_with(|| codec.encoder()).compress(block)?;
    let name = key.map(|(_, key)| (key, key.seal(&bytes)));
    Ok(Compressed { bytes, name })
}
