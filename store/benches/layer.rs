//! How fast a tree is walked, hashed and packed: `cargo bench -p forge-store --bench layer -- [DIRECTORY]`.
//!
//! Each line is the best of three runs over the directory (`/usr/bin` by default), beside what GNU tar and the
//! compressors of the system make of the same. The first run brings the files into memory and is not counted.

#![allow(clippy::print_stdout, reason = "it reports")]

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use forge_store::layer::{
    Compression, GzipLevel, PackOptions, WriteOptions, ZstdLevel, pack_tree, write_tree,
};
use forge_store::tree::{
    ContentOptions, Format, MergedTree, Mtimes, OverlayXattrs, ReadOptions, Walk, XattrFilter, content_of,
};
use forge_store::{RootDir, Threads};

const RUNS: usize = 3;

struct Bench {
    path: PathBuf,
    root: RootDir,
    tar_bytes: u64,
    entries: usize,
}

fn main() {
    let path = std::env::args().skip(1).find(|arg| !arg.starts_with("--")).unwrap_or("/usr/bin".into());
    let root = RootDir::open_host(&path).expect("open the directory");
    let entries = walk(&root, XattrFilter::None);
    let mut bench = Bench { path: path.into(), root, tar_bytes: 0, entries };
    bench.tar_bytes = bench.pack(Compression::None).1;
    println!("{}: {} entries, {} MB of tar", bench.path.display(), entries, bench.tar_bytes / 1_000_000);
    bench.parts();
    bench.packing();
    bench.others();
}

fn walk(root: &RootDir, xattrs: XattrFilter) -> usize {
    let options = ReadOptions { format: Format::Overlay(OverlayXattrs::Trusted), xattrs };
    Walk::new(root.dir(), options).expect("walk").inspect(|entry| assert!(entry.is_ok())).count()
}

impl Bench {
    fn parts(&self) {
        let options =
            ReadOptions { format: Format::Overlay(OverlayXattrs::Trusted), xattrs: XattrFilter::Portable };
        let content = ContentOptions { mtimes: Mtimes::Ignore, owners: true };
        self.report("walk, plain", || {
            let options = ReadOptions { format: Format::Plain, xattrs: XattrFilter::None };
            Walk::new(self.root.dir(), options).expect("walk").count() as u64
        });
        self.report("walk, layer tree", || walk(&self.root, XattrFilter::Capability) as u64);
        self.report("walk, merged", || {
            let merged = MergedTree::new(vec![self.root.clone()], options);
            merged.walk("").expect("walk").count() as u64
        });
        self.report("content id", || {
            let walk = Walk::new(self.root.dir(), options).expect("walk");
            content_of(walk, content, Threads::available()).expect("hash");
            0
        });
        self.report("tar", || {
            let write = WriteOptions::default();
            write_tree(self.root.dir(), OverlayXattrs::Trusted, write, io::sink()).expect("write");
            0
        });
    }

    fn packing(&self) {
        let gzip = |level| Compression::Gzip(GzipLevel::new(level).expect("a level"));
        self.report("pack, none", || self.pack(Compression::None).1);
        for level in [1, 6, 9] {
            self.report(&format!("pack, gzip -{level}"), || self.pack(gzip(level)).1);
        }
        self.report("pack, zstd -3", || self.pack(Compression::Zstd(ZstdLevel::default())).1);
    }

    fn others(&self) {
        for command in ["cat", "gzip -6", "pigz -6", "zstd -3 -T0"] {
            let program = command.split(' ').next().unwrap_or_default();
            let found = Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok();
            if found {
                let script = format!("tar -cf - --numeric-owner -C \"$0\" . 2>/dev/null | {command} | wc -c");
                self.report(&format!("tar | {command}"), || shell(&script, &self.path));
            }
        }
    }

    fn pack(&self, compression: Compression) -> (io::Sink, u64) {
        let options =
            PackOptions { compression, threads: Threads::available(), write: WriteOptions::default() };
        let (out, packed) =
            pack_tree(self.root.dir(), OverlayXattrs::Trusted, options, io::sink()).expect("pack");
        (out, packed.blob_size)
    }

    /// Runs and prints. `work` says what came out of it: a size, a count, or nothing worth telling.
    fn report(&self, name: &str, work: impl Fn() -> u64) {
        let mut best = Duration::MAX;
        let mut result = 0;
        for _ in 0..RUNS {
            let start = Instant::now();
            result = work();
            best = best.min(start.elapsed());
        }
        let seconds = best.as_secs_f64();
        let (mb, per_entry) = (self.tar_bytes as f64 / 1e6 / seconds, seconds * 1e6 / self.entries as f64);
        println!(
            "{name:<20} {:>9.1} ms {mb:>9.1} MB/s {per_entry:>8.2} us an entry {result:>12}",
            seconds * 1e3
        );
        io::stdout().flush().expect("print");
    }
}

fn shell(script: &str, path: &Path) -> u64 {
    let output = Command::new("sh").args(["-c", script]).arg(path).output().expect("run sh");
    String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or(0)
}
