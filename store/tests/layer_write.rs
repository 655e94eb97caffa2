//! What the layer writer writes, as GNU tar, Python and umoci read it.

mod judges;

use std::fs;
use std::path::{Path, PathBuf};

use forge_store::Digest;
use forge_store::layer::{FileTimes, WriteError, WriteOptions, write_tree};
use judges::fixture::Fixture;
use judges::in_user_namespace;
use tempfile::TempDir;

/// A tree, and room for archives and copies beside it.
struct Ground {
    top: TempDir,
    tree: Fixture,
}

impl Ground {
    fn new() -> Self {
        let top = TempDir::new().unwrap();
        fs::create_dir(top.path().join("tree")).unwrap();
        let tree = Fixture::new(&top.path().join("tree"));
        Self { top, tree }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    fn write(&self) -> Vec<u8> {
        write(&self.tree, WriteOptions::default()).unwrap()
    }

    /// Writes the tree to a file for a judge.
    fn archive(&self) -> PathBuf {
        let path = self.path("layer.tar");
        fs::write(&path, self.write()).unwrap();
        path
    }
}

fn write(tree: &Fixture, options: WriteOptions) -> Result<Vec<u8>, WriteError> {
    write_tree(tree.root.dir(), tree.xattrs, options, Vec::new())
}

/// The names as GNU tar lists them, with quoting that loses nothing.
fn listing(archive: &Path) -> Vec<String> {
    let output = judges::tar(["--quoting-style=c".as_ref(), "-tf".as_ref(), archive.as_os_str()]);
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.trim_matches('"').to_owned()).collect()
}

#[test]
fn gnu_tar_finds_no_difference() {
    let ground = Ground::new();
    ground.tree.all_shapes();
    ground.tree.owners();
    ground.tree.times();
    let archive = ground.archive();
    if !in_user_namespace() {
        let tree = ground.path("tree");
        let args = ["--compare", "--numeric-owner", "-f"].map(AsRef::as_ref);
        judges::tar(args.into_iter().chain([archive.as_os_str(), "-C".as_ref(), tree.as_os_str()]));
    }
}

#[test]
fn what_gnu_tar_unpacks_is_written_the_same_again() {
    let ground = Ground::new();
    ground.tree.shapes_of_judges();
    ground.tree.owners();
    ground.tree.times();
    let archive = ground.archive();
    let copy = ground.path("copy");
    fs::create_dir(&copy).unwrap();
    let args = ["-x", "--numeric-owner", "-p", "--xattrs", "--xattrs-include=security.capability", "-f"];
    let args = args.iter().map(AsRef::as_ref).chain([archive.as_os_str(), "-C".as_ref(), copy.as_os_str()]);
    judges::tar(args);
    let again = write(&Fixture::new(&copy), WriteOptions::default()).unwrap();
    assert_eq!(Digest::of(&again), Digest::of(&fs::read(archive).unwrap()));
}

#[test]
fn python_reads_every_field_as_it_is_on_disk() {
    let ground = Ground::new();
    ground.tree.shapes_of_judges();
    ground.tree.owners();
    ground.tree.times();
    let archive = ground.archive();
    judges::python(include_str!("judges/compare_tar.py"), &[&archive, &ground.path("tree")]);
}

#[test]
fn umoci_unpacks_it_and_applies_its_whiteouts() {
    let lower = Ground::new();
    lower.tree.shapes_of_judges();
    for path in ["gone/file", "gone/deep/file", "replaced/old", "kept/file", "kept/gone"] {
        lower.tree.file(path, 0o644, b"lower");
    }
    lower.tree.times();
    let upper = Ground::new();
    upper.tree.whiteout("gone");
    upper.tree.whiteout("kept/gone");
    upper.tree.opaque("replaced");
    upper.tree.file("replaced/new", 0o644, b"upper");
    upper.tree.times();
    let layout = lower.path("layout");
    let image = format!("{}:x", layout.display());
    let umoci = |args: &[&str]| judges::run("umoci", "umoci", args);
    umoci(&["init", "--layout", layout.to_str().unwrap()]);
    umoci(&["new", "--image", &image]);
    for ground in [&lower, &upper] {
        umoci(&["raw", "add-layer", "--image", &image, ground.archive().to_str().unwrap()]);
    }
    let bundle = lower.path("bundle");
    let rootless: &[&str] = if in_user_namespace() { &["--rootless"] } else { &[] };
    umoci(&[&["unpack"], rootless, &["--image", &image, bundle.to_str().unwrap()]].concat());

    // What the two layers give together, said by hand.
    lower.tree.root.remove("gone").unwrap();
    lower.tree.root.remove("kept/gone").unwrap();
    lower.tree.root.remove("replaced/old").unwrap();
    lower.tree.file("replaced/new", 0o644, b"upper");
    lower.tree.times();
    let unpacked = Fixture::new(&bundle.join("rootfs"));
    unpacked.times();
    assert_eq!(Digest::of(&write(&unpacked, WriteOptions::default()).unwrap()), Digest::of(&lower.write()));
}

