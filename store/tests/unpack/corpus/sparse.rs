//! Sparse files, in the four forms that GNU tar has written, and maps that lie.

use std::os::unix::fs::MetadataExt;

use forge_store::layer::{UnpackError, UnpackOptions};
use forge_store::tree::OverlayXattrs;

use crate::archive::ground::Ground;
use crate::archive::{Archive, Magic, Member};

/// The rows of a map, the file's size, and the data that the archive has.
pub type Map<'a> = (&'a [(u64, u64)], u64, &'a [u8]);

/// A sparse file in one of the forms 0 (old GNU), 1 (PAX 0.0), 2 (PAX 0.1), 3 (PAX 1.0).
pub fn sparse(archive: Archive, form: u8, path: &str, (rows, size, data): Map<'_>) -> Archive {
    let (count, full) = (rows.len().to_string(), size.to_string());
    let mut records: Vec<(&str, Vec<u8>)> = Vec::new();
    match form {
        0 => return old_gnu(archive, path, (rows, size, data)),
        1 => {
            records.push(("GNU.sparse.size", full.into_bytes()));
            records.push(("GNU.sparse.numblocks", count.into_bytes()));
            for (offset, length) in rows {
                records.push(("GNU.sparse.offset", offset.to_string().into_bytes()));
                records.push(("GNU.sparse.numbytes", length.to_string().into_bytes()));
            }
        }
        2 => {
            let map: Vec<_> = rows.iter().map(|(offset, length)| format!("{offset},{length}")).collect();
            records.push(("GNU.sparse.size", full.into_bytes()));
            records.push(("GNU.sparse.numblocks", count.into_bytes()));
            records.push(("GNU.sparse.map", map.join(",").into_bytes()));
            records.push(("GNU.sparse.name", path.as_bytes().to_vec()));
        }
        _ => {
            records.push(("GNU.sparse.major", b"1".to_vec()));
            records.push(("GNU.sparse.minor", b"0".to_vec()));
            records.push(("GNU.sparse.name", path.as_bytes().to_vec()));
            records.push(("GNU.sparse.realsize", full.into_bytes()));
        }
    }
    let mut content = Vec::new();
    if form == 3 {
        let numbers = rows.iter().flat_map(|(offset, length)| [*offset, *length]);
        let lines = [rows.len() as u64].into_iter().chain(numbers).map(|n| format!("{n}\n"));
        content = lines.collect::<String>().into_bytes();
        content.resize(content.len().next_multiple_of(512), 0);
    }
    content.extend_from_slice(data);
    let records: Vec<_> = records.iter().map(|(key, value)| (*key, &value[..])).collect();
    let name = if form == 1 { path.to_owned() } else { "GNUSparseFile.1/x".to_owned() };
    archive.pax(&records).file(name, content)
}

fn old_gnu(archive: Archive, path: &str, (rows, size, data): Map<'_>) -> Archive {
    let mut member = Member::new(b'S', path).magic(Magic::Gnu).octal(483, 12, size).size(data.len() as u64);
    for (n, (offset, length)) in rows.iter().take(4).enumerate() {
        member = member.octal(386 + n * 24, 12, *offset).octal(398 + n * 24, 12, *length);
    }
    member = member.raw(482, &[u8::from(rows.len() > 4)]);
    let rest: Vec<_> = rows.iter().skip(4).collect();
    let mut archive = archive.add(member);
    for (n, chunk) in rest.chunks(21).enumerate() {
        let mut block = [0; 512];
        for (n, (offset, length)) in chunk.iter().enumerate() {
            block[n * 24..][..24].copy_from_slice(format!("{offset:011o}\0{length:011o}\0").as_bytes());
        }
        block[504] = u8::from((n + 1) * 21 < rest.len());
        archive = archive.raw(block);
    }
    let padded = data.len().next_multiple_of(512) - data.len();
    archive.raw(data).raw(vec![0; padded])
}

#[test]
fn every_form_gives_the_file_with_its_holes() {
    for form in 0..4 {
        let ground = Ground::new();
        let rows = [(0, 3), (1 << 20, 2), (2 << 20, 0)];
        let archive = sparse(Archive::new(), form, "s", (&rows, 2 << 20, b"abcde"));
        let archive = sparse(archive, form, "empty", (&[(0, 0)], 0, b""));
        let archive = sparse(archive, form, "hole", (&[(4096, 0)], 4096, b""));
        let unpacked = ground.layer(&archive.file("next", "x").end()).unwrap();
        let mut wanted = vec![0; 2 << 20];
        wanted[..3].copy_from_slice(b"abc");
        wanted[1 << 20..][..2].copy_from_slice(b"de");
        assert!(std::fs::read(ground.tree().join("s")).unwrap() == wanted, "form {form}");
        assert_eq!(ground.tree().join("hole").metadata().unwrap().len(), 4096);
        assert!(ground.tree().join("s").metadata().unwrap().blocks() < 100, "form {form} has holes");
        assert_eq!(ground.read("next"), "x");
        assert_eq!(unpacked.file_bytes, (2 << 20) + 4096 + 1);
    }
}

