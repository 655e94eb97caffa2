//! Blobs: the same bytes however they were made, and what GNU gzip, zstd and Python make of them.

mod judges;

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use forge_store::layer::{
    BlockKey, BlockSeal, Compression, FileTimes, GzipLevel, KnownBlocks, PackOptions, Packed, PackedBlock,
    Packer, WriteOptions, ZstdLevel, pack_tree,
};
use forge_store::{DiffId, Digest, Threads};
use judges::fixture::Fixture;
use proptest::prelude::*;
use tempfile::TempDir;

fn gzip() -> Compression {
    Compression::Gzip(GzipLevel::default())
}

fn zstd() -> Compression {
    Compression::Zstd(ZstdLevel::default())
}

fn threads(count: usize) -> Threads {
    Threads::new(NonZeroUsize::new(count).unwrap())
}

/// Packs bytes in writes of the given sizes, repeated.
fn pack(bytes: &[u8], compression: Compression, count: usize, writes: &[usize]) -> (Vec<u8>, Packed) {
    let mut packer = Packer::new(Vec::new(), compression, threads(count), None).unwrap();
    let mut rest = bytes;
    for size in writes.iter().cycle() {
        let (now, later) = rest.split_at((*size).min(rest.len()));
        packer.write_all(now).unwrap();
        packer.flush().unwrap();
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    packer.finish().unwrap()
}

/// Bytes of several kinds: text-like, constant, and noise, which does not compress.
fn sample(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut noise = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    };
    let mut bytes = Vec::with_capacity(length + 64);
    while bytes.len() < length {
        match bytes.len() / 100_000 % 3 {
            0 => bytes.extend_from_slice(format!("{} words of {}\n", noise() % 1000, noise() % 7).as_bytes()),
            1 => bytes.extend_from_slice(&[b'z'; 64]),
            _ => bytes.extend_from_slice(&noise().to_le_bytes()),
        }
    }
    bytes.truncate(length);
    bytes
}

#[test]
fn what_is_packed_is_described_exactly() {
    let bytes = sample(3_000_001);
    for compression in [Compression::None, gzip(), zstd()] {
        let (blob, packed) = pack(&bytes, compression, 2, &[usize::MAX]);
        let expected = Packed {
            diff_id: DiffId::new(Digest::of(&bytes)),
            uncompressed_size: 3_000_001,
            blob_digest: Digest::of(&blob),
            blob_size: blob.len() as u64,
            blocks: Vec::new(),
        };
        assert_eq!(packed, expected);
        assert_eq!(blob == bytes, compression == Compression::None);
    }
}

#[test]
fn gnu_gzip_and_python_read_all_members() {
    let dir = TempDir::new().unwrap();
    let (raw, path) = (dir.path().join("raw"), dir.path().join("blob.gz"));
    for (level, length) in
        [(6, 0), (6, 1), (6, 524_288), (6, 524_289), (1, 2_000_000), (9, 700_000), (0, 700_000)]
    {
        let bytes = sample(length);
        let compression = Compression::Gzip(GzipLevel::new(level).unwrap());
        let (blob, _) = pack(&bytes, compression, 2, &[usize::MAX]);
        fs::write(&path, &blob).unwrap();
        fs::write(&raw, &bytes).unwrap();
        judges::run("gzip", "gzip", ["-t", path.to_str().unwrap()]);
        let unpacked = judges::run("gzip", "gzip", ["-dc", path.to_str().unwrap()]).stdout;
        assert!(unpacked == bytes, "level {level}, {length} bytes");
        judges::python(
            "import sys, gzip\n\
             assert gzip.open(sys.argv[1]).read() == open(sys.argv[2], 'rb').read()\n",
            &[&path, &raw],
        );
    }
}

#[test]
fn zstd_reads_all_frames() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("blob.zst");
    for length in [0, 1, 1_048_576, 3_333_333] {
        let bytes = sample(length);
        fs::write(&path, pack(&bytes, zstd(), 2, &[usize::MAX]).0).unwrap();
        let unpacked = judges::run("zstd", "zstd", ["-dc", path.to_str().unwrap()]).stdout;
        assert!(unpacked == bytes, "{length} bytes");
    }
}

/// Within the size that GNU gzip makes of it, and three in a hundred.
#[test]
fn gzip_is_about_as_small_as_gnu_gzip() {
    let dir = TempDir::new().unwrap();
    let raw = dir.path().join("raw");
    let program = fs::read(std::env::current_exe().unwrap()).unwrap();
    let bytes = &program[..program.len().min(8_000_000)];
    fs::write(&raw, bytes).unwrap();
    let theirs = judges::run("gzip", "gzip", ["-6", "-nc", raw.to_str().unwrap()]).stdout.len();
    let ours = pack(bytes, gzip(), 2, &[usize::MAX]).0.len();
    assert!(ours * 100 <= theirs * 103, "{ours} bytes, gzip {theirs}");
}

/// Compressed bytes are part of images' names: they may change only on purpose.
#[test]
fn fixed_bytes_have_fixed_blobs() {
    let bytes = sample(1_500_000);
    let digest = |compression| pack(&bytes, compression, 2, &[usize::MAX]).1.blob_digest.to_string();
    assert_eq!(digest(gzip()), "sha256:2976a2e6e4a4d17e9edd0cd56f05241dc7c65201809c679a837aff4f8b6b9bbb");
    assert_eq!(digest(zstd()), "sha256:8faa46ac5c45bc27089e0e1bdb4074f895e4265349a77fdcadd410608176d4c8");
}