#[test]
fn whiteouts_are_named_as_the_spec_says_and_an_opaque_one_comes_first() {
    let ground = Ground::new();
    ground.tree.opaque("opaque");
    ground.tree.file("opaque/#before-dot", 0o644, b"");
    ground.tree.whiteout("opaque/gone");
    ground.tree.whiteout("top");
    let archive = ground.archive();
    let names = ["opaque/", "opaque/.wh..wh..opq", "opaque/#before-dot", "opaque/.wh.gone", ".wh.top"];
    assert_eq!(listing(&archive), names);
    let verbose = judges::tar(["--utc", "-tvf", archive.to_str().unwrap(), "opaque/.wh.gone"]);
    let verbose = String::from_utf8(verbose.stdout).unwrap();
    assert_eq!(
        verbose.split_whitespace().collect::<Vec<_>>(),
        ["----------", "0/0", "0", "1970-01-01", "00:00", "opaque/.wh.gone"]
    );
}

/// The bytes of a layer are part of images' names: they may change only on purpose. With and without the right to
/// make device nodes they are the same.
#[test]
fn a_fixed_tree_has_a_fixed_digest() {
    let ground = Ground::new();
    ground.tree.all_shapes();
    ground.tree.opaque("opaque");
    ground.tree.whiteout("opaque/gone");
    ground.tree.times();
    assert_eq!(
        Digest::of(&ground.write()).to_string(),
        "sha256:3bdb67c212820356ccb14aa0f4caf417feb0cb74df334c1944bf16a773c0de4b"
    );
    if !in_user_namespace() {
        judges::again_in_user_namespace("a_fixed_tree_has_a_fixed_digest");
    }
}

#[test]
fn times_are_clamped_and_fractions_cut() {
    let ground = Ground::new();
    for (name, sec) in [("early", 100), ("late", 2_000_000_000)] {
        ground.tree.file(name, 0o644, b"");
        let place = ground.tree.root.parent_of(name, None).unwrap();
        place.at().set_mtime(forge_store::rootdir::Mtime { sec, nsec: 999_999_999 }).unwrap();
    }
    let clamped = write(&ground.tree, WriteOptions { times: FileTimes::Clamped(1_000) }).unwrap();
    let mut archive = tar::Archive::new(&clamped[..]);
    let times: Vec<_> = archive.entries().unwrap().map(|e| e.unwrap().header().mtime().unwrap()).collect();
    assert_eq!(times, [100, 1_000]);
}

#[test]
fn a_name_that_means_a_deletion_is_refused() {
    let ground = Ground::new();
    ground.tree.file("etc/.wh.passwd", 0o644, b"");
    let error = write(&ground.tree, WriteOptions::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "file etc/.wh.passwd cannot be part of a layer: names that begin with `.wh.` mean deletions"
    );
}

/// Grows or shrinks the file in the instant when the layer writer has written its header.
struct Meddler {
    path: PathBuf,
    size: u64,
    out: Vec<u8>,
}

impl std::io::Write for Meddler {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if !self.out.is_empty() {
            fs::File::options().write(true).open(&self.path)?.set_len(self.size)?;
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_file_that_changes_size_while_it_is_read_is_an_error() {
    for size in [0, 1_000_000, 3_000_000] {
        let ground = Ground::new();
        ground.tree.file("log", 0o644, &vec![7; 2_000_000]);
        let meddler = Meddler { path: ground.path("tree/log"), size, out: Vec::new() };
        let result = write_tree(ground.tree.root.dir(), ground.tree.xattrs, WriteOptions::default(), meddler);
        let error = result.err().expect("a layer with a file that changed");
        assert_eq!(error.to_string(), "file log changed while it was being read");
    }
}

/// Keeps nothing but what is not zero: a file with holes.
struct Holes(fs::File);

impl std::io::Write for Holes {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        use std::io::Seek;
        static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
        let piece = &bytes[..bytes.len().min(ZEROS.len())];
        match piece.len() > 1024 && *piece == ZEROS[..piece.len()] {
            true => self.0.seek_relative(piece.len() as i64).map(|()| piece.len()),
            false => self.0.write(piece),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

#[test]
fn a_file_of_more_than_8_gib_has_its_size_in_a_record() {
    const SIZE: u64 = 9 << 30;
    let ground = Ground::new();
    let big = ground.path("tree/big");
    fs::File::create(&big).unwrap().set_len(SIZE).unwrap();
    fs::write(ground.path("tree/next"), "after it").unwrap();
    let archive = ground.path("layer.tar");
    let out = Holes(fs::File::create(&archive).unwrap());
    write_tree(ground.tree.root.dir(), ground.tree.xattrs, WriteOptions::default(), out).unwrap();
    // The end is zeros too.
    let file = fs::File::options().write(true).open(&archive).unwrap();
    let length = file.metadata().unwrap().len().max(SIZE).next_multiple_of(512) + 1024;
    file.set_len(length).unwrap();
    let listed = judges::tar(["-tvf".as_ref(), archive.as_os_str()]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    let sizes: Vec<_> = listed.lines().map(|line| line.split_whitespace().nth(2).unwrap()).collect();
    assert_eq!(sizes, [SIZE.to_string().as_str(), "8"], "{listed}");
    // And forge's own reader finds what stands behind it.
    let mut reader = forge_store::layer::TarReader::new(fs::File::open(&archive).unwrap());
    let first = reader.next_entry().unwrap().unwrap();
    assert_eq!((first.path.as_slice(), first.size), (&b"big"[..], SIZE));
    assert_eq!(reader.next_entry().unwrap().unwrap().path, b"next");
}
