//! What a COPY of many files costs, part by part: `cargo bench -p forge-runner --bench files [-- FILES BYTES]`.
//!
//! In memory, so that no disk is measured. Medians of a few rounds.

#![allow(clippy::print_stdout, reason = "it reports")]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use forge_runner::files::{self, LocalContext, StackView};
use forge_solver::matching::IgnorePatterns;
use forge_solver::op::{CopyOp, CopySource, Selection, Unpack};
use forge_store::layer::Compression;
use forge_store::tree::OverlayXattrs;
use forge_store::{LayerId, Snapshot, Store};

const ROUNDS: usize = 5;
const MARKS: OverlayXattrs = OverlayXattrs::User;

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let files = numbers.first().copied().unwrap_or(20_000);
    let bytes = numbers.get(1).copied().unwrap_or(5_000);
    let dir = tempfile::tempdir_in("/dev/shm").expect("make a directory");
    let (context, state) = (dir.path().join("context"), dir.path().join("state"));
    fs::create_dir(&state).expect("make a directory");
    fill(&context, files, bytes);
    // A file's hash is remembered only once the file is older than the clock's step.
    std::thread::sleep(Duration::from_millis(50));
    println!("{files} files of {bytes} bytes");

    let ignore = IgnorePatterns::default;
    let open = || LocalContext::open(&context, ignore(), &state).expect("open the context");
    report("stat walk and hash of all files", files, || {
        let transient = LocalContext::open_transient(&context, ignore()).expect("open the context");
        transient.content(&everything()).expect("hash");
    });
    let first = open();
    first.content(&everything()).expect("hash");
    first.remember();
    report("stat walk, hashes known", files, || {
        open().content(&everything()).expect("hash");
    });

    let store = Store::open(&dir.path().join("store"), MARKS).expect("open a store");
    let below = StackView::open(&store, &Snapshot::default()).expect("nothing below");
    let view = open();
    view.content(&everything()).expect("hash");
    let op = copy_op();
    report("copy into a tree", files, || {
        let draft = store.draft().expect("a draft");
        let scratch = || unreachable!("no archive is unpacked");
        files::copy(&op, &below, &[&view], &draft, MARKS, &scratch).expect("copy");
    });
    report("the same without a tree", files, || {
        let layer = files::borrow(&op, &below, &[&view]).expect("borrow").expect("nothing rare in it");
        layer.content().expect("an id");
    });
    let mut round = 0u64;
    report("the same, packed as tar", files, || {
        let layer = files::borrow(&op, &below, &[&view]).expect("borrow").expect("nothing rare in it");
        round += 1;
        let id = forge_store::ContentId::new(blake3::hash(&round.to_le_bytes()));
        let id = LayerId::of_content(&id);
        store.layers().pack_entries(&id, Compression::None, layer.entries(), &()).expect("pack");
    });
}

fn fill(context: &Path, files: usize, bytes: usize) {
    for n in 0..files {
        let dir = context.join(format!("d{}", n / 100));
        if n % 100 == 0 {
            fs::create_dir_all(&dir).expect("make a directory");
        }
        let mut content = format!("{n}\n").into_bytes();
        content.resize(bytes, b'x');
        fs::write(dir.join(n.to_string()), content).expect("write a file");
    }
}

fn everything() -> Selection {
    Selection::path(String::new())
}

fn copy_op() -> CopyOp {
    CopyOp {
        sources: vec![CopySource::Files { input: 1, selection: everything(), unpack: Unpack::Never }],
        dest: "/data".into(),
        chown: None,
        chmod: None,
        parents: false,
        link: false,
        reset_owner: true,
    }
}

fn report(name: &str, files: usize, mut once: impl FnMut()) {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begin = Instant::now();
            once();
            begin.elapsed()
        })
        .collect();
    times.sort();
    let median = times[ROUNDS / 2];
    let each = median.as_secs_f64() * 1e6 / files as f64;
    println!("{name:<34} {:>8.1} ms {each:>7.2} us a file", median.as_secs_f64() * 1e3);
}
