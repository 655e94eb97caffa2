//! What looking at a store and collecting costs: `cargo bench -p forge-store --bench collect [-- FILTER]`.
//!
//! The store has 2,000 cache records in chains of 20 steps, each with a layer of its own. It is made on /dev/shm, anew
//! where it is used up.

use std::time::Duration;

use criterion::{BatchSize, Criterion, SamplingMode, Throughput};
use forge_store::gc::{Disk, Limits, Prune};
use forge_store::tree::OverlayXattrs;
use forge_store::{ContentId, Layer, LayerId, Snapshot, Store};
use tempfile::TempDir;

const CHAIN: usize = 20;
const RECORDS: usize = 2_000;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let (_dir, store) = filled();
    let some = blake3::hash(record(&Snapshot::default().push(layer("0 0"))).as_bytes()).to_hex();
    criterion.bench_function("store/look a record up", |bencher| {
        bencher.iter(|| store.cache().get(&some).expect("an answer").expect("a record"));
    });
    let mut group = criterion.benchmark_group("store of 2,000 records and trees");
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(RECORDS as u64));
    group.bench_function("disk usage", |bencher| bencher.iter(|| store.disk_usage().expect("items")));
    group.bench_function("collect half", |bencher| {
        bencher.iter_batched(
            filled,
            |(dir, store)| {
                store.collect(half(&dir)).expect("a collection").expect("it is too large");
                (dir, store)
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("prune all", |bencher| {
        bencher.iter_batched(
            filled,
            |(dir, store)| {
                store.prune(&Prune { all: true, ..Prune::default() }).expect("a prune");
                (dir, store)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
    criterion.final_summary();
}

fn filled() -> (TempDir, Store) {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory on /dev/shm");
    let store = Store::open(dir.path(), OverlayXattrs::User).expect("a store");
    for chain in 0..RECORDS / CHAIN {
        let mut snapshot = Snapshot::default();
        for step in 0..CHAIN {
            let name = format!("{chain} {step}");
            let draft = store.draft().expect("a draft");
            std::fs::write(draft.tree().join("file"), &name).expect("a file");
            store.layers().commit(draft, &layer_id(&name), 4096).expect("a layer");
            snapshot = snapshot.push(layer(&name));
            let record = record(&snapshot);
            store.cache().put(&blake3::hash(record.as_bytes()).to_hex(), &record).expect("a record");
        }
    }
    drop(store);
    // What this process made is held until it ends; another open finds it free.
    let store = Store::open(dir.path(), OverlayXattrs::User).expect("a store");
    (dir, store)
}

fn layer_id(name: &str) -> LayerId {
    LayerId::of_content(&ContentId::new(blake3::hash(name.as_bytes())))
}

fn layer(name: &str) -> Layer {
    Layer::built(layer_id(name))
}

fn record(snapshot: &Snapshot) -> String {
    serde_json::json!({ "snapshot": snapshot, "created_ns": 1 }).to_string()
}

fn half(dir: &TempDir) -> Limits {
    let limits = Limits { max_used: Some(RECORDS as u64 * 2048), ..Limits::default() };
    let disk = Disk::of(dir.path()).expect("a disk");
    assert!(limits.allowed(u64::MAX, disk) > 0);
    limits
}
