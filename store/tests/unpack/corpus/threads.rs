//! Files are written by several threads: neither the tree nor the error may depend on how many, or on which is faster.

use forge_store::layer::UnpackOptions;
use forge_store::tree::OverlayXattrs;

use crate::archive::ground::{Ground, Listing, list};
use crate::archive::{Archive, Member, generate};

/// The tree that so many writers leave, or the error.
fn unpacked(archive: &[u8], writers: usize) -> Result<Listing, String> {
    let ground = Ground::new();
    let options = UnpackOptions { writers, ..UnpackOptions::layer(OverlayXattrs::Trusted) };
    ground.unpack(archive, &options).map(|_| list(&ground.tree())).map_err(|error| error.to_string())
}

/// An ACL that the kernel refuses, so that a writer fails.
fn add_bad(archive: Archive, path: &str) -> Archive {
    archive.pax(&[("SCHILY.xattr.system.posix_acl_access", b"no ACL")]).file(path, "x")
}

#[test]
fn the_tree_does_not_depend_on_the_writers() {
    for seed in 0..50 {
        let archive = generate::archive(20_000 + seed, "top", b"07S");
        let alone = unpacked(&archive, 0).unwrap();
        for writers in [1, 4] {
            assert_eq!(unpacked(&archive, writers).unwrap(), alone, "seed {seed}");
        }
    }
}

#[test]
fn replaced_and_linked_while_being_written() {
    let mut archive = Archive::new();
    for n in 0..300 {
        archive = archive
            .add(Member::file("same", format!("{n}")).uid(n).mode(0o4755))
            .link(format!("link-{n}"), "same");
    }
    let archive = archive.dir("same").file("same/x", "last").end();
    let alone = unpacked(&archive, 0).unwrap();
    assert!(alone["link-299"].starts_with("- 4755 299:0"));
    for writers in [1, 4] {
        assert_eq!(unpacked(&archive, writers).unwrap(), alone);
    }
}

#[test]
fn the_first_error_of_the_archive_is_told() {
    let mut archive = Archive::new();
    for n in 0..200 {
        let path = format!("file-{n}");
        archive = if n == 90 || n > 91 { add_bad(archive, &path) } else { archive.file(path, "x") };
    }
    // What fails behind it is another matter, whoever notices it.
    let archive = archive.add(Member::new(b'V', "unsupported")).bytes();
    // Often, so that each thread comes to be the fastest.
    for writers in [0, 1, 2].into_iter().chain([4; 30]) {
        let error = unpacked(&archive, writers).unwrap_err();
        assert!(error.contains("file-90:"), "{writers} writers: {error}");
    }
}
