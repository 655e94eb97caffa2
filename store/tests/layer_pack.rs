//! Blobs: the same bytes however they were made, and what GNU gzip, zstd and Python make of them.

mod judges;

use std::fs;
use std::io::Write;
use std::num::NonZeroUsize;

use forge_store::layer::{
    Compression, FileTimes, GzipLevel, PackOptions, Packed, Packer, WriteOptions, ZstdLevel, pack_tree,
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
    let mut packer = Packer::new(Vec::new(), compression, threads(count)).unwrap();
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
        };
        assert_eq!(packed, expected);
        assert_eq!(blob == bytes, compression == Compression::None);
    }
}

#[test]
fn gnu_gzip_and_python_read_one_whole_member() {
    let dir = TempDir::new().unwrap();
    let (raw, path) = (dir.path().join("raw"), dir.path().join("blob.gz"));
    for (level, length) in
        [(6, 0), (6, 1), (6, 131_072), (6, 131_073), (1, 2_000_000), (9, 700_000), (0, 700_000)]
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
            "import sys, zlib\n\
             d = zlib.decompressobj(31)\n\
             assert d.decompress(open(sys.argv[1], 'rb').read()) == open(sys.argv[2], 'rb').read()\n\
             assert d.eof and not d.unused_data\n",
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
    assert_eq!(digest(gzip()), "sha256:9a7340e38cfd2b6de0e246725e391d1f2d80ba0c9417ec18c57c3a2c164aa7f0");
    assert_eq!(digest(zstd()), "sha256:d5f693529be26c5d4ddd88d42a0bfa182ca12124b1946e6e4c9e38912df80437");
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
        let mut packer = Packer::new(Full(100_000), compression, threads(3)).unwrap();
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
                prop_assert!(pack(&bytes, compression, count, &writes) == (whole.clone(), packed));
            }
        }
    }
}
