//! eStargz blobs, as a reader of ours that shares nothing with their writer takes them apart, and as everybody else
//! reads them.

mod judges;

use std::fs;
use std::num::NonZeroUsize;

use forge_store::layer::{GzipLevel, Packed, WriteOptions, to_estargz, write_tree};
use forge_store::rootdir::FileKind;
use forge_store::{DiffId, Digest, Threads};
use judges::fixture::{CAP_NET_RAW, Fixture};
use tempfile::TempDir;

fn convert(tar: &[u8], threads: usize) -> (Vec<u8>, Packed, Digest) {
    let threads = Threads::new(NonZeroUsize::new(threads).unwrap());
    to_estargz(tar, GzipLevel::default(), threads, Vec::new()).unwrap()
}

fn noise(length: usize) -> Vec<u8> {
    (0..length as u32).map(|n| (n.wrapping_mul(n).wrapping_add(n >> 3) >> 5) as u8).collect()
}

/// One of everything whose name JSON can hold, and files around the size of a chunk.
fn tar() -> Vec<u8> {
    const CHUNK: usize = 4 << 20;
    let top = TempDir::new().unwrap();
    let tree = Fixture::new(top.path());
    tree.file("bin/su", 0o4755, b"setuid");
    tree.hard_link("bin/zz-su", "bin/su");
    tree.link("bin/sh", "/bin/../bin/busybox");
    tree.file("ping", 0o755, b"capable");
    tree.root.parent_of("ping", None).unwrap().at().set_xattr("security.capability", &CAP_NET_RAW).unwrap();
    tree.dir("tmp", 0o1777);
    tree.node("dev/log", FileKind::Fifo, 0o622, 0, 0);
    tree.node("dev/null", FileKind::Char, 0o666, 1, 3);
    tree.file("unicode-\u{e9}\u{1f980}", 0o644, b"UTF-8");
    tree.file(["d"; 5].map(|d| d.repeat(200)).join("/"), 0o644, b"a long name");
    tree.whiteout("gone");
    tree.opaque("opaque");
    for size in [0, 1, 511, 512, 513, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 77] {
        tree.file(format!("sizes/{size}"), 0o644, &noise(size));
    }
    tree.times();
    write_tree(tree.root.dir(), tree.xattrs, WriteOptions::default(), Vec::new()).unwrap()
}

#[test]
fn a_reader_of_the_format_finds_every_file() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("blob");
    let (blob, packed, table) = convert(&tar(), 2);
    fs::write(&path, &blob).unwrap();
    let said = judges::python(include_str!("judges/read_estargz.py"), &[&path]).stdout;
    assert_eq!(String::from_utf8(said).unwrap().trim(), table.to_string());
    assert_eq!((packed.blob_digest, packed.blob_size), (Digest::of(&blob), blob.len() as u64));

    // GNU gzip and tar take it for an ordinary layer, and the DiffID is that of all it unpacks to.
    let plain = judges::run("gzip", "gzip", ["-dc".as_ref(), path.as_os_str()]).stdout;
    assert_eq!(packed.diff_id, DiffId::new(Digest::of(&plain)));
    assert_eq!(packed.uncompressed_size, plain.len() as u64);
    let listed = judges::tar(["-tzf".as_ref(), path.as_os_str()]);
    assert!(listed.stderr.is_empty(), "{}", String::from_utf8_lossy(&listed.stderr));
}

#[test]
fn threads_do_not_change_the_bytes() {
    let tar = tar();
    let one = convert(&tar, 1);
    assert_eq!(convert(&tar, 2), one);
    assert_eq!(convert(&tar, 7), one);
}

/// A layer may be converted again: nothing is there twice.
#[test]
fn what_was_converted_before_stays_the_same() {
    let (blob, packed, table) = convert(&tar(), 2);
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("blob");
    fs::write(&path, &blob).unwrap();
    let plain = judges::run("gzip", "gzip", ["-dc".as_ref(), path.as_os_str()]).stdout;
    assert_eq!(convert(&plain, 2), (blob, packed, table));
}

#[test]
fn sparse_files_of_others_are_written_out() {
    let dir = TempDir::new().unwrap();
    let file = fs::File::create(dir.path().join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"in the middle", 5 << 20).unwrap();
    file.set_len(9 << 20).unwrap();
    let (archive, path) = (dir.path().join("a.tar"), dir.path().join("blob"));
    let args = ["--sparse", "--format=pax", "-C", dir.path().to_str().unwrap(), "-cf"];
    judges::tar(args.iter().copied().chain([archive.to_str().unwrap(), "sparse"]));
    let archive = fs::read(archive).unwrap();
    assert!(archive.len() < 1 << 20, "GNU tar leaves the holes out");
    fs::write(&path, convert(&archive, 2).0).unwrap();
    judges::python(include_str!("judges/read_estargz.py"), &[&path]);
}

#[test]
fn a_name_that_json_cannot_hold_is_refused() {
    let top = TempDir::new().unwrap();
    let tree = Fixture::new(top.path());
    tree.file(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"na\xefve"), 0o644, b"");
    let tar = write_tree(tree.root.dir(), tree.xattrs, WriteOptions::default(), Vec::new()).unwrap();
    let error = to_estargz(&tar[..], GzipLevel::default(), Threads::available(), Vec::new()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "file na\\xefve cannot be in an estargz layer: its name is not UTF-8; use another compression"
    );
}
