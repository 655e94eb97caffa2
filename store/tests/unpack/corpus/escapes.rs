//! Paths and symlinks that lead out of the tree. Whatever they say, nothing outside changes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::archive::ground::Ground;
use crate::archive::{Archive, Member};

#[test]
fn absolute_names_are_relative_to_the_root() {
    for name in ["/abs", "//abs", "/./abs", "./abs", "x/../abs", "abs/."] {
        let ground = Ground::new();
        ground.layer(&Archive::new().file(name, "in").end()).unwrap();
        assert_eq!(ground.read("abs"), "in", "{name}");
    }
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in
        ["../x", "a/../../x", "./../x", "..", "../", "/..", "/../x", "a/b/../../../x", "../outside/canary"]
    {
        for kind in [b'0', b'2', b'5', b'6'] {
            let ground = Ground::new();
            let error =
                ground.layer(&Archive::new().add(Member::new(kind, name).link("/")).end()).unwrap_err();
            assert!(error.to_string().contains("leads out of the tree"), "{name}: {error}");
        }
    }
}

#[test]
fn what_is_written_through_symlinks_stays_inside() {
    for target in ["/outside", "../outside", "../../../../../../outside", "/x/../../outside", "./../outside"]
    {
        let ground = Ground::new();
        let archive = Archive::new()
            .dir("outside")
            .symlink("out", target)
            .file("out/canary", "inside")
            .dir("out/dir")
            .file("out/dir/file", "inside")
            .symlink("out/link", "/outside/canary")
            .add(Member::new(b'6', "out/fifo"))
            .link("out/hard", "out/canary");
        // From the tree's root every one of these targets is `outside`, or nothing.
        ground.layer(&archive.end()).unwrap();
        assert_eq!(ground.read("outside/canary"), "inside", "{target}");
        assert!(ground.exists("outside/dir/file") && ground.exists("outside/link"), "{target}");
        assert_eq!(ground.inode("outside/hard"), ground.inode("outside/canary"));
    }
}

#[test]
fn chains_and_loops_of_symlinks() {
    let chain = Archive::new()
        .symlink("dummy/etc", "/etc")
        .symlink("localetc", "./dummy/etc")
        .dir("etc")
        .file("localetc/unbroken", "in")
        .end();
    let ground = Ground::new();
    ground.layer(&chain).unwrap();
    assert_eq!(ground.read("etc/unbroken"), "in");

    let looped = Archive::new().symlink("a", "b").symlink("b", "a").file("a/x", "").end();
    assert!(Ground::new().layer(&looped).is_err());
}

#[test]
fn a_dangling_parent_is_made_inside() {
    let ground = Ground::new();
    ground.layer(&Archive::new().symlink("lock", "/run/../run/lock").file("lock/pid", "1").end()).unwrap();
    assert_eq!(ground.read("run/lock/pid"), "1");
}

#[test]
fn metadata_never_follow_the_last_name() {
    let outside = Ground::new();
    let canary = outside.outside().join("canary");
    let target = canary.to_str().unwrap();
    let hostile = Archive::new()
        .symlink("foo", target)
        .add(Member::dir("foo").mode(0o777).uid(7).mtime(1))
        .symlink("bar", target)
        .add(Member::dir("bar/.").mode(0o777).uid(7))
        .symlink("baz", target)
        .add(Member::file("baz", "overwritten").mode(0o777).uid(7));
    outside.layer(&hostile.end()).unwrap();
    assert_eq!(outside.read("baz"), "overwritten");
    assert!(outside.line("foo").starts_with("d 0777 7:0 1."));
    assert!(outside.line("bar").starts_with("d 0777 7:0"));
}

#[test]
fn a_replaced_directory_takes_its_late_metadata_with_it() {
    let ground = Ground::new();
    let archive = Archive::new()
        .add(Member::dir("a").mtime(5))
        .add(Member::dir("foo").mode(0o700).mtime(1))
        .symlink("foo", "a");
    ground.layer(&archive.end()).unwrap();
    assert!(ground.line("a").ends_with(" 5.000000000"), "{}", ground.line("a"));

    let ground = Ground::new();
    let archive = Archive::new()
        .add(Member::dir("b").mtime(3))
        .add(Member::dir("b/foo").mtime(1))
        .add(Member::dir("a").mtime(4))
        .add(Member::dir("a/foo").mtime(2))
        .symlink("b", "a");
    ground.layer(&archive.end()).unwrap();
    assert!(ground.line("a/foo").ends_with(" 2.000000000"), "{}", ground.line("a/foo"));
}

#[test]
fn a_path_leads_where_it_leads_now() {
    let ground = Ground::new();
    let archive = Archive::new()
        .dir("one")
        .dir("two")
        .symlink("link", "one")
        .file("link/x", "in one")
        .symlink("link", "two")
        .file("link/x", "in two")
        .dir("link")
        .file("link/x", "in link")
        .dir("other")
        .file("other/x", "gone")
        .symlink("other", "one")
        .link("other/y", "other/x");
    ground.layer(&archive.end()).unwrap();
    assert_eq!(["one/x", "two/x", "link/x"].map(|path| ground.read(path)), ["in one", "in two", "in link"]);
    assert_eq!(ground.inode("one/y"), ground.inode("one/x"));
}

#[test]
fn the_root_can_only_be_a_directory() {
    for name in ["", ".", "./", "/.", "/", "a/.."] {
        for kind in [b'0', b'1', b'2', b'3', b'6'] {
            let ground = Ground::new();
            let root = Member::new(kind, name).link("/outside");
            let error = ground.layer(&Archive::new().add(root.clone()).end()).unwrap_err();
            assert!(error.to_string().contains("root"), "{name:?} {kind}: {error}");
            assert!(ground.archive(&Archive::new().add(root).end()).is_err());
        }
    }
    let ground = Ground::new();
    let root = Member::dir("./").mode(0o1751).uid(3).gid(4).mtime(77);
    ground.layer(&Archive::new().add(root).file("x", "").end()).unwrap();
    let stat = ground.tree().metadata().unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid(), stat.mtime()), (0o1751, 3, 4, 77));
}

#[test]
fn directories_swapped_for_symlinks_while_it_runs() {
    let ground = Ground::new();
    ground.make_dir("d").make_link("l", ground.outside().to_str().unwrap());
    let mut archive = Archive::new();
    for n in 0..300 {
        archive = archive.file(format!("d/{n}"), "x").link(format!("d/{n}.link"), format!("d/{n}"));
    }
    let archive = archive.end();
    let (tree, done) = (ground.tree(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let _ = fs::rename(tree.join("d"), tree.join("kept"));
                let _ = fs::rename(tree.join("l"), tree.join("d"));
                let _ = fs::rename(tree.join("d"), tree.join("l"));
                let _ = fs::rename(tree.join("kept"), tree.join("d"));
            }
        });
        for _ in 0..4 {
            // It may fail or not: the tree changed under it.
            let _ = ground.archive(&archive);
        }
        done.store(true, Ordering::Relaxed);
    });
    ground.check_outside();
}
