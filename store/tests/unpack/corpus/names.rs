//! Names as Linux has them: bytes. What the kernel cannot hold is refused before it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::archive::ground::Ground;
use crate::archive::{Archive, Magic, Member};

#[test]
fn any_bytes_but_nul_and_slash() {
    for name in [
        &b"na\xefve"[..],
        b"\xff\xfe",
        b"new\nline",
        b"tab\tand space ",
        b"back\\slash\\..\\x",
        b"...",
        b"-rf",
        b"\x1b[2J",
        "\u{202e}gpj.exe".as_bytes(),
        b"wh.x",
    ] {
        let ground = Ground::new();
        ground
            .layer(
                &Archive::new()
                    .file(name, "x")
                    .pax(&[("path", &[b"p/", name].concat())])
                    .file("x", "y")
                    .end(),
            )
            .unwrap();
        let bytes = |prefix: &str| ground.tree().join(prefix).join(OsStr::from_bytes(name));
        assert!(bytes("").is_file() && bytes("p").is_file(), "{}", name.escape_ascii());
    }
}

#[test]
fn case_and_normal_forms_are_kept_apart() {
    let ground = Ground::new();
    let archive =
        Archive::new().file("File", "1").file("file", "2").file("\u{e9}", "3").file("e\u{301}", "4");
    ground.layer(&archive.end()).unwrap();
    assert_eq!(["File", "file", "\u{e9}", "e\u{301}"].map(|name| ground.read(name)), ["1", "2", "3", "4"]);
}

#[test]
fn long_names_of_every_dialect() {
    let long = [&"d/".repeat(30)[..], &"n".repeat(255)].concat();
    let checks: [Archive; 3] = [
        Archive::new().long_name(long.as_bytes()).add(Member::file("short", "x").magic(Magic::Gnu)),
        Archive::new().pax(&[("path", long.as_bytes())]).file("short", "x"),
        Archive::new().long_name(long.as_bytes()).pax(&[("path", long.as_bytes())]).file("short", "x"),
    ];
    for archive in checks {
        let ground = Ground::new();
        ground.layer(&archive.end()).unwrap();
        assert_eq!(ground.read(&long), "x");
        assert!(!ground.exists("short"));
    }
    let ground = Ground::new();
    let prefixed = Member::file("n".repeat(100), "x").prefix(&[b'd'; 150]);
    ground.layer(&Archive::new().add(prefixed).end()).unwrap();
    assert_eq!(ground.read(&format!("{}/{}", "d".repeat(150), "n".repeat(100))), "x");
}

#[test]
fn the_prefix_that_go_once_wrote_into_gnu_headers() {
    let ground = Ground::new();
    let member = Member::file("name", "x").magic(Magic::Gnu).prefix(b"usr/share/directory");
    ground.layer(&Archive::new().add(member).end()).unwrap();
    assert_eq!(ground.read("usr/share/directory/name"), "x");
    // Real GNU headers have times there.
    let ground = Ground::new();
    let member = Member::file("name", "x").magic(Magic::Gnu).octal(345, 12, 1_000_000_000).octal(357, 12, 7);
    ground.layer(&Archive::new().add(member).end()).unwrap();
    assert_eq!(ground.read("name"), "x");
}

#[test]
fn too_long_is_refused() {
    let component = [b'n'; 256];
    let path = [&"d/".repeat(2047)[..], "nn"].concat();
    let link = "t".repeat(4096);
    for (archive, what) in [
        (Archive::new().pax(&[("path", &component)]).file("x", ""), "longer than 255"),
        (Archive::new().long_name(&component).file("x", ""), "longer than 255"),
        (Archive::new().pax(&[("path", path.as_bytes())]).file("x", ""), "longer than 4095"),
        (Archive::new().long_name(path.as_bytes()).file("x", ""), "longer than 4095"),
        (Archive::new().pax(&[("linkpath", link.as_bytes())]).symlink("x", "y"), "longer than 4095"),
    ] {
        let error = Ground::new().layer(&archive.end()).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
    }
    // The longest that Linux takes.
    let path = [&"d/".repeat(2047)[..], "n"].concat();
    let ground = Ground::new();
    ground.layer(&Archive::new().pax(&[("path", path.as_bytes())]).file("x", "").end()).unwrap();
}

#[test]
fn nul_bytes() {
    for key in ["path", "linkpath"] {
        let archive = Archive::new().pax(&[(key, b"a\0b")]).symlink("x", "y").end();
        assert!(Ground::new().layer(&archive).is_err());
    }
    // In a header or a GNU long name it is the end.
    let ground = Ground::new();
    ground.layer(&Archive::new().file("a\0b", "1").long_name(b"c\0d").file("x", "2").end()).unwrap();
    assert_eq!((ground.read("a"), ground.read("c")), ("1".into(), "2".into()));
}

#[test]
fn the_last_entry_of_a_name_counts() {
    let ground = Ground::new();
    let archive = Archive::new()
        .add(Member::file("f", "long first content").mode(0o4755))
        .add(Member::file("./f", "second").mode(0o600))
        .file("d", "file")
        .dir("d")
        .file("d/x", "")
        .dir("e")
        .file("e/x", "")
        .file("e", "file again")
        .symlink("s", "f")
        .file("s", "no link")
        .dir("l")
        .symlink("l", "d")
        .add(Member::dir("t").mode(0o700))
        .file("t/kept", "")
        .add(Member::dir("t").mode(0o711).mtime(5));
    ground.layer(&archive.end()).unwrap();
    assert!(ground.read("f") == "second" && ground.line("f").starts_with("- 0600"));
    assert!(ground.exists("d/x"));
    assert_eq!((ground.read("e"), ground.read("s")), ("file again".into(), "no link".into()));
    assert!(ground.line("l").starts_with('l'));
    assert!(ground.line("t").starts_with("d 0711 0:0 5.") && ground.exists("t/kept"));
}

#[test]
fn a_slash_at_the_end_of_a_file_s_name() {
    let ground = Ground::new();
    ground.layer(&Archive::new().file("f/", "content").end()).unwrap();
    assert_eq!(ground.read("f"), "content");
    // Before POSIX that meant a directory, which has no content.
    let archive = Archive::new().add(Member::new(0, "d/").data("content")).end();
    assert!(Ground::new().layer(&archive).unwrap_err().to_string().contains("ambiguous"));
}
