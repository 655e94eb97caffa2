//! Thousands of archives, read and unpacked by forge and by readers that are not ours: all must see the same.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use forge_store::layer::{EntryKind, TarReader, UnpackOptions, unpack};
use forge_store::tree::OverlayXattrs;
use forge_store::{Digest, RootDir};
use tempfile::TempDir;

use crate::archive::generate::archive;
use crate::archive::ground::{Listing, list};
use crate::judges;

const ARCHIVES: u64 = 2000;
/// Types of regular files. umoci does not know contiguous and GNU's sparse ones.
const REGULAR: &[u8] = b"07S";

fn name(seed: u64) -> String {
    format!("{seed:06}.tar")
}

/// Archives of these seeds, in files.
fn write_archives(dir: &Path, seeds: impl Iterator<Item = u64>) {
    fs::create_dir(dir).unwrap();
    for seed in seeds {
        fs::write(dir.join(name(seed)), archive(seed, "top", REGULAR)).unwrap();
    }
}

/// Unpacks with forge; gives the tree, with `?` for what no entry describes.
fn unpacked(archive: &[u8], into: &Path) -> Listing {
    fs::create_dir_all(into).unwrap();
    let root = RootDir::open_host(into).unwrap();
    let result = unpack(archive, &root, &UnpackOptions::archive(OverlayXattrs::Trusted)).unwrap();
    let implied = result.implied_dirs.iter().map(|path| path.escape_ascii().to_string());
    blank(list(into), implied)
}

fn blank(mut listing: Listing, paths: impl Iterator<Item = String>) -> Listing {
    for path in paths {
        listing.entry(path).and_modify(|line| *line = "?".into());
    }
    listing
}

#[test]
fn gnu_tar_unpacks_the_same_trees() {
    let top = TempDir::new_in("/dev/shm").unwrap();
    let (archives, theirs) = (top.path().join("archives"), top.path().join("theirs"));
    write_archives(&archives, 0..ARCHIVES);
    // Warnings of tar, about a missing end and other things that this is full of, are not its exit status.
    let script = r#"cd "$1" && for f in *.tar; do
        mkdir -p "$2/$f" && tar --extract --same-owner --same-permissions --numeric-owner --delay-directory-restore \
            --warning=none --file "$f" --directory "$2/$f" || exit 1; done"#;
    let arguments = ["-c", script, "sh", archives.to_str().unwrap(), theirs.to_str().unwrap()];
    judges::run("tar", "sh", arguments);
    for seed in 0..ARCHIVES {
        let ours = top.path().join("ours");
        if std::env::var_os("KEEP").is_some() {
            fs::copy(archives.join(name(seed)), "/tmp/keep.tar").unwrap();
        }
        let ours_list = unpacked(&fs::read(archives.join(name(seed))).unwrap(), &ours);
        let implied = ours_list.iter().filter(|(_, line)| *line == "?").map(|(path, _)| path.clone());
        let theirs_list = blank(list(&theirs.join(name(seed))), implied);
        compare(seed, &ours_list, &theirs_list);
        fs::remove_dir_all(ours).unwrap();
    }
}

#[track_caller]
fn compare(seed: u64, ours: &Listing, theirs: &Listing) {
    let missing: Vec<_> = theirs.iter().filter(|(path, line)| ours.get(*path) != Some(line)).collect();
    let extra: Vec<_> = ours.iter().filter(|(path, line)| theirs.get(*path) != Some(line)).collect();
    assert!(missing.is_empty() && extra.is_empty(), "seed {seed}\ntheirs {missing:#?}\nours {extra:#?}");
}

