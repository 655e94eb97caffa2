//! What a context costs: the stat walk, hashes that are remembered, and hashes that are not.
//!
//! ```text
//! cargo bench -p forge-runner --bench context [-- FILTER]
//! ```
//!
//! Files lie in memory, 100 to a directory, 1,000 bytes each. The floor is a walk that only asks for metadata.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput};
use forge_runner::files::LocalContext;
use forge_solver::matching::IgnorePatterns;
use forge_solver::op::Selection;

const FILES_PER_DIRECTORY: usize = 100;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    for files in [2_000, 20_000, 100_000] {
        size(&mut criterion, files);
    }
    criterion.final_summary();
}

fn size(criterion: &mut Criterion, files: usize) {
    let place = Place::new(files);
    let mut group = criterion.benchmark_group(format!("context of {files} files"));
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(files as u64));
    group.bench_function("stat walk alone", |bencher| bencher.iter(|| look(&place.context)));
    group.bench_function("hash, first time", |bencher| {
        bencher.iter(|| hash(&LocalContext::open_transient(&place.context, ignore()).expect("a context")));
    });
    hash(&place.open());
    group.bench_function("hash, unchanged", |bencher| bencher.iter(|| hash(&place.open())));
    group.bench_function("hash, unchanged, in 100 parts", |bencher| {
        bencher.iter(|| hash_in_parts(&place.open(), files));
    });
}

/// A directory of so many files, and where their hashes are remembered.
struct Place {
    _root: tempfile::TempDir,
    context: PathBuf,
    state: PathBuf,
}

impl Place {
    fn new(files: usize) -> Self {
        let root = tempfile::tempdir_in("/dev/shm").expect("a directory");
        let place =
            Self { context: root.path().join("context"), state: root.path().join("state"), _root: root };
        fs::create_dir(&place.state).expect("a directory");
        for at in 0..files {
            let dir = place.context.join(format!("d{:04}", at / FILES_PER_DIRECTORY));
            if at % FILES_PER_DIRECTORY == 0 {
                fs::create_dir_all(&dir).expect("a directory");
            }
            fs::write(dir.join(format!("f{at}")), format!("{at:01000}")).expect("a file");
        }
        // Files that are too young are not remembered: a later change could carry the same time.
        std::thread::sleep(Duration::from_millis(50));
        place
    }

    fn open(&self) -> LocalContext {
        LocalContext::open(&self.context, ignore(), &self.state).expect("a context")
    }
}

fn ignore() -> IgnorePatterns {
    IgnorePatterns::default()
}

/// As a new build does it: `COPY . .`.
fn hash(context: &LocalContext) {
    context.content(&Selection::path(String::new())).expect("the context can be hashed");
    context.remember();
}

/// As many COPYs of directories do it.
fn hash_in_parts(context: &LocalContext, files: usize) {
    for at in 0..(files / FILES_PER_DIRECTORY).min(100) {
        let selection = Selection { required: true, ..Selection::path(format!("d{at:04}")) };
        context.content(&selection).expect("the directory can be hashed");
    }
}

fn look(dir: &Path) {
    for entry in fs::read_dir(dir).expect("the directory can be read").flatten() {
        let metadata = entry.metadata().expect("the file is there");
        if metadata.is_dir() {
            look(&entry.path());
        }
    }
}
