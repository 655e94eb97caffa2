//! Headers that disagree about where a file ends, so that one reader sees files where another sees content.

use forge_store::layer::{EntryKind, TarReader};

use crate::archive::ground::Ground;
use crate::archive::{Archive, Magic, Member};

/// Names and contents as the reader gives them.
fn read(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut reader = TarReader::new(archive);
    let mut files = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let mut content = Vec::new();
        while let Some(piece) = reader.next_piece().unwrap() {
            content.extend_from_slice(piece.bytes);
        }
        assert!(entry.kind == EntryKind::Regular && entry.size == content.len() as u64);
        files.push((String::from_utf8(entry.path).unwrap(), content));
    }
    files
}

/// A tar, padded: as content it must never be taken for entries.
fn inner() -> Vec<u8> {
    Archive::new().file("smuggled", "evil").bytes()
}

#[test]
fn the_pax_size_counts_whatever_the_header_says() {
    let inner = inner();
    let size = inner.len().to_string();
    for header_size in [0, 1, 512, 0o7777777] {
        let archive = Archive::new()
            .pax(&[("size", size.as_bytes())])
            .add(Member::file("outer", &inner).size(header_size))
            .file("next", "x")
            .end();
        assert_eq!(read(&archive), [("outer".into(), inner.clone()), ("next".into(), b"x".to_vec())]);
    }
}

#[test]
fn the_pax_size_is_the_file_s_and_not_a_long_name_s() {
    let inner = inner();
    let size = inner.len().to_string();
    let archive = Archive::new()
        .pax(&[("size", size.as_bytes())])
        .long_name(b"long")
        .add(Member::file("outer", &inner).size(0))
        .file("next", "x")
        .end();
    assert_eq!(read(&archive), [("long".into(), inner.clone()), ("next".into(), b"x".to_vec())]);
    let archive = Archive::new()
        .long_name(b"long")
        .pax(&[("size", size.as_bytes())])
        .long_link(b"unused")
        .add(Member::file("outer", &inner).size(0))
        .end();
    assert_eq!(read(&archive), [("long".into(), inner)]);
}

#[test]
fn only_regular_files_have_data() {
    let ground = Ground::new();
    let mut archive = Archive::new().file("f", "x");
    for kind in *b"123456" {
        let member = Member::device(kind, &format!("k{}", char::from(kind)), 1, 3).link("f").size(512);
        archive = archive.add(member);
        archive = archive.pax(&[("size", b"1024")]).add(Member::dir(format!("d{}", char::from(kind))));
    }
    ground.layer(&archive.end()).unwrap();
    assert!(ground.exists("k6") && ground.exists("d6"));
}

#[test]
fn sizes_that_are_none_are_refused() {
    for size in ["-1", "9223372036854775808", "18446744073709551616", "1.0", "0x1", " 1", "+1", "1 "] {
        let archive = Archive::new().pax(&[("size", size.as_bytes())]).file("f", "").end();
        assert!(Ground::new().layer(&archive).is_err(), "{size}");
    }
    for size in [-1, i64::MIN] {
        let member = Member::file("f", "").magic(Magic::Gnu).base_256(124, 12, size);
        assert!(Ground::new().layer(&Archive::new().add(member).end()).is_err());
    }
    // Claimed and not there: no memory is taken for it, and nothing is believed.
    for size in [1 << 33, i64::MAX] {
        let member = Member::file("f", "").magic(Magic::Gnu).base_256(124, 12, size);
        assert!(Ground::new().layer(&Archive::new().add(member).raw("x").bytes()).is_err());
    }
}
