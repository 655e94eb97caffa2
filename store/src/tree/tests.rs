//! Walks over trees made for the purpose. Real devices need root; without it the same tree holds records.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::RootDir;

/// The kind of tree that whoever runs the tests can make.
fn xattrs_of_this_user() -> OverlayXattrs {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    let first_namespace = map.split_whitespace().eq(["0", "0", "4294967295"]);
    match first_namespace && rustix::process::geteuid().is_root() {
        true => OverlayXattrs::Trusted,
        false => OverlayXattrs::User,
    }
}

fn walk(root: &RootDir, format: Format) -> Result<Vec<Entry>, TreeError> {
    Walk::new(root.dir(), ReadOptions { format, xattrs: XattrFilter::Portable })?.collect()
}

fn paths(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.path.to_str().unwrap()).collect()
}

struct Tree {
    dir: TempDir,
    root: RootDir,
    format: Format,
}

impl Tree {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let root = RootDir::open_host(dir.path()).unwrap();
        Self { dir, root, format: Format::Overlay(xattrs_of_this_user()) }
    }

    fn at(&self, path: &str) -> crate::rootdir::Place {
        let new = crate::rootdir::NewDir { mode: 0o755, owner: None };
        self.root.parent_of(path, Some(new)).unwrap()
    }

    fn nodes(&self) -> Vec<(String, Node)> {
        let entries = walk(&self.root, self.format).unwrap();
        entries.into_iter().map(|e| (e.path.to_str().unwrap().to_owned(), e.node)).collect()
    }
}

#[test]
fn entries_come_parents_first_and_sorted_by_bytes() {
    let tree = Tree::new();
    for path in ["b/z", "b/a/x", "a.b/f", "a/f", "a0", "B", "b/a.txt", "empty/"] {
        match path.strip_suffix('/') {
            Some(dir) => tree.at(dir).at().create_dir(0o755).unwrap(),
            None => drop(tree.at(path).at().create_file(0o644).unwrap()),
        }
    }
    let entries = walk(&tree.root, tree.format).unwrap();
    assert_eq!(
        paths(&entries),
        ["B", "a", "a/f", "a.b", "a.b/f", "a0", "b", "b/a", "b/a/x", "b/a.txt", "b/z", "empty"]
    );
}

#[test]
fn every_type_is_told_apart_and_sockets_are_left_out() {
    let tree = Tree::new();
    let xattrs = xattrs_of_this_user();
    let device = Device { major: 1, minor: 3 };
    create_whiteout(tree.at("d/gone").at(), xattrs).unwrap();
    let opaque = tree.at("d/opaque");
    opaque.at().create_dir(0o755).unwrap();
    xattrs.set_opaque(opaque.at()).unwrap();
    node::create(tree.at("d/char").at(), FileKind::Char, 0o666, device, xattrs).unwrap();
    node::create(tree.at("d/block").at(), FileKind::Block, 0o660, device, xattrs).unwrap();
    node::create(tree.at("d/fifo").at(), FileKind::Fifo, 0o600, device, xattrs).unwrap();
    symlink("\u{fc}/../x", tree.dir.path().join("d/link")).unwrap();
    fs::write(tree.dir.path().join("d/file"), "").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tree.dir.path().join("d/socket")).unwrap();
    let expected = [
        ("d", Node::Directory { opaque: false }),
        ("d/block", Node::Block(device)),
        ("d/char", Node::Char(device)),
        ("d/fifo", Node::Fifo),
        ("d/file", Node::Regular),
        ("d/gone", Node::Whiteout),
        ("d/link", Node::Symlink { target: "\u{fc}/../x".into() }),
        ("d/opaque", Node::Directory { opaque: true }),
    ];
    assert_eq!(tree.nodes(), expected.map(|(path, node)| (path.to_owned(), node)));
}

