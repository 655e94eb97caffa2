//! Small files' contents and metadata, written beside the reading of the archive.
//!
//! ```text
//! caller:   read ─ create, in the archive's order ─┬─ batch of open files
//! threads:                                         └─ write, owner, mode, attributes, time, close
//! ```
//!
//! Names are made by the caller alone, in order: what a name is at any time, and what a hard link finds, does not
//! depend on the threads. A file that was replaced meanwhile is written where nobody sees it. The error reported is
//! the first by the archive's order, whichever thread was faster.

use std::fs::File;
use std::mem;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::error::UnpackError;
use super::metadata::{Metadata, write_error};

/// A regular file that has its name, and all that it is still to get.
pub(super) struct Job {
    pub file: File,
    pub content: Vec<u8>,
    pub metadata: Metadata,
    pub path: Vec<u8>,
}

/// What is handed to a thread at once: so many files, or so many bytes. Few enough that open files stay far below
/// the usual limit of 1024, and enough that waking a thread costs nothing beside them.
const BATCH_FILES: usize = 16;
const BATCH_BYTES: usize = 512 * 1024;
/// Batches that may wait for a thread.
const BATCHES_WAITING: usize = 4;

/// The threads, and the batch that is being filled for them. Dropped, it waits for them.
pub(super) struct Writers {
    queue: Option<SyncSender<Batch>>,
    failed: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Outcome>>,
    batch: Vec<Job>,
    batch_bytes: usize,
    pushed: u64,
}

/// Jobs in the archive's order, and the number of the first.
struct Batch {
    first: u64,
    jobs: Vec<Job>,
}

/// What a thread did: attributes left out, and its first failure with the job's number.
#[derive(Default)]
struct Outcome {
    left_out: u64,
    failure: Option<(u64, UnpackError)>,
}

impl Writers {
    /// Starts so many threads; with none, the caller writes.
    pub(super) fn start(threads: usize) -> Self {
        let (queue, batches) = sync_channel(BATCHES_WAITING);
        let (batches, failed) = (Arc::new(Mutex::new(batches)), Arc::new(AtomicBool::new(false)));
        let start = |_| {
            let (batches, failed) = (batches.clone(), failed.clone());
            thread::Builder::new().name("unpack".into()).spawn(move || work(&batches, &failed))
        };
        // Fewer than wanted are slower and not wrong.
        let threads = (0..threads).map_while(|n| start(n).ok()).collect();
        Self { queue: Some(queue), failed, threads, batch: Vec::new(), batch_bytes: 0, pushed: 0 }
    }

    /// Takes a job over. Gives how many attributes were left out, where that is known already.
    pub(super) fn push(&mut self, job: Job) -> Result<u64, UnpackError> {
        if self.threads.is_empty() {
            return job.run();
        }
        self.pushed += 1;
        self.batch_bytes += job.content.len();
        self.batch.push(job);
        if self.batch.len() >= BATCH_FILES || self.batch_bytes >= BATCH_BYTES {
            self.send();
        }
        Ok(0)
    }

    /// Whether a job failed, so that going on is of no use: [`Writers::finish`] tells.
    pub(super) fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Waits until all is written. Gives how many attributes were left out by the threads.
    pub(super) fn finish(&mut self) -> Result<u64, UnpackError> {
        self.send();
        self.queue = None;
        let mut left_out = 0;
        let mut failures = Vec::new();
        for thread in self.threads.drain(..) {
            let outcome = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            left_out += outcome.left_out;
            failures.extend(outcome.failure);
        }
        match failures.into_iter().min_by_key(|(number, _)| *number) {
            Some((_, error)) => Err(error),
            None => Ok(left_out),
        }
    }

    fn send(&mut self) {
        let jobs = mem::take(&mut self.batch);
        self.batch_bytes = 0;
        if let Some(queue) = self.queue.as_ref().filter(|_| !jobs.is_empty()) {
            // Refused only when all threads panicked, which joining them reports.
            let _ = queue.send(Batch { first: self.pushed - jobs.len() as u64, jobs });
        }
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Job {
    fn run(self) -> Result<u64, UnpackError> {
        self.file.write_all_at(&self.content, 0).map_err(write_error(&self.path))?;
        self.metadata.apply_to_file(&self.file, &self.path)
    }
}

/// Goes on after a failure, since an earlier job may still be in the queue and fail too; only the rest of the batch
/// is later for sure.
fn work(batches: &Mutex<Receiver<Batch>>, failed: &AtomicBool) -> Outcome {
    let mut outcome = Outcome::default();
    loop {
        let batch = batches.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Batch { first, jobs }) = batch else { return outcome };
        for (number, job) in (first..).zip(jobs) {
            match job.run() {
                Ok(left_out) => outcome.left_out += left_out,
                Err(error) => {
                    failed.store(true, Ordering::Relaxed);
                    // Batches come in order, so this thread's first failure is its earliest.
                    outcome.failure.get_or_insert((number, error));
                    break;
                }
            }
        }
    }
}
