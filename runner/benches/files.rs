//! What a COPY of many files costs, part by part: `cargo bench -p forge-runner --bench files [-- FILTER]`.
//!
//! 20,000 files of 5,000 bytes, in memory, so that no disk is measured.

use std::fs;
use std::path::Path;
use std::time::Duration;

use criterion::{BatchSize, Criterion, SamplingMode, Throughput};
use forge_runner::files::{self, LocalContext, StackView};
use forge_solver::matching::IgnorePatterns;
use forge_solver::op::{CopyOp, CopySource, Selection, Unpack};
use forge_store::layer::Compression;
use forge_store::tree::OverlayXattrs;
use forge_store::{ContentId, LayerId, Snapshot, Store};

const FILES: usize = 20_000;
const BYTES: usize = 5_000;
const MARKS: OverlayXattrs = OverlayXattrs::User;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let (context, state) = (dir.path().join("context"), dir.path().join("state"));
    fs::create_dir(&state).expect("a directory");
    fill(&context);
    // A file's hash is remembered only once the file is older than the clock's step.
    std::thread::sleep(Duration::from_millis(50));

    let store = Store::open(&dir.path().join("store"), MARKS).expect("a store");
    let below = StackView::open(&store, &Snapshot::default()).expect("nothing below");
    let view = LocalContext::open(&context, IgnorePatterns::default(), &state).expect("a context");
    view.content(&everything()).expect("the context can be hashed");
    let op = copy_op();
    let borrow = || files::borrow(&op, &below, &[&view]).expect("borrow").expect("nothing rare in it");

    let mut group = criterion.benchmark_group("COPY of 20,000 files");
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(FILES as u64));
    group.bench_function("copied into a tree", |bencher| {
        bencher.iter_batched(
            || store.draft().expect("a draft"),
            |draft| {
                let scratch = || unreachable!("no archive is unpacked");
                files::copy(&op, &below, &[&view], &draft, MARKS, &scratch).expect("copy");
                draft
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("listed without a copy", |bencher| {
        bencher.iter(|| borrow().content().expect("an id"));
    });
    let mut round = 0u64;
    group.bench_function("listed and packed as tar", |bencher| {
        bencher.iter(|| {
            round += 1;
            let id = LayerId::of_content(&ContentId::new(blake3::hash(&round.to_le_bytes())));
            store.layers().pack_entries(&id, Compression::None, borrow().entries(), &()).expect("pack")
        });
    });
    group.finish();
    criterion.final_summary();
}

fn fill(context: &Path) {
    for n in 0..FILES {
        let dir = context.join(format!("d{}", n / 100));
        if n % 100 == 0 {
            fs::create_dir_all(&dir).expect("a directory");
        }
        let mut content = format!("{n}\n").into_bytes();
        content.resize(BYTES, b'x');
        fs::write(dir.join(n.to_string()), content).expect("a file");
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