#[test]
fn in_a_user_namespace_devices_are_recorded_and_with_trusted_attributes_records_mean_nothing() {
    let tree = Tree::new();
    let file = tree.at("null");
    file.at().create_file(0o666).unwrap();
    file.at().set_xattr(node::NODE_XATTR, b"c 1 3").unwrap();
    let as_user = walk(&tree.root, Format::Overlay(OverlayXattrs::User)).unwrap();
    assert_eq!(as_user[0].node, Node::Char(Device { major: 1, minor: 3 }));
    assert_eq!(as_user[0].xattrs().unwrap(), []);
    for format in [Format::Overlay(OverlayXattrs::Trusted), Format::Plain] {
        assert_eq!(walk(&tree.root, format).unwrap()[0].node, Node::Regular);
    }
    file.at().set_xattr(node::NODE_XATTR, b"c one 3").unwrap();
    let error = walk(&tree.root, Format::Overlay(OverlayXattrs::User)).unwrap_err();
    assert_eq!(error.to_string(), "device record of null is not `c|b MAJOR MINOR`");
}

#[test]
fn in_a_plain_directory_a_whiteout_is_a_device() {
    let tree = Tree::new();
    create_whiteout(tree.at("gone").at(), OverlayXattrs::User).unwrap();
    let entries = walk(&tree.root, Format::Plain).unwrap();
    assert_eq!(entries[0].node, Node::Char(Device::default()));
}

#[test]
fn only_portable_attributes_are_carried() {
    let tree = Tree::new();
    let file = tree.at("file");
    file.at().create_file(0o644).unwrap();
    for name in ["user.b", "user.a", "user.overlay.origin", "user.forge.other"] {
        file.at().set_xattr(name, name.as_bytes()).unwrap();
    }
    let entries = walk(&tree.root, tree.format).unwrap();
    let xattrs = entries[0].open_file().unwrap().xattrs().unwrap();
    assert_eq!(entries[0].xattrs().unwrap(), xattrs);
    let names: Vec<_> = xattrs.iter().map(|(name, value)| (name.as_bytes(), &value[..])).collect();
    assert_eq!(names, [(&b"user.a"[..], &b"user.a"[..]), (b"user.b", b"user.b")]);
}

#[test]
fn a_tree_of_another_overlay_is_refused() {
    let tree = Tree::new();
    tree.at("a/moved").at().create_dir(0o755).unwrap();
    tree.at("a/moved").at().set_xattr("user.overlay.redirect", b"/old").unwrap();
    let error = walk(&tree.root, Format::Overlay(OverlayXattrs::User)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "layer tree uses overlay feature `user.overlay.redirect` at a/moved, which forge does not"
    );
}

#[test]
fn depth_costs_neither_stack_nor_descriptors() {
    crate::rootdir::tests::limit_descriptors();
    let tree = Tree::new();
    let mut dir = tree.root.dir().clone();
    for _ in 0..1500 {
        let at = dir.at("d").unwrap();
        at.create_dir(0o755).unwrap();
        dir = at.open_dir().unwrap();
    }
    dir.at("file").unwrap().create_file(0o644).unwrap();
    let entries =
        Walk::new(tree.root.dir(), ReadOptions { format: tree.format, xattrs: XattrFilter::Portable });
    let mut deepest = Path::new("").to_owned();
    let mut count = 0;
    for entry in entries.unwrap() {
        deepest = entry.unwrap().path;
        count += 1;
    }
    assert_eq!((count, deepest.components().count()), (1501, 1501));
    tree.root.remove("d").unwrap();
}

#[test]
fn a_file_replaced_after_the_walk_saw_it_is_not_opened() {
    let tree = Tree::new();
    let path = tree.dir.path().join("file");
    fs::write(&path, "old").unwrap();
    let entry = walk(&tree.root, tree.format).unwrap().remove(0);
    entry.open_file().unwrap();
    fs::write(&path, "longer").unwrap();
    assert_eq!(entry.open_file().unwrap_err().to_string(), "file file changed while it was being read");
}

#[test]
fn a_directory_can_be_left_out() {
    let tree = Tree::new();
    for path in ["a/x/y", "b/z"] {
        tree.at(path).at().create_file(0o644).unwrap();
    }
    let options = ReadOptions { format: tree.format, xattrs: XattrFilter::None };
    let mut walk = Walk::new(tree.root.dir(), options).unwrap();
    let mut seen = Vec::new();
    while let Some(entry) = walk.next().transpose().unwrap() {
        if entry.path == Path::new("a") {
            walk.skip_directory();
        }
        seen.push(entry);
    }
    assert_eq!(paths(&seen), ["a", "b", "b/z"]);
}
