//! Malformed headers: refused and never skipped. Odd ones that every reader takes: taken.

use crate::archive::ground::Ground;
use crate::archive::{Archive, Magic, Member, pax_records};

#[track_caller]
fn refused(archive: Archive, why: &str) {
    let error = Ground::new().layer(&archive.end()).expect_err("to be refused").to_string();
    assert!(error.contains(why), "{error}");
}

#[test]
fn a_wrong_checksum() {
    let mut archive = Archive::new().file("f", "x").end();
    archive[0] ^= 1;
    assert!(Ground::new().layer(&archive).unwrap_err().to_string().contains("checksum"));
    archive[0] ^= 1;
    // Old writers added bytes as signed numbers.
    let mut archive = Archive::new().file("\u{e9}", "x").end();
    let sum = |bytes: &[u8]| bytes.iter().map(|b| i64::from(*b as i8)).sum::<i64>();
    let signed = sum(&archive[..148]) + 8 * 32 + sum(&archive[156..512]);
    archive[148..156].copy_from_slice(format!("{signed:06o}\0 ").as_bytes());
    let ground = Ground::new();
    ground.layer(&archive).unwrap();
    assert_eq!(ground.read("\u{e9}"), "x");
}

#[test]
fn records_that_do_not_parse() {
    for data in [
        &b"no length\n"[..],
        b"11 path=evil",
        b"10 path=evil\n",
        b"99 path=evil\n",
        b"0 path=evil\n",
        b"-12 path=evil\n",
        b"9 no-equals\n",
        b"8 =evil\n",
        b"12 path=evil\nrest",
        b"12 path=evil\n\0\0\0",
        b"99999999999999999999999999 path=evil\n",
        b"\xff\xff\xff",
    ] {
        let error =
            Ground::new().layer(&Archive::new().extended(b'x', data).file("f", "").end()).unwrap_err();
        assert!(error.to_string().contains("malformed"), "{}: {error}", data.escape_ascii());
    }
}

#[test]
fn the_last_of_two_records_counts() {
    let ground = Ground::new();
    ground
        .layer(
            &Archive::new()
                .pax(&[("path", b"a"), ("path", b"b"), ("uid", b"1"), ("uid", b"2")])
                .file("c", "")
                .end(),
        )
        .unwrap();
    assert!(ground.line("b").contains(" 2:0 "));
}

#[test]
fn global_headers_give_times_and_owners() {
    let ground = Ground::new();
    let archive = Archive::new()
        .global(&[("comment", b"as git writes it"), ("mtime", b"7"), ("uid", b"8")])
        .file("all", "")
        .pax(&[("uid", b"9")])
        .file("own", "")
        .pax(&[("uid", b"")])
        .file("taken-back", "")
        .global(&[("mtime", b"")])
        .file("later", "");
    ground.layer(&archive.end()).unwrap();
    assert!(ground.line("all").contains(" 8:0 7."));
    assert!(ground.line("own").contains(" 9:0 7."));
    assert!(ground.line("taken-back").contains(" 0:0 7."));
    assert!(ground.line("later").contains(" 8:0 1000000000."));
    for key in ["path", "linkpath", "size", "GNU.sparse.name", "GNU.sparse.map", "SCHILY.xattr.user.x"] {
        refused(Archive::new().global(&[(key, b"1")]).file("f", ""), "ambiguous");
    }
}

#[test]
fn headers_that_readers_take_in_different_ways() {
    let x = |key| pax_records(&[(key, b"9")]);
    refused(Archive::new().extended(b'x', &x("uid")).extended(b'x', &x("gid")).file("f", ""), "twice");
    refused(Archive::new().long_name(b"a").long_name(b"b").file("f", ""), "twice");
    refused(Archive::new().long_link(b"a").long_link(b"b").symlink("f", "x"), "twice");
    refused(Archive::new().long_name(b"a").pax(&[("path", b"b")]).file("f", ""), "two long names");
    refused(Archive::new().pax(&[("linkpath", b"a")]).long_link(b"b").symlink("f", "x"), "two long link");
    refused(Archive::new().pax(&[("uid", b"1")]).global(&[("mtime", b"1")]).file("f", ""), "global");
    refused(Archive::new().raw([0; 512]).file("f", ""), "lone zero block");
    refused(Archive::new().file("f", "").pax(&[("path", b"x")]), "in the middle");
    refused(Archive::new().file("f", "").long_name(b"x"), "in the middle");
}

#[test]
fn extended_headers_have_a_limit() {
    for kind in [b'x', b'g', b'L', b'K'] {
        for size in [(1 << 20) + 1, 1 << 32] {
            let member = Member::new(kind, "x").magic(Magic::Gnu).size(size);
            refused(Archive::new().add(member).raw([b'a'; 1024]), "longer than 1048576");
        }
        let member = Member::new(kind, "x").size(1 << 20);
        let error = Ground::new().layer(&Archive::new().add(member).raw([b'a'; 1024]).bytes()).unwrap_err();
        assert!(error.to_string().contains("in the middle of an extended header"), "{error}");
    }
    let comment = vec![b'c'; 1_000_000];
    Ground::new().layer(&Archive::new().pax(&[("comment", &comment)]).file("f", "").end()).unwrap();
}

#[test]
fn fields_that_are_no_numbers() {
    for (at, width) in [(100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (329, 8), (337, 8)] {
        for text in [&b"99999999"[..], b"-1", b"0x1", b"1 1", b"1.5"] {
            let mut field = vec![0; width];
            field[..text.len().min(width)].copy_from_slice(&text[..text.len().min(width)]);
            refused(Archive::new().add(Member::file("f", "").raw(at, &field)), "not a valid number");
        }
        // More than 63 bits.
        let mut field = vec![0x7f; width];
        field[0] = 0x80 | 0x3f;
        if width == 12 {
            refused(Archive::new().add(Member::file("f", "").raw(at, &field)), "not a valid number");
        }
    }
}

#[test]
fn fields_as_old_writers_left_them() {
    let ground = Ground::new();
    let spaces =
        Member::new(b'0', "spaces").raw(100, b"   644 \0").raw(124, b"          4 ").raw(108, b"        ");
    let spaces = spaces.data("text").raw(124, b"          4 ");
    let v7 = Member::file("v7", "text").magic(Magic::V7).raw(345, b"not a prefix");
    ground.layer(&Archive::new().add(spaces).add(v7).end()).unwrap();
    assert_eq!((ground.read("spaces"), ground.read("v7")), ("text".into(), "text".into()));
}
