//! What one core makes of a layer's bytes: hashes, deflate by the libraries that were weighed, and inflate.
//!
//! ```text
//! [BENCH_TREE=DIRECTORY] cargo bench -p forge-store --bench bytes [-- FILTER]
//! ```
//!
//! Deflate is measured in blocks, as layers are compressed. The sizes that come out are printed first.

#![allow(clippy::print_stdout, reason = "sizes are told as well")]

use std::io::Read;
use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput};
use flate2::{Compress, FlushCompress};
use forge_store::Digest;
use forge_store::layer::{WriteOptions, write_tree};
use forge_store::tree::OverlayXattrs;
use libdeflater::{CompressionLvl, Compressor, Decompressor};
use sample::Tree;

mod sample;

const LEVEL: u32 = 6;
const KIB: usize = 1024;
/// What deflate can look back to.
const WINDOW: usize = 32 * KIB;

/// Compresses one block of the bytes; what stands before it may serve as a dictionary.
type Deflate = fn(before: &[u8], block: &[u8]) -> Vec<u8>;

const DEFLATERS: [(&str, Deflate, usize); 5] = [
    ("zlib-rs, 256 KiB, each with the 32 KiB before it", zlib_with_dictionary, 256 * KIB),
    ("zlib-rs, 256 KiB", zlib, 256 * KIB),
    ("libdeflate, 128 KiB", libdeflate, 128 * KIB),
    ("libdeflate, 256 KiB", libdeflate, 256 * KIB),
    ("libdeflate, 512 KiB", libdeflate, 512 * KIB),
];

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let bytes = tar(&Tree::new());
    for (name, deflater, block) in DEFLATERS {
        let size: usize = deflate(&bytes, deflater, block).iter().map(Vec::len).sum();
        println!(
            "{name}: {:.1} % of {} MB",
            size as f64 * 100.0 / bytes.len() as f64,
            bytes.len() / 1_000_000
        );
    }
    hashes(&mut criterion, &bytes);
    deflates(&mut criterion, &bytes);
    inflates(&mut criterion, &bytes);
    criterion.final_summary();
}

fn tar(tree: &Tree) -> Vec<u8> {
    let mut tar = Vec::new();
    write_tree(tree.root().dir(), OverlayXattrs::Trusted, WriteOptions::default(), &mut tar).expect("write");
    tar
}

fn hashes(criterion: &mut Criterion, bytes: &[u8]) {
    let mut group = criterion.benchmark_group("hash");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("SHA-256", |bencher| bencher.iter(|| Digest::of(bytes)));
    group.bench_function("BLAKE3", |bencher| bencher.iter(|| blake3::hash(bytes)));
}

fn deflates(criterion: &mut Criterion, bytes: &[u8]) {
    let mut group = criterion.benchmark_group("deflate -6");
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Bytes(bytes.len() as u64));
    for (name, deflater, block) in DEFLATERS {
        group.bench_function(name, |bencher| bencher.iter(|| deflate(bytes, deflater, block)));
    }
}

fn inflates(criterion: &mut Criterion, bytes: &[u8]) {
    let blocks = deflate(bytes, zlib, 256 * KIB);
    let mut group = criterion.benchmark_group("inflate");
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("zlib-rs", |bencher| {
        let mut out = Vec::with_capacity(256 * KIB);
        bencher.iter(|| {
            for block in &blocks {
                out.clear();
                flate2::read::DeflateDecoder::new(&block[..]).read_to_end(&mut out).expect("inflate");
            }
        });
    });
    group.bench_function("libdeflate", |bencher| {
        let (mut inflater, mut out) = (Decompressor::new(), vec![0; 256 * KIB]);
        bencher.iter(|| {
            for block in &blocks {
                inflater.deflate_decompress(block, &mut out).expect("inflate");
            }
        });
    });
}

fn deflate(bytes: &[u8], deflater: Deflate, block: usize) -> Vec<Vec<u8>> {
    let starts = (0..bytes.len()).step_by(block);
    starts.map(|start| deflater(&bytes[..start], &bytes[start..bytes.len().min(start + block)])).collect()
}

fn zlib(_: &[u8], block: &[u8]) -> Vec<u8> {
    finish(Compress::new(flate2::Compression::new(LEVEL), false), block)
}

fn zlib_with_dictionary(before: &[u8], block: &[u8]) -> Vec<u8> {
    let mut compress = Compress::new(flate2::Compression::new(LEVEL), false);
    compress.set_dictionary(&before[before.len().saturating_sub(WINDOW)..]).expect("a dictionary");
    finish(compress, block)
}

fn finish(mut compress: Compress, block: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(block.len() + KIB);
    compress.compress_vec(block, &mut out, FlushCompress::Finish).expect("deflate");
    out
}

fn libdeflate(_: &[u8], block: &[u8]) -> Vec<u8> {
    let mut compressor = Compressor::new(CompressionLvl::new(LEVEL as i32).expect("a level"));
    let mut out = vec![0; compressor.deflate_compress_bound(block.len())];
    let size = compressor.deflate_compress(block, &mut out).expect("deflate");
    out.truncate(size);
    out
}
