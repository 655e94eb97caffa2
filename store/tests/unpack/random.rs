//! Any bytes at all: an error or a tree, never a panic, and nothing outside the tree.

use forge_store::layer::{Accept, Decompressed, TarReader};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::archive::generate::archive;
use crate::archive::ground::Ground;

/// Reads to the first error or the end. Gives how many bytes of files there were.
fn read(bytes: &[u8]) -> u64 {
    let mut reader = TarReader::new(bytes);
    let mut total = 0;
    while let Ok(Some(entry)) = reader.next_entry() {
        assert!(entry.path.len() <= 4095 && !entry.path.contains(&0));
        assert!(entry.mtime.nsec < 1_000_000_000);
        let mut end = 0;
        while let Ok(Some(piece)) = reader.next_piece() {
            assert!(piece.offset >= end && !piece.bytes.is_empty());
            end = piece.offset + piece.bytes.len() as u64;
            total += piece.bytes.len() as u64;
        }
        assert!(end <= entry.size);
    }
    total
}

/// Sums of headers made right again, so that the damage is seen by more than the checksum.
fn with_sums(mut bytes: Vec<u8>) -> Vec<u8> {
    for block in bytes.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    bytes
}

/// The same cases in every run: a failure is one for whoever runs it next, too.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        prop_assert!(read(&bytes) <= bytes.len() as u64);
    }

    #[test]
    fn damaged_archives(
        seed in any::<u64>(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = archive(seed, "top", b"07S");
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len() - cut.index(bytes.len()) / 4);
        read(&bytes);
        let bytes = with_sums(bytes);
        prop_assert!(read(&bytes) <= bytes.len() as u64);
    }

    #[test]
    fn random_records(data in "[0-9]{1,3} (path|size|mtime|uid|GNU.sparse.(map|major|size|offset)|SCHILY.xattr.user.x)=[0-9,.\n=-]{0,20}\n") {
        let bytes = crate::archive::Archive::new().extended(b'x', data.as_bytes()).file("f", "content").end();
        read(&bytes);
    }
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn damaged_archives_unpack_inside(
        seed in any::<u64>(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut bytes = archive(seed, "top", b"07S");
        for (at, byte) in damage {
            // Mostly headers: data are only data.
            let at = at.index(bytes.len() / 512) * 512 + usize::from(byte) * 2 % 512;
            bytes[at] = byte;
        }
        let bytes = with_sums(bytes);
        let ground = Ground::new();
        let _ = ground.layer(&bytes);
        let _ = ground.archive(&bytes);
    }

    #[test]
    fn damaged_compression(
        seed in any::<u64>(),
        format in 0usize..4,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let tar = archive(seed, "top", b"0");
        let mut bytes = compressed(&tar, format);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut plain = Vec::new();
        let limit = 1 << 20;
        if let Ok(stream) = Decompressed::new(&bytes[..], Accept::Archive) {
            let _ = std::io::Read::read_to_end(&mut std::io::Read::take(stream, limit), &mut plain);
        }
        read(&plain);
    }
}

fn compressed(tar: &[u8], format: usize) -> Vec<u8> {
    use std::io::Read;
    let mut bytes = Vec::new();
    match format {
        0 => flate2::read::GzEncoder::new(tar, flate2::Compression::fast()).read_to_end(&mut bytes),
        1 => zstd::stream::read::Encoder::new(tar, 1).and_then(|mut encoder| encoder.read_to_end(&mut bytes)),
        2 => bzip2::read::BzEncoder::new(tar, bzip2::Compression::fast()).read_to_end(&mut bytes),
        _ => liblzma::read::XzEncoder::new(tar, 1).read_to_end(&mut bytes),
    }
    .unwrap();
    bytes
}
