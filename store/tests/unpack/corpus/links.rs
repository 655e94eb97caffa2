//! Hard links: to files of the tree only, and to the link itself where the target is a symlink.

use crate::archive::ground::Ground;
use crate::archive::{Archive, Member};

#[test]
fn targets_resolve_inside_the_tree() {
    for target in [
        "etc/passwd",
        "/etc/passwd",
        "./etc//passwd",
        "../../../../../etc/passwd",
        "localetc/passwd",
        "/localetc/passwd",
        "breakouts/d1/passwd",
        "/breakouts/d2/passwd",
        "etc/../etc/passwd",
    ] {
        let ground = Ground::new();
        let archive = Archive::new()
            .dir("etc")
            .file("etc/passwd", "inside")
            .symlink("localetc", "../../../../../../../etc")
            .symlink("breakouts/d1", "../../etc")
            .dir("downandout")
            .symlink("breakouts/d2", "../downandout/../../etc")
            .link("mypasswd", target);
        ground.layer(&archive.end()).unwrap();
        assert_eq!(ground.inode("mypasswd"), ground.inode("etc/passwd"), "{target}");
    }
}

#[test]
fn what_is_not_a_file_of_the_tree_is_no_target() {
    let outside = Ground::new();
    let canary = outside.outside().join("canary");
    for target in [
        "/etc/hostname",
        canary.to_str().unwrap(),
        "missing",
        "missing/x",
        "dir",
        "/",
        "..",
        ".",
        "dir/..",
        "gone",
        "f/x",
    ] {
        let archive = Archive::new().dir("dir").file("f", "").file(".wh.gone", "").link("name", target).end();
        let error = outside.layer(&archive).unwrap_err();
        assert!(error.to_string().contains("hard link target"), "{target}: {error}");
        assert!(!outside.exists("name"));
    }
}

#[test]
fn a_link_to_a_symlink_is_the_symlink() {
    let ground = Ground::new();
    let canary = ground.outside().join("canary");
    let archive = Archive::new()
        .symlink("passwdlink", "../../../etc/passwd")
        .link("localpasswd", "/passwdlink")
        .symlink("sketchy", canary.to_str().unwrap())
        .add(Member::new(b'1', "sketchylink").link("sketchy").mode(0o777).uid(7))
        .dir("etc")
        .file("etc/passwd", "after");
    ground.layer(&archive.end()).unwrap();
    assert_eq!(ground.inode("localpasswd"), ground.inode("passwdlink"));
    assert!(ground.line("localpasswd").ends_with("-> ../../../etc/passwd"));
    assert!(ground.line("sketchylink").starts_with("l 0777 0:0"));
}

#[test]
fn a_link_to_itself_is_what_tar_writes_for_a_file_given_twice() {
    let ground = Ground::new();
    ground.layer(&Archive::new().file("a", "x").link("b", "a").link("b", "a").link("a", "a").end()).unwrap();
    assert_eq!(ground.inode("a"), ground.inode("b"));
    assert!(Ground::new().layer(&Archive::new().link("a", "a").end()).is_err());
}

#[test]
fn a_file_given_again_is_a_new_file() {
    let ground = Ground::new();
    ground.layer(&Archive::new().file("a", "one").link("b", "a").file("a", "two").end()).unwrap();
    assert_eq!((ground.read("a"), ground.read("b")), ("two".into(), "one".into()));
}

#[test]
fn the_first_entry_describes_the_inode() {
    let ground = Ground::new();
    let archive = Archive::new()
        .pax(&[("SCHILY.xattr.user.x", b"kept")])
        .add(Member::file("a", "x").mode(0o4755).uid(5).mtime(9))
        .add(Member::new(b'1', "b").link("a").mode(0o600).uid(6).mtime(10).size(12345));
    ground.layer(&archive.end()).unwrap();
    assert!(ground.line("b").starts_with("- 4755 5:0 9."), "{}", ground.line("b"));
    assert_eq!(ground.xattr("b", "user.x").as_deref(), Some(&b"kept"[..]));
}

#[test]
fn symlinks_keep_any_target() {
    for target in ["/abs", "../../up", "missing", "a//b/", ".", "x\ny", "\u{e9}", "/outside/canary"] {
        let ground = Ground::new();
        ground.layer(&Archive::new().symlink("l", target).end()).unwrap();
        assert!(ground.line("l").ends_with(&format!("-> {}", target.as_bytes().escape_ascii())));
    }
    let long = "t".repeat(4000);
    let ground = Ground::new();
    ground.layer(&Archive::new().long_link(long.as_bytes()).symlink("l", "short").end()).unwrap();
    assert!(ground.line("l").ends_with(&long));
    let error = Ground::new().layer(&Archive::new().symlink("l", "").end()).unwrap_err();
    assert!(error.to_string().contains("without target"), "{error}");
}
