//! What a context costs that nobody changed: remembered hashes read, every file looked at, one key.
//!
//! ```text
//! cargo bench -p forge-runner --bench context [-- FILES…]
//! ```
//!
//! Files lie in `TMPDIR`, 100 to a directory, 1,000 bytes each. The floor is a walk that only asks for metadata.

#![allow(clippy::print_stdout, reason = "a program, not a library")]

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use forge_runner::files::LocalContext;
use forge_solver::matching::IgnorePatterns;
use forge_solver::op::Selection;

const ROUNDS: usize = 15;
const FILES_PER_DIRECTORY: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let asked: Vec<usize> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let sizes = if asked.is_empty() { vec![2_000, 20_000, 100_000] } else { asked };
    for files in sizes {
        let place = tempfile::tempdir()?;
        let (context, state) = (place.path().join("context"), place.path().join("state"));
        fs::create_dir_all(&state)?;
        fill(&context, files)?;
        // Files that are too young are not remembered: a later change could carry the same time.
        std::thread::sleep(Duration::from_millis(50));
        let cold = time(1, || hash(&context, &state));
        let walk = time(ROUNDS, || look(&context));
        let whole = time(ROUNDS, || hash(&context, &state));
        let parts = time(ROUNDS, || hash_in_parts(&context, &state, files));
        println!(
            "{files:>7} files: first time {cold:.1} ms; unchanged {whole:.1} ms, in 100 parts {parts:.1} ms; lstat alone {walk:.1} ms"
        );
    }
    Ok(())
}

fn fill(context: &Path, files: usize) -> Result<(), Box<dyn Error>> {
    for at in 0..files {
        let dir = context.join(format!("d{:04}", at / FILES_PER_DIRECTORY));
        if at % FILES_PER_DIRECTORY == 0 {
            fs::create_dir_all(&dir)?;
        }
        fs::write(dir.join(format!("f{at}")), format!("{at:01000}"))?;
    }
    Ok(())
}

/// As a new build does it: `COPY . .`.
fn hash(context: &Path, state: &Path) {
    let context = open(context, state);
    context.content(&Selection::path(String::new())).expect("the context can be hashed");
    context.remember();
}

/// As many COPYs of directories do it.
fn hash_in_parts(context: &Path, state: &Path, files: usize) {
    let context = open(context, state);
    for at in 0..(files / FILES_PER_DIRECTORY).min(100) {
        let selection = Selection { required: true, ..Selection::path(format!("d{at:04}")) };
        context.content(&selection).expect("the directory can be hashed");
    }
}

fn open(context: &Path, state: &Path) -> LocalContext {
    LocalContext::open(context, IgnorePatterns::default(), state).expect("the context can be opened")
}

fn look(dir: &Path) {
    for entry in fs::read_dir(dir).expect("the directory can be read").flatten() {
        let metadata = entry.metadata().expect("the file is there");
        if metadata.is_dir() {
            look(&entry.path());
        }
    }
}

/// The median, in milliseconds.
fn time(rounds: usize, mut work: impl FnMut()) -> f64 {
    let mut times: Vec<Duration> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[rounds / 2].as_secs_f64() * 1e3
}
