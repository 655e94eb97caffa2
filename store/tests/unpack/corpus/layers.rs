//! Whiteouts, opaque directories and device nodes: what overlayfs must be told, and what it must not be told.

use forge_store::tree::OverlayXattrs;

use crate::archive::ground::Ground;
use crate::archive::{Archive, Member};

const OPAQUE: &str = "trusted.overlay.opaque";

fn is_opaque(ground: &Ground, path: &str) -> bool {
    ground.xattr(path, OPAQUE).as_deref() == Some(b"y")
}

#[test]
fn a_whiteout_becomes_overlayfs_s_mark() {
    let ground = Ground::new();
    ground
        .layer(&Archive::new().dir("etc").file("etc/.wh.motd", "").file(".wh.gone", "ignored").end())
        .unwrap();
    for path in ["etc/motd", "gone"] {
        assert!(ground.line(path).starts_with("c 0000 0:0") && ground.line(path).ends_with(" 0:0"));
    }
    assert!(!ground.exists("etc/.wh.motd"));
}

#[test]
fn whiteouts_that_hide_no_name_are_refused() {
    for name in
        [".wh..", ".wh...", ".wh.", "etc/.wh..", "etc/.wh...", "etc/.wh.", ".wh..wh.aufs", ".wh..wh.plnk"]
    {
        for kind in [b'0', b'5', b'2'] {
            let ground = Ground::new();
            let archive = Archive::new().dir("etc").add(Member::new(kind, name).link("x")).end();
            let error = ground.layer(&archive).unwrap_err();
            assert!(error.to_string().contains("whiteout"), "{name}: {error}");
        }
    }
}

#[test]
fn a_whiteout_name_above_the_last_is_a_name() {
    let ground = Ground::new();
    ground
        .layer(&Archive::new().file("a/.wh.b/c", "x").dir("etc").file("dne/../.wh.etc2", "").end())
        .unwrap();
    assert_eq!(ground.read("a/.wh.b/c"), "x");
    assert!(ground.line("etc2").starts_with("c 0000"));
}

#[test]
fn whiteouts_hide_layers_below_and_not_their_own() {
    for whiteout_first in [true, false] {
        let whiteouts =
            |archive: Archive| archive.file(".wh.file", "").file(".wh.dir", "").file(".wh.link", "");
        let files =
            |archive: Archive| archive.file("file", "new").file("dir/sub", "new").symlink("link", "x");
        let archive = match whiteout_first {
            true => files(whiteouts(Archive::new())),
            false => whiteouts(files(Archive::new())),
        };
        let ground = Ground::new();
        ground.layer(&archive.end()).unwrap();
        assert_eq!((ground.read("file"), ground.read("dir/sub")), ("new".into(), "new".into()));
        assert!(ground.line("link").starts_with('l'));
        // What is below `dir` is hidden, although there is no mark of its name any more.
        assert!(is_opaque(&ground, "dir"), "{whiteout_first}");
    }
}

#[test]
fn an_opaque_directory_keeps_what_the_layer_adds() {
    for archive in [
        Archive::new().file("d/.wh..wh..opq", "").file("d/f", "x"),
        Archive::new().dir("d").file("d/f", "x").file("d/.wh..wh..opq", ""),
        Archive::new().dir("d").file("d/.wh..wh..opq", "").dir("d").file("d/f", "x"),
    ] {
        let ground = Ground::new();
        ground.layer(&archive.end()).unwrap();
        assert!(is_opaque(&ground, "d") && ground.read("d/f") == "x" && !ground.exists("d/.wh..wh..opq"));
    }
    let ground = Ground::new();
    ground
        .layer(
            &Archive::new()
                .file(".wh..wh..opq", "")
                .dir("d")
                .symlink("l", "/d")
                .file("l/.wh..wh..opq", "")
                .end(),
        )
        .unwrap();
    assert!(is_opaque(&ground, "") && is_opaque(&ground, "d"));
}

#[test]
fn a_directory_in_place_of_something_else_hides_what_is_below() {
    let ground = Ground::new();
    ground
        .layer(&Archive::new().file("d", "").dir("d").dir("e").file("e", "").dir("e").dir("plain").end())
        .unwrap();
    assert!(is_opaque(&ground, "d") && is_opaque(&ground, "e") && !is_opaque(&ground, "plain"));
}

#[test]
fn a_whiteout_is_no_directory_and_no_file() {
    let ground = Ground::new();
    ground.layer(&Archive::new().file(".wh.d", "").file("d/sub/f", "x").end()).unwrap();
    assert!(is_opaque(&ground, "d") && ground.read("d/sub/f") == "x");
    assert!(Ground::new().layer(&Archive::new().file(".wh.f", "").link("l", "f").end()).is_err());
}