#[test]
fn maps_that_go_on_behind_the_header() {
    let rows: Vec<_> = (0..1000).map(|n| (n * 4096, 1)).collect();
    let data: Vec<u8> = (0..1000).map(|n| n as u8).collect();
    for form in 0..4 {
        let ground = Ground::new();
        ground.layer(&sparse(Archive::new(), form, "s", (&rows, 1000 * 4096, &data)).end()).unwrap();
        let content = std::fs::read(ground.tree().join("s")).unwrap();
        assert!(content.iter().step_by(4096).copied().eq(data.iter().copied()), "form {form}");
    }
}

#[test]
fn maps_that_do_not_fit_are_refused() {
    let maps: [Map<'_>; 6] = [
        (&[(0, 3), (2, 2)], 10, b"abcde"),
        (&[(5, 3), (0, 2)], 10, b"abcde"),
        (&[(8, 5)], 10, b"abcde"),
        (&[(0, 4)], 10, b"abcde"),
        (&[(0, 6)], 10, b"abcde"),
        (&[(i64::MAX as u64, 5)], i64::MAX as u64, b"abcde"),
    ];
    for map in maps {
        for form in 1..4 {
            let error = Ground::new().layer(&sparse(Archive::new(), form, "s", map).end()).unwrap_err();
            assert!(error.to_string().contains("sparse map"), "form {form} {map:?}: {error}");
        }
    }
    for map in &maps[..5] {
        assert!(Ground::new().layer(&sparse(Archive::new(), 0, "s", *map).end()).is_err());
    }
}

#[test]
fn a_huge_hole_counts_against_the_quota() {
    for form in 1..4 {
        for size in [65 << 30, i64::MAX as u64] {
            let ground = Ground::new();
            let error =
                ground.layer(&sparse(Archive::new(), form, "s", (&[(0, 1)], size, b"x")).end()).unwrap_err();
            assert!(matches!(error, UnpackError::TooLarge { .. }), "{error}");
            assert!(!ground.exists("s"));
        }
    }
    let mut options = UnpackOptions::layer(OverlayXattrs::Trusted);
    options.limits.bytes = 10_000;
    let archive = sparse(Archive::new(), 3, "s", (&[(0, 1)], 10_001, b"x")).end();
    assert!(Ground::new().unpack(&archive, &options).is_err());
}

#[test]
fn maps_have_a_limit_of_rows() {
    let rows = vec![(0, 0); 300_000];
    for form in [0, 2, 3] {
        assert!(
            Ground::new().layer(&sparse(Archive::new(), form, "s", (&rows, 0, b"")).end()).is_err(),
            "{form}"
        );
    }
    let claims = Archive::new()
        .pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"1")])
        .file("s", "9223372036854775807\n0\n");
    assert!(Ground::new().layer(&claims.end()).is_err());
}

#[test]
fn records_that_are_half_a_map_are_refused() {
    for records in [
        &[("GNU.sparse.name", &b"x"[..])][..],
        &[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"1")],
        &[("GNU.sparse.major", b"2"), ("GNU.sparse.minor", b"0")],
        &[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0")],
        &[("GNU.sparse.map", b"0,1"), ("GNU.sparse.numblocks", b"2"), ("GNU.sparse.size", b"1")],
        &[("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", b"1")],
        &[("GNU.sparse.map", b"0"), ("GNU.sparse.numblocks", b"1"), ("GNU.sparse.size", b"1")],
        &[("GNU.sparse.map", b"0,1"), ("GNU.sparse.numblocks", b"1")],
        &[("GNU.sparse.numbytes", b"1")],
    ] {
        assert!(
            Ground::new().layer(&Archive::new().pax(records).file("s", "x").end()).is_err(),
            "{records:?}"
        );
    }
    // star's sparse files have the same type letter and another layout.
    assert!(Ground::new().layer(&Archive::new().add(Member::new(b'S', "s")).end()).is_err());
}