#[test]
fn python_lists_the_same_members() {
    let top = TempDir::new_in("/dev/shm").unwrap();
    let archives = top.path().join("archives");
    // Other archives than GNU tar's.
    write_archives(&archives, ARCHIVES..2 * ARCHIVES);
    let output = judges::python(include_str!("list_archives.py"), &[&archives]);
    let theirs = String::from_utf8(output.stdout).unwrap();
    let ours: String = (ARCHIVES..2 * ARCHIVES).map(|seed| listed(seed, &archives)).collect();
    for (ours, theirs) in ours.lines().zip(theirs.lines()) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours.lines().count(), theirs.lines().count());
}

fn listed(seed: u64, archives: &Path) -> String {
    let bytes = fs::read(archives.join(name(seed))).unwrap();
    let mut reader = TarReader::new(&bytes[..]);
    let mut lines = String::new();
    while let Some(entry) = reader.next_entry().unwrap_or_else(|error| panic!("seed {seed}: {error}")) {
        let (kind, rest) = match &entry.kind {
            EntryKind::Regular => ("file", content(&mut reader, entry.size)),
            EntryKind::Directory => ("dir", String::new()),
            EntryKind::Symlink(target) => ("symlink", format!(" {}", escape(target))),
            EntryKind::HardLink(target) => ("link", format!(" {}", escape(target))),
            EntryKind::Char(device) => ("char", format!(" {}:{}", device.major, device.minor)),
            EntryKind::Block(device) => ("block", format!(" {}:{}", device.major, device.minor)),
            EntryKind::Fifo => ("fifo", String::new()),
        };
        // Python takes slashes off directories' names.
        let end = entry.path.iter().rposition(|b| *b != b'/').map_or(0, |at| at + 1);
        let mtime = entry.mtime.sec as f64 + f64::from(entry.mtime.nsec) / 1e9;
        writeln!(
            lines,
            "{} {} {kind} {:o} {} {} {mtime:.2}{rest}",
            name(seed),
            escape(&entry.path[..end]),
            entry.mode,
            entry.uid,
            entry.gid
        )
        .unwrap();
    }
    lines
}

fn content(reader: &mut TarReader<&[u8]>, size: u64) -> String {
    let mut content = vec![0; size as usize];
    while let Some(piece) = reader.next_piece().unwrap() {
        content[piece.offset as usize..][..piece.bytes.len()].copy_from_slice(piece.bytes);
    }
    format!(" {size} {}", &Digest::of(&content).hex()[..12])
}

fn escape(bytes: &[u8]) -> String {
    let escape = |b: &u8| match b {
        33..=126 if *b != b'\\' => char::from(*b).to_string(),
        b => format!("\\x{b:02x}"),
    };
    bytes.iter().map(escape).collect()
}

#[test]
fn umoci_unpacks_the_same_trees() {
    let top = TempDir::new().unwrap();
    let layout = top.path().join("layout");
    let umoci = |args: &[&str]| judges::run("umoci", "umoci", args);
    let image = format!("{}:sample", layout.display());
    umoci(&["init", "--layout", layout.to_str().unwrap()]);
    umoci(&["new", "--image", &image]);
    let ours = top.path().join("ours");
    let mut implied = Vec::new();
    for seed in 0..40 {
        let bytes = archive(10_000 + seed, &format!("top-{seed}"), b"0");
        let file = top.path().join("layer.tar");
        fs::write(&file, &bytes).unwrap();
        umoci(&["raw", "add-layer", "--image", &image, file.to_str().unwrap()]);
        let listing = unpacked(&bytes, &ours);
        implied.extend(listing.into_iter().filter(|(_, line)| line == "?").map(|(path, _)| path));
    }
    let theirs = top.path().join("theirs");
    umoci(&["raw", "unpack", "--image", &image, theirs.to_str().unwrap()]);
    let without_times = |top: &Path| {
        let mut listing = blank(list(top), implied.iter().cloned());
        // It leaves directories with the time at which it made what they imply.
        for line in listing.values_mut().filter(|line| line.starts_with('d')) {
            *line = line.rsplit_once(' ').unwrap().0.to_owned();
        }
        listing
    };
    compare(10_000, &without_times(&ours), &without_times(&theirs));
}
