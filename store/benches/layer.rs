//! How fast a tree is walked, hashed and packed, beside what GNU tar and the compressors of the system make of it.
//!
//! `[BENCH_TREE=DIRECTORY] cargo bench -p forge-store --bench layer [-- FILTER]`: 20 MB of text and noise by default.

use std::hint::black_box;
use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput};
use forge_store::layer::{
    Compression, GzipLevel, PackOptions, WriteOptions, ZstdLevel, pack_tree, write_tree,
};
use forge_store::tree::{
    ContentOptions, Format, MergedTree, Mtimes, OverlayXattrs, ReadOptions, Walk, XattrFilter, content_of,
};
use forge_store::{RootDir, Threads};
use sample::Tree;

mod sample;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let tree = Tree::new();
    let root = tree.root();
    let mut group = criterion.benchmark_group("walk");
    group.throughput(Throughput::Elements(walk(&root, XattrFilter::None) as u64));
    walks(&mut group, &root);
    group.finish();
    let mut group = criterion.benchmark_group("pack");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Bytes(pack(&root, Compression::None)));
    packing(&mut group, &root);
    others(&mut group, &tree);
    group.finish();
    criterion.final_summary();
}

fn walks(group: &mut BenchmarkGroup<'_, WallTime>, root: &RootDir) {
    let options =
        ReadOptions { format: Format::Overlay(OverlayXattrs::Trusted), xattrs: XattrFilter::Portable };
    group.bench_function("plain", |bencher| {
        let options = ReadOptions { format: Format::Plain, xattrs: XattrFilter::None };
        bencher.iter(|| Walk::new(root.dir(), options).expect("walk").count());
    });
    group.bench_function("layer tree", |bencher| bencher.iter(|| walk(root, XattrFilter::Capability)));
    group.bench_function("merged", |bencher| {
        let merged = MergedTree::new(vec![root.clone()], options);
        bencher.iter(|| merged.walk("").expect("walk").count());
    });
    group.bench_function("content id", |bencher| {
        let content = ContentOptions { mtimes: Mtimes::Ignore, owners: true };
        bencher.iter(|| {
            let walk = Walk::new(root.dir(), options).expect("walk");
            content_of(walk, content, Threads::available()).expect("hash")
        });
    });
}

fn packing(group: &mut BenchmarkGroup<'_, WallTime>, root: &RootDir) {
    group.bench_function("tar alone", |bencher| {
        bencher.iter(|| {
            write_tree(root.dir(), OverlayXattrs::Trusted, WriteOptions::default(), io::sink())
                .expect("write");
        });
    });
    group.bench_function("tar and digests", |bencher| bencher.iter(|| pack(root, Compression::None)));
    for level in [1, 6, 9] {
        let gzip = Compression::Gzip(GzipLevel::new(level).expect("a level"));
        group.bench_function(format!("gzip -{level}"), |bencher| bencher.iter(|| pack(root, gzip)));
    }
    let zstd = Compression::Zstd(ZstdLevel::default());
    group.bench_function("zstd -3", |bencher| bencher.iter(|| pack(root, zstd)));
}

/// Those that are installed.
fn others(group: &mut BenchmarkGroup<'_, WallTime>, tree: &Tree) {
    for command in ["cat", "gzip -6", "pigz -6", "zstd -3 -T0"] {
        let program = command.split(' ').next().unwrap_or_default();
        if Command::new(program).arg("--version").stdout(Stdio::null()).status().is_err() {
            continue;
        }
        let script = format!("tar -cf - --numeric-owner -C \"$0\" . 2>/dev/null | {command} >/dev/null");
        let once = || Command::new("sh").args(["-c", &script]).arg(&tree.path).status().expect("run sh");
        group.bench_function(format!("GNU tar | {command}"), |bencher| bencher.iter(once));
    }
}

fn walk(root: &RootDir, xattrs: XattrFilter) -> usize {
    let options = ReadOptions { format: Format::Overlay(OverlayXattrs::Trusted), xattrs };
    Walk::new(root.dir(), options).expect("walk").inspect(|entry| assert!(entry.is_ok())).count()
}

fn pack(root: &RootDir, compression: Compression) -> u64 {
    let options = PackOptions { compression, threads: Threads::available(), write: WriteOptions::default() };
    let (_, packed) = pack_tree(root.dir(), OverlayXattrs::Trusted, options, io::sink()).expect("pack");
    black_box(packed.blob_size)
}
