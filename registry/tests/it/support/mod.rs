//! What the tests share: a store, an image to push, a real registry, a fake one, and outside judges.

pub mod authority;
pub mod docker;
pub mod fake;
pub mod http;
pub mod image;
pub mod token_server;

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forge_registry::{Client, ClientConfig, Progress, RetryPolicy, Timeouts};
use forge_store::{Blobs, Digest};
use tempfile::TempDir;

/// A store of its own, gone with the value.
pub struct TestStore {
    _dir: TempDir,
    pub blobs: Blobs,
}

impl TestStore {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = forge_store::Store::open(dir.path(), forge_store::tree::OverlayXattrs::User).unwrap();
        Self { _dir: dir, blobs: store.blobs().clone() }
    }

    /// True if nothing at all is kept: no blob, no file of one, and nothing unfinished.
    pub fn is_empty(&self) -> bool {
        self.blobs.list().unwrap().is_empty() && self.files().is_empty()
    }

    /// Whatever lies where blobs are kept, received and written.
    pub fn files(&self) -> Vec<PathBuf> {
        let under = |dir: &str| std::fs::read_dir(self._dir.path().join(dir)).into_iter().flatten();
        let files = under("blobs/sha256").chain(under("ingest")).map(|file| file.unwrap().path());
        // A session's own directory may be there; it has nothing in it.
        let sessions = under("tmp").filter_map(|session| std::fs::read_dir(session.unwrap().path()).ok());
        let drafts = sessions.flatten().map(|file| file.unwrap().path());
        files.chain(drafts.filter(|path| path.extension().is_none_or(|end| end != "lock"))).collect()
    }

    /// Bytes of unfinished blobs.
    pub fn partial_bytes(&self) -> u64 {
        let files = std::fs::read_dir(self._dir.path().join("ingest")).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
    }
}

/// Settings under which failures are over quickly.
pub fn quick() -> ClientConfig {
    let retry = RetryPolicy {
        base: Duration::from_millis(1),
        cap: Duration::from_millis(8),
        ..RetryPolicy::default()
    };
    ClientConfig { retry, ..ClientConfig::default() }
}

/// [`quick`], and impatient besides.
pub fn impatient() -> ClientConfig {
    let timeouts = Timeouts { idle: Duration::from_millis(150), ..Timeouts::default() };
    ClientConfig { timeouts, ..quick() }
}

pub fn client() -> Client {
    Client::new(quick())
}

/// Counts what travelled.
#[derive(Default)]
pub struct Counter {
    pub bytes: AtomicU64,
    pub done: AtomicU64,
}

impl Counter {
    pub fn new() -> (Arc<Self>, Arc<dyn Progress>) {
        let counter = Arc::new(Self::default());
        (counter.clone(), counter)
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }
}

impl Progress for Counter {
    fn on_bytes(&self, _digest: &Digest, delta: u64) {
        self.bytes.fetch_add(delta, Ordering::Relaxed);
    }

    fn on_done(&self, _digest: &Digest) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs an outside program, which must succeed; gives its standard output.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = try_run(program, args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?} failed: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs an outside program.
pub fn try_run(program: &str, args: &[&str]) -> Output {
    Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|e| panic!("cannot run {program}: {e}; install {program}"))
}

/// The same bytes for the same seed, and no pattern in them.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random(seed | 1);
    std::iter::repeat_with(|| random.next().to_le_bytes()).flatten().take(length).collect()
}

/// xorshift64*: small, seeded, good enough for faults.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}