/// Blocks of earlier blobs, some of them harmed.
#[derive(Default)]
struct Memory {
    blocks: HashMap<[u8; 32], (Vec<u8>, BlockSeal)>,
    found: AtomicUsize,
}

impl Memory {
    fn learn(&mut self, blob: &[u8], packed: &Packed) {
        for PackedBlock { key, offset, size, seal } in &packed.blocks {
            let bytes = blob[*offset as usize..][..*size].to_vec();
            self.blocks.insert(*key.as_bytes(), (bytes, *seal));
        }
    }
}

impl KnownBlocks for Memory {
    fn find(&self, key: &BlockKey) -> Option<(Vec<u8>, BlockSeal)> {
        let found = self.blocks.get(key.as_bytes()).cloned();
        self.found.fetch_add(usize::from(found.is_some()), Ordering::Relaxed);
        found
    }
}

fn pack_knowing(bytes: &[u8], compression: Compression, memory: Memory) -> (Vec<u8>, Packed, usize) {
    let memory = Arc::new(memory);
    let mut packer = Packer::new(Vec::new(), compression, threads(2), Some(memory.clone())).unwrap();
    packer.write_all(bytes).unwrap();
    let (blob, packed) = packer.finish().unwrap();
    (blob, packed, memory.found.load(Ordering::Relaxed))
}

#[test]
fn known_blocks_give_the_bytes_that_compressing_gives() {
    let old = sample(9_000_000);
    let new = [&old[..3_000_000], b"a change in the middle", &old[3_000_100..]].concat();
    for compression in [gzip(), zstd()] {
        let (blob, packed, found) = pack_knowing(&old, compression, Memory::default());
        assert_eq!(found, 0);
        let mut memory = Memory::default();
        memory.learn(&blob, &packed);
        let cold = pack(&new, compression, 2, &[usize::MAX]).0;
        let (edited, packed, found) = pack_knowing(&new, compression, memory);
        assert!(edited == cold, "{compression:?}");
        let fresh = packed.blocks.len() - found;
        assert!((1..=5).contains(&fresh), "{fresh} of {} blocks were compressed", packed.blocks.len());
        let ends: Vec<u64> = packed.blocks.iter().map(|block| block.offset + block.size as u64).collect();
        assert_eq!(ends.last(), Some(&(edited.len() as u64)));
    }
}

#[test]
fn harmed_blocks_are_compressed_anew() {
    let bytes = sample(3_000_000);
    for compression in [gzip(), zstd()] {
        let (blob, packed, _) = pack_knowing(&bytes, compression, Memory::default());
        let mut memory = Memory::default();
        memory.learn(&blob, &packed);
        for (at, (bytes, seal)) in memory.blocks.values_mut().enumerate() {
            match at % 3 {
                0 => bytes[at % 7] ^= 1,
                1 => bytes.truncate(bytes.len() - 1),
                _ => *seal = BlockSeal::from_bytes([at as u8; 32]),
            }
        }
        let (again, _, found) = pack_knowing(&bytes, compression, memory);
        assert!(found > 1 && again == blob);
    }
}

#[test]
fn a_level_knows_its_own_blocks_only() {
    let bytes = sample(1_000_000);
    let (blob, packed, _) = pack_knowing(&bytes, gzip(), Memory::default());
    let mut memory = Memory::default();
    memory.learn(&blob, &packed);
    let fastest = Compression::Gzip(GzipLevel::new(1).unwrap());
    let (other, _, found) = pack_knowing(&bytes, fastest, memory);
    assert_eq!(found, 0);
    assert!(other == pack(&bytes, fastest, 1, &[usize::MAX]).0);
}

#[test]
fn an_output_that_refuses_ends_the_packing() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let bytes = sample(5_000_000);
    for compression in [Compression::None, gzip(), zstd()] {
        let mut packer = Packer::new(Full(100_000), compression, threads(3), None).unwrap();
        let written = packer.write_all(&bytes);
        let error = written.and_then(|()| packer.finish().map(drop)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }
}

#[test]
fn a_tree_is_packed_as_it_is_written() {
    let top = TempDir::new().unwrap();
    let tree = Fixture::new(top.path());
    tree.all_shapes();
    tree.times();
    let write = WriteOptions { times: FileTimes::Clamped(0) };
    let tar = forge_store::layer::write_tree(tree.root.dir(), tree.xattrs, write, Vec::new()).unwrap();
    let options = PackOptions { compression: gzip(), threads: Threads::available(), write };
    let (blob, packed) = pack_tree(tree.root.dir(), tree.xattrs, options, Vec::new()).unwrap();
    assert_eq!(packed.diff_id, DiffId::new(Digest::of(&tar)));
    assert_eq!(pack(&tar, gzip(), 1, &[usize::MAX]).0, blob);
}

#[test]
fn levels_are_checked() {
    assert!(GzipLevel::new(10).is_none() && ZstdLevel::new(0).is_none() && ZstdLevel::new(23).is_none());
    assert_eq!(Threads::new(NonZeroUsize::MAX).get(), Threads::MAX);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn neither_threads_nor_writes_change_the_bytes(
        length in 0usize..1_400_000,
        level in 0u8..=9,
        writes in proptest::collection::vec(1usize..200_000, 1..5),
    ) {
        let bytes = sample(length);
        let compressions = [Compression::Gzip(GzipLevel::new(level).unwrap()), zstd(), Compression::None];
        for compression in compressions {
            let (whole, packed) = pack(&bytes, compression, 1, &[usize::MAX]);
            for count in [1, 2, 4] {
                prop_assert!(pack(&bytes, compression, count, &writes) == (whole.clone(), packed.clone()));
            }
        }
    }
}
