//! How fast archives are read and unpacked, beside GNU tar in the same run.
//!
//! `cargo bench -p forge-store --bench unpack`. Writes to `/dev/shm`, so that the disk is not what is measured.

#![allow(missing_docs, clippy::print_stdout)]

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use forge_store::layer::{Accept, Decompressed, TarReader, UnpackOptions, unpack, unpack_blob};
use forge_store::tree::OverlayXattrs;
use forge_store::{DiffId, Digest, RootDir};

const ROUNDS: usize = 5;

fn main() {
    for sample in
        [Sample::new("20,000 small files", small_files()), Sample::new("20 large files", large_files())]
    {
        println!("{}: {} MB of tar, {} MB of gzip", sample.name, mb(&sample.tar), mb(&sample.gzip));
        sample.measure();
    }
}

struct Sample {
    name: &'static str,
    tar: Vec<u8>,
    gzip: Vec<u8>,
    zstd: Vec<u8>,
    entries: usize,
    diff_id: DiffId,
}

impl Sample {
    fn new(name: &'static str, tar: Vec<u8>) -> Self {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        gzip.write_all(&tar).expect("compress");
        let gzip = gzip.finish().expect("compress");
        let zstd = zstd::encode_all(&tar[..], 3).expect("compress");
        let diff_id = DiffId::new(Digest::of(&tar));
        let mut reader = TarReader::new(&tar[..]);
        let entries = std::iter::from_fn(|| reader.next_entry().expect("read")).count();
        Self { name, tar, gzip, zstd, entries, diff_id }
    }

    fn measure(&self) {
        let options = UnpackOptions::layer(OverlayXattrs::Trusted);
        let open = |path: &Path| RootDir::open_host(path).expect("open directory");
        self.report("list", |_| list(&self.tar));
        self.report("gunzip", |_| drain(&self.gzip));
        self.report("unzstd", |_| drain(&self.zstd));
        self.report("unpack tar", |path| {
            unpack(&self.tar[..], &open(path), &options).expect("unpack");
        });
        for (name, blob) in [("blob, tar", &self.tar), ("blob, gzip", &self.gzip), ("blob, zstd", &self.zstd)]
        {
            self.report(name, |path| {
                unpack_blob(&blob[..], &self.diff_id, &open(path), &options).expect("unpack");
            });
        }
        self.report("GNU tar -x", |path| gnu_tar("-x", &self.tar, path));
        self.report("GNU tar -xz", |path| gnu_tar("-xz", &self.gzip, path));
    }

    /// The fastest of some rounds: the others were disturbed.
    fn report(&self, what: &str, mut run: impl FnMut(&Path)) {
        let best = (0..ROUNDS).map(|_| timed(&mut run)).min().unwrap_or_default().as_secs_f64();
        let (rate, entries) = (self.tar.len() as f64 / 1e6 / best, self.entries as f64 / best);
        println!("  {what:<12} {:>8.1} ms {rate:>8.0} MB/s {entries:>9.0} entries/s", best * 1e3);
    }
}

fn timed(run: &mut impl FnMut(&Path)) -> Duration {
    let dir = tempfile::tempdir_in("/dev/shm").expect("create directory in /dev/shm");
    let start = Instant::now();
    run(dir.path());
    start.elapsed()
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

fn mb(bytes: &[u8]) -> usize {
    bytes.len() / 1_000_000
}