#[test]
fn overlayfs_s_own_attributes_and_devices_are_refused() {
    for name in [
        "trusted.overlay.opaque",
        "trusted.overlay.redirect",
        "trusted.overlay.metacopy",
        "trusted.overlay.origin",
        "user.overlay.opaque",
        "user.overlay.redirect",
        "user.forge.node",
    ] {
        for member in [Member::file("f", ""), Member::dir("d"), Member::new(b'2', "l").link("x")] {
            let key = format!("SCHILY.xattr.{name}");
            let error = Ground::new()
                .layer(&Archive::new().pax(&[(&key, b"y")]).add(member).end())
                .expect_err("an attribute of overlayfs");
            assert!(error.to_string().contains(&format!("`{name}` is reserved")), "{error}");
        }
        let key = format!("LIBARCHIVE.xattr.{}", name.replace('o', "%6f"));
        assert!(Ground::new().layer(&Archive::new().pax(&[(&key, b"eQ")]).file("f", "").end()).is_err());
    }
    let error = Ground::new().layer(&Archive::new().add(Member::device(b'3', "x", 0, 0)).end()).unwrap_err();
    assert!(error.to_string().contains("0:0"), "{error}");
}

#[test]
fn special_files_are_content() {
    let ground = Ground::new();
    let archive = Archive::new()
        .add(Member::device(b'3', "dev/ptmx", 5, 2).mode(0o666).gid(5))
        .add(Member::device(b'4', "dev/sda", 8, 0).mode(0o660))
        .add(Member::device(b'4', "dev/zero-block", 0, 0))
        .add(Member::device(b'3', "dev/large", 4095, 1_048_575))
        .add(Member::new(b'6', "dev/initctl").mode(0o600))
        .add(Member::new(b'7', "contiguous").data("text"))
        .add(Member::new(0, "old").data("text"))
        .add(Member::new(0, "old-dir/").mode(0o711));
    ground.layer(&archive.end()).unwrap();
    assert!(ground.line("dev/ptmx").starts_with("c 0666 0:5") && ground.line("dev/ptmx").ends_with(" 5:2"));
    assert!(ground.line("dev/sda").starts_with("b 0660") && ground.line("dev/sda").ends_with(" 8:0"));
    assert!(ground.line("dev/zero-block").starts_with('b'));
    assert!(ground.line("dev/large").ends_with(" 4095:1048575"));
    assert!(ground.line("dev/initctl").starts_with("p 0600"));
    assert_eq!((ground.read("contiguous"), ground.read("old")), ("text".into(), "text".into()));
    assert!(ground.line("old-dir").starts_with("d 0711"));
}

#[test]
fn types_that_no_layer_has_are_refused() {
    for kind in [b'D', b'M', b'N', b'V', b'X', b'A', b'I', b'8', b's', 0xff] {
        let error = Ground::new().layer(&Archive::new().add(Member::new(kind, "x")).end()).unwrap_err();
        assert!(error.to_string().contains("not supported"), "{kind}: {error}");
    }
    for (major, minor) in [(4096, 0), (0, 1 << 20), (0o7777777, 1)] {
        assert!(
            Ground::new().layer(&Archive::new().add(Member::device(b'4', "x", major, minor)).end()).is_err()
        );
    }
}

#[test]
fn implied_directories_are_root_s_and_told() {
    let ground = Ground::new();
    let archive = Archive::new()
        .add(Member::file("a/b/c", "").uid(5))
        .file("d/e", "")
        .add(Member::dir("d").mode(0o700).mtime(7))
        .file("f/g", "")
        .file("f", "a file now");
    let unpacked = ground.layer(&archive.end()).unwrap();
    assert_eq!(unpacked.implied_dirs, [b"a".to_vec(), b"a/b".to_vec()]);
    assert!(ground.line("a/b").starts_with("d 0755 0:0 0.000000000"));
    assert!(ground.line("d").starts_with("d 0700 0:0 7.000000000"));
    assert_eq!(unpacked.entries, 5 + 4);
}

#[test]
fn a_file_is_no_directory() {
    for archive in [Archive::new().file("f", "").file("f/x", ""), Archive::new().file("f", "").dir("f/x/y")] {
        assert!(Ground::new().layer(&archive.end()).is_err());
    }
}

#[test]
fn in_a_user_namespace_devices_are_recorded_and_marks_are_the_user_s() {
    if !crate::judges::in_user_namespace() {
        let test = "corpus::layers::in_a_user_namespace_devices_are_recorded_and_marks_are_the_user_s";
        return crate::judges::again_in_user_namespace(test);
    }
    let ground = Ground::new();
    let archive = Archive::new()
        .add(Member::device(b'3', "dev/null", 1, 3).mode(0o666))
        .file(".wh.gone", "")
        .file("opaque/.wh..wh..opq", "")
        .pax(&[("SCHILY.xattr.trusted.x", b"y"), ("SCHILY.xattr.user.y", b"z")])
        .file("f", "");
    let options = forge_store::layer::UnpackOptions::layer(OverlayXattrs::User);
    let unpacked = ground.unpack(&archive.end(), &options).unwrap();
    assert!(ground.line("dev/null").starts_with("- 0666"));
    assert_eq!(ground.xattr("dev/null", "user.forge.node").as_deref(), Some(&b"c 1 3"[..]));
    assert!(ground.line("gone").starts_with("c 0000"));
    assert_eq!(ground.xattr("opaque", "user.overlay.opaque").as_deref(), Some(&b"y"[..]));
    assert_eq!(unpacked.attributes_left_out, 1);

    for member in [Member::file("x", "").uid(5), Member::dir("x").gid(6)] {
        let error = ground.unpack(&Archive::new().add(member).end(), &options).unwrap_err();
        assert!(error.to_string().contains("not mapped in this user namespace"), "{error}");
    }
}
