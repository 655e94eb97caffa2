//! Compression, the archive's end, and the DiffID over all of it.

use std::cell::Cell;
use std::io::{self, Read, Write};

use forge_store::layer::unpack::UnpackError;
use forge_store::layer::{Accept, Decompressed, Encoding, UnpackOptions, Unpacked, unpack, unpack_blob};
use forge_store::tree::OverlayXattrs;
use forge_store::{DiffId, Digest};

use crate::archive::ground::Ground;
use crate::archive::{Archive, Member};

fn options() -> UnpackOptions {
    UnpackOptions::layer(OverlayXattrs::Trusted)
}

fn diff_id(tar: &[u8]) -> DiffId {
    DiffId::new(Digest::of(tar))
}

fn blob(ground: &Ground, blob: &[u8], tar: &[u8]) -> Result<Unpacked, UnpackError> {
    unpack_blob(blob, &diff_id(tar), &ground.root(), &options())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

fn sample() -> Vec<u8> {
    Archive::new().dir("d").file("d/f", "content".repeat(1000)).symlink("l", "d/f").end()
}

#[test]
fn layers_of_every_compression() {
    let tar = sample();
    let members = [gzip(&tar[..1000]), gzip(b""), gzip(&tar[1000..])].concat();
    let skippable = b"\x50\x2a\x4d\x18\x03\0\0\0abc";
    let frames = [&skippable[..], &zstd(&tar[..700]), skippable, &zstd(&tar[700..]), skippable].concat();
    for bytes in [tar.clone(), gzip(&tar), members, zstd(&tar), frames] {
        let ground = Ground::new();
        let unpacked = blob(&ground, &bytes, &tar).unwrap();
        assert_eq!(unpacked.stream_bytes, tar.len() as u64);
        assert_eq!(ground.read("d/f"), "content".repeat(1000));
    }
}

#[test]
fn archives_of_every_compression() {
    let tar = sample();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&tar).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&tar).unwrap();
    let (bzip2, xz) = (bzip2.finish().unwrap(), xz.finish().unwrap());
    let double = [bzip2.clone(), xz.clone()].map(|stream| [stream.clone(), stream].concat());
    for (bytes, encoding) in [
        (&tar, Encoding::Identity),
        (&gzip(&tar), Encoding::Gzip),
        (&bzip2, Encoding::Bzip2),
        (&xz, Encoding::Xz),
    ] {
        let stream = Decompressed::new(&bytes[..], Accept::Archive).unwrap();
        assert_eq!(stream.encoding(), encoding);
        let ground = Ground::new();
        unpack(stream, &ground.root(), &options()).unwrap();
        assert!(ground.exists("d/f"));
    }
    for bytes in double {
        let mut both = Vec::new();
        Decompressed::new(&bytes[..], Accept::Archive).unwrap().read_to_end(&mut both).unwrap();
        assert!(both == [tar.clone(), tar.clone()].concat());
    }
    for bytes in [bzip2, xz] {
        let error = blob(&Ground::new(), &bytes, &tar).unwrap_err();
        assert!(error.to_string().contains("use gzip or zstd"), "{error}");
    }
}

#[test]
fn cut_or_damaged_streams_are_refused() {
    let tar = sample();
    for packed in [gzip(&tar), zstd(&tar)] {
        for cut in [1, 5, packed.len() / 2] {
            assert!(blob(&Ground::new(), &packed[..packed.len() - cut], &tar).is_err());
        }
        let garbage = [&packed[..], b"garbage behind the end"].concat();
        assert!(blob(&Ground::new(), &garbage, &tar).is_err());
        let mut damaged = packed.clone();
        damaged[packed.len() / 2] ^= 0x55;
        assert!(blob(&Ground::new(), &damaged, &tar).is_err());
    }
}

#[test]
fn a_window_over_the_limit_is_refused() {
    // A frame header alone: window descriptor 2^28 and 2^27 (RFC 8878, 3.1.1.1.2), one raw last block without data.
    let frame = |log: u8| [0x28, 0xb5, 0x2f, 0xfd, 0x00, (log - 10) << 3, 0x01, 0, 0];
    let error = blob(&Ground::new(), &frame(28), b"").unwrap_err();
    assert!(error.to_string().contains("cannot decompress zstd"), "{error}");
    blob(&Ground::new(), &frame(27), b"").unwrap();
}

