//! Files hashed by several threads, and handed on in their order.

use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, PoisonError};

use super::{Entry, FileContent, FileHash, Node, TreeError};
use crate::Threads;

/// Entries go to threads in batches: most files are hashed faster than a thread is woken.
const BATCH_ENTRIES: usize = 32;
/// A batch with so many bytes is work enough.
const BATCH_BYTES: u64 = 4 << 20;
/// Bounds memory and open directories, which entries under way keep.
const BATCHES_MAX: usize = 8;
/// How much of a file is read at a time.
const READ_BYTES: usize = 256 * 1024;

/// An entry, and what is in it if it is a regular file.
type Hashed = (Entry, Option<FileContent>);

struct Job {
    batch: Vec<Entry>,
    answer: Sender<Result<Vec<Hashed>, TreeError>>,
}

/// Gives every entry to `each`, in their order and on this thread, with what is in it if it is a regular file. `known` may spare the reading of a file, by a cache that knows when it is the same (the times and the
/// inode in `stat` are for that). The first error ends it, whichever thread met it.
pub fn hash_files(
    entries: impl Iterator<Item = Result<Entry, TreeError>>,
    threads: Threads,
    known: impl Fn(&Entry) -> Option<FileHash> + Sync,
    mut each: impl FnMut(Entry, Option<FileContent>) -> Result<(), TreeError>,
) -> Result<(), TreeError> {
    let (jobs, queue) = mpsc::channel::<Job>();
    let queue = Mutex::new(queue);
    std::thread::scope(|scope| {
        // Dropped at the end of this closure, however it ends: then the threads end.
        let jobs = jobs;
        let mut started = false;
        let mut answers = VecDeque::new();
        let mut batch = Batch::default();
        for entry in entries {
            batch.push(entry?);
            if !batch.is_full() {
                continue;
            }
            if !started {
                (0..threads.get().min(BATCHES_MAX)).for_each(|_| drop(scope.spawn(|| work(&queue, &known))));
                started = true;
            }
            answers.push_back(submit(&jobs, std::mem::take(&mut batch).entries));
            if answers.len() == BATCHES_MAX {
                answers.pop_front().map_or(Ok(()), |answer| hand_on(answer, &mut each))?;
            }
        }
        // A small tree is all in this last batch, and needs no threads.
        let last = batch.entries;
        for answer in answers {
            hand_on(answer, &mut each)?;
        }
        let mut buffer = vec![0; READ_BYTES];
        last.into_iter().try_for_each(|entry| {
            let file = hash(&entry, &known, &mut buffer)?;
            each(entry, file)
        })
    })
}

#[derive(Default)]
struct Batch {
    entries: Vec<Entry>,
    bytes: u64,
}

impl Batch {
    fn push(&mut self, entry: Entry) {
        if entry.node == Node::Regular {
            self.bytes = self.bytes.saturating_add(entry.stat.size);
        }
        self.entries.push(entry);
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= BATCH_ENTRIES || self.bytes >= BATCH_BYTES
    }
}

fn submit(jobs: &Sender<Job>, batch: Vec<Entry>) -> Receiver<Result<Vec<Hashed>, TreeError>> {
    let (answer, receiver) = mpsc::channel();
    jobs.send(Job { batch, answer }).expect("the queue outlives its sender");
    receiver
}

fn hand_on(
    answer: Receiver<Result<Vec<Hashed>, TreeError>>,
    each: &mut impl FnMut(Entry, Option<FileContent>) -> Result<(), TreeError>,
) -> Result<(), TreeError> {
    let batch = answer.recv().expect("a batch that was taken is answered")?;
    batch.into_iter().try_for_each(|(entry, file)| each(entry, file))
}

fn work(queue: &Mutex<Receiver<Job>>, known: &impl Fn(&Entry) -> Option<FileHash>) {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { batch, answer }) = job else { return };
        let hashed =
            batch.into_iter().map(|entry| hash(&entry, known, &mut buffer).map(|file| (entry, file)));
        // Nobody waits any more after an error.
        let _ = answer.send(hashed.collect());
    }
}

fn hash(
    entry: &Entry,
    known: &impl Fn(&Entry) -> Option<FileHash>,
    buffer: &mut [u8],
) -> Result<Option<FileContent>, TreeError> {
    match entry.node {
        Node::Regular => match known(entry) {
            Some(hash) => Ok(Some(FileContent { hash, xattrs: entry.xattrs()? })),
            None => FileContent::read(entry, buffer).map(Some),
        },
        _ => Ok(None),
    }
}
