//! What looking at a store and collecting costs: `cargo bench -p forge-store --bench collect [-- RECORDS]`.
//!
//! The store has as many cache records as asked for (10,000), in chains of 20 steps, each with a layer of its own,
//! and every hundredth chain under a tag. It is made on /dev/shm.

#![allow(clippy::print_stdout)]

use std::time::Instant;

use forge_store::gc::{Disk, Limits, Prune};
use forge_store::tree::OverlayXattrs;
use forge_store::{ContentId, Layer, LayerId, Snapshot, Store};

const CHAIN: usize = 20;

fn main() {
    let records: usize = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(10_000);
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory on /dev/shm");
    let store = Store::open(dir.path(), OverlayXattrs::User).expect("a store");
    let began = Instant::now();
    for chain in 0..records / CHAIN {
        let mut snapshot = Snapshot::default();
        for step in 0..CHAIN {
            let name = format!("{chain} {step}");
            let id = LayerId::of_content(&ContentId::new(blake3::hash(name.as_bytes())));
            let draft = store.draft().expect("a draft");
            std::fs::write(draft.tree().join("file"), &name).expect("a file");
            store.layers().commit(draft, &id, 4096).expect("a layer");
            snapshot = snapshot.push(Layer::built(id));
            let record = serde_json::json!({ "snapshot": snapshot, "created_ns": 1 }).to_string();
            let key = blake3::hash(record.as_bytes()).to_hex();
            store.cache().put(&key, &record).expect("a record");
        }
    }
    said("making it, a layer and a record", began, records);
    let some = blake3::hash(b"0 0").to_hex();
    let began = Instant::now();
    (0..1000).for_each(|_| drop(store.cache().get(&some).expect("an answer")));
    said("looking a record up", began, 1000);
    drop(store);

    let store = Store::open(dir.path(), OverlayXattrs::User).expect("a store");
    let began = Instant::now();
    let items = store.disk_usage().expect("items");
    said("du", began, items.len());
    let limits = Limits { max_used: Some(records as u64 * 2048), ..Limits::default() };
    let disk = Disk::of(dir.path()).expect("a disk");
    assert!(limits.allowed(u64::MAX, disk) > 0);
    let began = Instant::now();
    let freed = store.collect(limits).expect("a collection").expect("it is too large");
    said("collecting half of it", began, freed.count() as usize);
    let began = Instant::now();
    let again = store.collect(limits).expect("a collection");
    said("finding that there is nothing to do", began, usize::from(again.is_some()) + 1);
    let began = Instant::now();
    let freed = store.prune(&Prune { all: true, ..Prune::default() }).expect("a prune");
    said("pruning the rest", began, freed.count() as usize);
}

fn said(what: &str, began: Instant, count: usize) {
    let took = began.elapsed();
    let each = took.as_secs_f64() * 1e6 / count.max(1) as f64;
    println!("{what:40} {:8.1} ms  {count:7} things, {each:6.1} µs each", took.as_secs_f64() * 1e3);
}