#[test]
fn an_archive_ends_where_go_s_ends() {
    let file = || Archive::new().file("f", "x");
    let zeros = [0; 512];
    for (archive, ok) in [
        (file().bytes(), true),
        (file().raw(zeros).bytes(), true),
        (file().end(), true),
        (file().raw([0; 10 * 1024]).bytes(), true),
        (file().raw([0; 1024]).raw("garbage").bytes(), true),
        (Archive::new().file("f", "x").raw([0; 1024]).file("g", "second archive").end(), true),
        (file().raw(&zeros[..511]).bytes(), false),
        (file().raw(zeros).raw("x").bytes(), false),
        (file().raw("x").bytes(), false),
        // The last file's padding may be missing.
        (file().bytes()[..513].to_vec(), true),
        (file().bytes()[..1000].to_vec(), true),
        (file().bytes()[..512].to_vec(), false),
        (file().bytes()[..511].to_vec(), false),
        (Vec::new(), true),
    ] {
        let ground = Ground::new();
        let result = blob(&ground, &archive, &archive);
        assert_eq!(result.is_ok(), ok, "{} bytes: {result:?}", archive.len());
        assert!(!ground.exists("g"));
        if let Ok(unpacked) = result {
            assert_eq!(unpacked.stream_bytes, archive.len() as u64);
        }
    }
}

#[test]
fn cut_anywhere_an_archive_is_whole_entries_or_an_error() {
    let archive = Archive::new()
        .file("a", "x".repeat(700))
        .pax(&[("path", b"b")])
        .file("x", "")
        .long_name(b"c")
        .file("x", "y".repeat(512))
        .end();
    let whole = [0, 1536, 3072, 5120, 5632, 6144];
    for cut in (0..archive.len()).step_by(512) {
        let result = Ground::new().layer(&archive[..cut]);
        assert_eq!(result.is_ok(), whole.contains(&cut), "{cut}: {result:?}");
    }
}

#[test]
fn what_is_passed_over_must_be_there_too() {
    let archive = Archive::new().file(".wh.gone", "x".repeat(2000)).file("f", "").bytes();
    for cut in [513, 1024, 2000] {
        let error = Ground::new().layer(&archive[..cut]).unwrap_err();
        assert!(error.to_string().contains("ends in the middle of a file"), "{cut}: {error}");
    }
}

#[test]
fn a_diff_id_that_is_another_layer_s_is_refused() {
    let (base, evil) = (sample(), Archive::new().file("d/f", "evil").end());
    let behind = [&base[..], b"hidden behind the end"].concat();
    for tar in [&evil, &behind] {
        for packed in [tar.clone(), gzip(tar), zstd(tar)] {
            match blob(&Ground::new(), &packed, &base) {
                Err(UnpackError::DiffId { expected, found }) => {
                    assert_eq!((expected, found), (diff_id(&base), diff_id(tar)));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Counts what is read of a stream.
struct Counted<'a, R>(R, &'a Cell<u64>);

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(bytes)?;
        self.1.set(self.1.get() + count as u64);
        Ok(count)
    }
}

#[test]
fn a_bomb_is_stopped_by_its_claim() {
    let header = Archive::new().add(Member::new(b'0', "zeros").octal(124, 12, 10 << 30)).bytes();
    let count = Cell::new(0);
    let bomb = Counted(header.chain(io::repeat(0).take(10 << 30)), &count);
    let mut options = options();
    options.limits.bytes = 1 << 30;
    let ground = Ground::new();
    let error = unpack(bomb, &ground.root(), &options).unwrap_err();
    assert!(matches!(error, UnpackError::TooLarge { limit, .. } if limit == 1 << 30), "{error}");
    assert!(count.get() < 1 << 20, "{}", count.get());
    assert!(!ground.exists("zeros"));
}

#[test]
fn a_bomb_is_stopped_by_its_bytes() {
    // 10 GiB of zeros, of which the first kilobyte already is the archive's end.
    let frame = zstd(&vec![0; 64 << 20]);
    let bomb = frame.repeat(160);
    let mut options = options();
    options.limits.bytes = 32 << 20;
    let error = unpack_blob(&bomb[..], &diff_id(b""), &Ground::new().root(), &options).unwrap_err();
    assert!(matches!(error, UnpackError::TooLarge { .. }), "{error}");
    // Many small files, each within the quota.
    let mut archive = Archive::new();
    for n in 0..100 {
        archive = archive.file(format!("{n}"), "x".repeat(1000));
    }
    options.limits.bytes = 50_000;
    let error = Ground::new().unpack(&archive.clone().end(), &options).unwrap_err();
    assert!(matches!(error, UnpackError::TooLarge { limit: 50_000, .. }), "{error}");
    options.limits = forge_store::layer::UnpackLimits { entries: 99, ..Default::default() };
    let error = Ground::new().unpack(&archive.end(), &options).unwrap_err();
    assert!(matches!(error, UnpackError::TooLarge { limit: 99, .. }), "{error}");
    // Directories that one name implies count too.
    let deep = Archive::new().pax(&[("path", &b"d/".repeat(200)[..399])]).file("x", "").end();
    assert!(Ground::new().unpack(&deep, &options).is_err());
}
