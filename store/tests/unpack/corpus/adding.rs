//! Archives that ADD unpacks into a directory that has files already.

use forge_store::layer::unpack::{Chmod, Owner};
use forge_store::layer::{UnpackOptions, is_archive};
use forge_store::rootdir::FileKind;
use forge_store::tree::OverlayXattrs;

use crate::archive::ground::Ground;
use crate::archive::{Archive, Member};

#[test]
fn a_directory_joins_a_directory_and_all_else_replaces() {
    let ground = Ground::new();
    ground.make_dir("dir/sub").make_file("dir/kept", "kept").make_dir("full/sub").make_file("file", "old");
    ground.make_link("link", "dir");
    let archive = Archive::new()
        .add(Member::dir("dir").mode(0o700))
        .file("dir/new", "new")
        .file("full", "file over a full directory")
        .dir("file")
        .file("link", "file over a symlink");
    ground.archive(&archive.end()).unwrap();
    assert_eq!(ground.read("dir/kept"), "kept");
    assert!(ground.line("dir").starts_with("d 0700") && ground.exists("dir/sub"));
    assert_eq!(ground.read("full"), "file over a full directory");
    assert!(ground.line("file").starts_with("d 0755"));
    assert_eq!(ground.read("link"), "file over a symlink");
    assert_eq!(ground.xattr("file", "trusted.overlay.opaque"), None);
}

#[test]
fn symlinks_of_the_directory_are_followed_inside_it() {
    let ground = Ground::new();
    ground.make_dir("run").make_dir("var").make_link("var/run", "/run");
    ground.archive(&Archive::new().file("var/run/app.pid", "1").end()).unwrap();
    assert_eq!(ground.read("run/app.pid"), "1");

    let ground = Ground::new();
    ground.make_link("out", ground.outside().to_str().unwrap());
    ground.archive(&Archive::new().file("out/canary", "inside").dir("out/dir").end()).unwrap();
}

#[test]
fn a_directory_over_a_symlink_replaces_it() {
    let ground = Ground::new();
    ground.make_dir("etc").make_file("etc/passwd", "inside").make_link("localetc", "/etc");
    let archive = Archive::new().dir("localetc").file("localetc/localpasswd", "different");
    ground.archive(&archive.end()).unwrap();
    assert_eq!(ground.read("etc/passwd"), "inside");
    assert!(ground.line("localetc").starts_with('d') && !ground.exists("etc/localpasswd"));
}

#[test]
fn the_directory_itself_keeps_its_metadata() {
    let ground = Ground::new();
    let before = ground.line("");
    ground.archive(&Archive::new().add(Member::dir("./").mode(0o700).uid(9)).end()).unwrap();
    assert_eq!(ground.line(""), before);
}

#[test]
fn whiteout_names_are_names() {
    let ground = Ground::new();
    ground.make_file("a", "kept");
    ground
        .archive(&Archive::new().file(".wh.a", "text").file(".wh..wh..opq", "").file(".wh.", "").end())
        .unwrap();
    assert_eq!((ground.read("a"), ground.read(".wh.a")), ("kept".into(), "text".into()));
    assert!(ground.exists(".wh..wh..opq") && ground.exists(".wh."));
    let device = Archive::new().add(Member::device(b'3', "null", 0, 0)).end();
    assert!(ground.archive(&device).is_err());
}

#[test]
fn owner_and_mode_of_the_instruction() {
    let ground = Ground::new();
    let mut options = UnpackOptions::archive(OverlayXattrs::Trusted);
    options.owner = Owner::Fixed { uid: 10, gid: 20 };
    options.chmod = Some(Chmod::new(|kind, mode| match kind {
        FileKind::Directory => mode | 0o111,
        _ => 0o4711,
    }));
    let archive = Archive::new()
        .file("made/file", "x")
        .add(Member::dir("dir").mode(0o600).uid(1))
        .symlink("link", "file")
        .add(Member::device(b'3', "null", 1, 3).mode(0o666));
    ground.unpack(&archive.end(), &options).unwrap();
    assert!(ground.line("made").starts_with("d 0755 10:20"));
    assert!(ground.line("made/file").starts_with("- 4711 10:20"));
    assert!(ground.line("dir").starts_with("d 0711 10:20"));
    assert!(ground.line("link").starts_with("l 0777 10:20"));
    assert!(ground.line("null").starts_with("c 4711 10:20"));

    let ground = Ground::new();
    options.owner = Owner::OfProcess;
    ground.unpack(&Archive::new().add(Member::file("f", "").uid(77).gid(78)).end(), &options).unwrap();
    assert!(ground.line("f").starts_with("- 4711 0:0"));
}

#[test]
fn only_archives_are_unpacked() {
    let tar = Archive::new().file("f", "x").end();
    let gzip = |bytes: &[u8]| {
        let mut packed = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzEncoder::new(bytes, Default::default()), &mut packed)
            .unwrap();
        packed
    };
    for (bytes, archive) in [
        (tar.clone(), true),
        (gzip(&tar), true),
        (gzip(b"some text"), false),
        (gzip(&tar)[..30].to_vec(), false),
        (b"\x1f\x8b\x08 but no gzip".to_vec(), false),
        (b"text".repeat(1000), false),
        (vec![0; 10_240], false),
        (Vec::new(), false),
    ] {
        assert_eq!(is_archive(&bytes[..]), archive, "{} bytes", bytes.len());
    }
}
