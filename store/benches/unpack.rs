//! How fast archives are read and unpacked, beside GNU tar in the same run.
//!
//! `cargo bench -p forge-store --bench unpack [-- FILTER]`. Writes to `/dev/shm`, so that no disk is measured.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, SamplingMode, Throughput};
use forge_store::layer::{Accept, Decompressed, TarReader, UnpackOptions, unpack, unpack_blob};
use forge_store::tree::OverlayXattrs;
use forge_store::{DiffId, Digest, RootDir};

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    for (name, tar) in [("20,000 small files", small_files()), ("20 large files", large_files())] {
        let mut group = criterion.benchmark_group(name);
        group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Bytes(tar.len() as u64));
        Sample::new(tar).measure(&mut group);
    }
    criterion.final_summary();
}

struct Sample {
    tar: Vec<u8>,
    gzip: Vec<u8>,
    zstd: Vec<u8>,
    diff_id: DiffId,
}

impl Sample {
    fn new(tar: Vec<u8>) -> Self {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        gzip.write_all(&tar).expect("compress");
        let gzip = gzip.finish().expect("compress");
        let zstd = zstd::encode_all(&tar[..], 3).expect("compress");
        let diff_id = DiffId::new(Digest::of(&tar));
        Self { tar, gzip, zstd, diff_id }
    }

    fn measure(&self, group: &mut BenchmarkGroup<'_, WallTime>) {
        let options = UnpackOptions::layer(OverlayXattrs::Trusted);
        let open = |path: &Path| RootDir::open_host(path).expect("open directory");
        group.bench_function("read, tar", |bencher| bencher.iter(|| list(&self.tar)));
        group.bench_function("inflate, gzip", |bencher| bencher.iter(|| drain(&self.gzip)));
        group.bench_function("inflate, zstd", |bencher| bencher.iter(|| drain(&self.zstd)));
        into_directory(group, "unpack, tar, unchecked", |path| {
            unpack(&self.tar[..], &open(path), &options).expect("unpack");
        });
        let blobs = [("unpack, tar", &self.tar), ("unpack, gzip", &self.gzip), ("unpack, zstd", &self.zstd)];
        for (name, blob) in blobs {
            into_directory(group, name, |path| {
                unpack_blob(&blob[..], &self.diff_id, &open(path), &options).expect("unpack");
            });
        }
        into_directory(group, "GNU tar -x", |path| gnu_tar("-x", &self.tar, path));
        into_directory(group, "GNU tar -xz", |path| gnu_tar("-xz", &self.gzip, path));
    }
}

/// Each time into a new directory; making and removing it does not count.
fn into_directory(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, run: impl Fn(&Path)) {
    group.bench_function(name, |bencher| {
        bencher.iter_batched(
            || tempfile::tempdir_in("/dev/shm").expect("a directory in /dev/shm"),
            |dir| {
                run(dir.path());
                dir
            },
            BatchSize::PerIteration,
        );
    });
}

fn list(tar: &[u8]) {
    let mut reader = TarReader::new(tar);
    while reader.next_entry().expect("read").is_some() {}
}

fn drain(blob: &[u8]) {
    let mut stream = Decompressed::new(blob, Accept::Layer).expect("open");
    let mut buffer = vec![0; 256 * 1024];
    while stream.read(&mut buffer).expect("decompress") > 0 {}
}

fn gnu_tar(mode: &str, archive: &[u8], path: &Path) {
    let mut tar = Command::new("tar")
        .args([mode, "--same-owner", "-p", "-C"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("run tar: install tar");
    tar.stdin.take().expect("stdin").write_all(archive).expect("feed tar");
    assert!(tar.wait().expect("wait for tar").success());
}

/// Like the node_modules of a web application: many directories, files of one to seven kilobytes.
fn small_files() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for dir in 0..1000 {
        append(&mut builder, &format!("app/node_modules/package-{dir}/"), 0);
        for file in 0..20 {
            let path = format!("app/node_modules/package-{dir}/file-{file}.js");
            append(&mut builder, &path, 1024 + (dir * 7919 + file * 104_729) % 6000);
        }
    }
    builder.into_inner().expect("write tar")
}

fn large_files() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for file in 0..20 {
        append(&mut builder, &format!("usr/lib/large-{file}.so"), 10_000_000);
    }
    builder.into_inner().expect("write tar")
}

fn append(builder: &mut tar::Builder<Vec<u8>>, path: &str, size: usize) {
    let is_dir = path.ends_with('/');
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(if is_dir { tar::EntryType::Directory } else { tar::EntryType::Regular });
    header.set_path(path).expect("set path");
    header.set_size(size as u64);
    header.set_mode(if is_dir { 0o755 } else { 0o644 });
    header.set_mtime(1_700_000_000);
    header.set_cksum();
    builder.append(&header, &text(size)[..]).expect("append");
}

/// Bytes that compress about as well as program text.
fn text(size: usize) -> Vec<u8> {
    const WORDS: &[&str] = &["function ", "return ", "const ", "=> {\n", "value", "index", "this.", ";\n"];
    let mut state = size as u32;
    let mut text = Vec::with_capacity(size + 32);
    while text.len() < size {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        write!(text, "{}{:x} ", WORDS[(state >> 29) as usize], state >> 22).expect("write");
    }
    text.truncate(size);
    text
}
