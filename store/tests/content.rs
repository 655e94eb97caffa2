//! What changes the id of a tree's content, and what does not.

mod judges;

use std::fs;
use std::num::NonZeroUsize;

use forge_store::rootdir::Mtime;
use forge_store::tree::{
    ContentHasher, ContentOptions, FileHash, Format, Mtimes, ReadOptions, Walk, XattrFilter, content_of,
    hash_files,
};
use forge_store::{ContentId, Threads};
use judges::fixture::Fixture;
use judges::in_user_namespace;
use tempfile::TempDir;

const SEC: i64 = 1_700_000_000;
const WINDOW: Mtimes =
    Mtimes::OutsideWindow { from: Mtime { sec: SEC, nsec: 5 }, to: Mtime { sec: SEC + 10, nsec: 5 } };

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

    fn walk(&self) -> Walk {
        let options =
            ReadOptions { format: Format::Overlay(self.tree.xattrs), xattrs: XattrFilter::Portable };
        Walk::new(self.tree.root.dir(), options).unwrap()
    }

    fn id_with(&self, mtimes: Mtimes, owners: bool) -> ContentId {
        content_of(self.walk(), ContentOptions { mtimes, owners }, Threads::available()).unwrap()
    }

    fn id(&self) -> ContentId {
        self.id_with(Mtimes::Ignore, true)
    }

    fn set_mtime(&self, path: &str, sec: i64, nsec: u32) {
        let place = self.tree.root.parent_of(path, None).unwrap();
        place.at().set_mtime(Mtime { sec, nsec }).unwrap();
    }
}

/// A small tree, after `change`.
fn id_after(change: impl FnOnce(&Fixture)) -> ContentId {
    let ground = Ground::new();
    let tree = &ground.tree;
    tree.file("d/one", 0o644, b"same");
    tree.file("d/two", 0o644, b"same");
    tree.link("d/link", "one");
    tree.dir("empty", 0o755);
    change(tree);
    ground.id()
}

fn at(tree: &Fixture, path: &str, change: impl FnOnce(forge_store::rootdir::At<'_>)) {
    change(tree.root.parent_of(path, None).unwrap().at());
}

#[test]
fn every_difference_that_counts_gives_another_id() {
    let replace = |tree: &Fixture, path: &str| tree.root.remove(path).unwrap();
    type Change = Box<dyn FnOnce(&Fixture)>;
    let changes: Vec<Change> = vec![
        Box::new(|_| ()),
        Box::new(|tree| fs::write(tree.path.join("d/one"), "sane").unwrap()),
        Box::new(|tree| fs::write(tree.path.join("d/one"), "").unwrap()),
        Box::new(|tree| fs::rename(tree.path.join("d/two"), tree.path.join("d/2")).unwrap()),
        Box::new(|tree| at(tree, "d/one", |at| at.chmod(0o4644).unwrap())),
        Box::new(|tree| at(tree, "empty", |at| at.chmod(0o1755).unwrap())),
        Box::new(|tree| at(tree, "d/one", |at| at.set_xattr("user.note", b"1").unwrap())),
        Box::new(|tree| at(tree, "d/one", |at| at.set_xattr("user.note", b"2").unwrap())),
        Box::new(|tree| at(tree, "d/two", |at| at.set_xattr("user.note", b"2").unwrap())),
        Box::new(|tree| tree.file("d/three", 0o644, b"")),
        Box::new(|tree| tree.dir("d/three", 0o644)),
        Box::new(|tree| tree.whiteout("d/three")),
        Box::new(|tree| tree.opaque("d/three")),
        Box::new(|tree| tree.node("d/three", forge_store::rootdir::FileKind::Fifo, 0o644, 0, 0)),
        Box::new(|tree| tree.node("d/three", forge_store::rootdir::FileKind::Char, 0o644, 1, 3)),
        Box::new(|tree| tree.node("d/three", forge_store::rootdir::FileKind::Block, 0o644, 1, 3)),
        Box::new(|tree| tree.node("d/three", forge_store::rootdir::FileKind::Char, 0o644, 3, 1)),
        Box::new(move |tree| (replace(tree, "d/two"), tree.hard_link("d/two", "d/one")).1),
        Box::new(move |tree| (replace(tree, "d/link"), tree.link("d/link", "two")).1),
        Box::new(move |tree| (replace(tree, "d/link"), tree.file("d/link", 0o777, b"one")).1),
        Box::new(move |tree| (replace(tree, "d/two"), tree.file("empty/two", 0o644, b"same")).1),
    ];
    let mut ids: Vec<_> = changes.into_iter().map(id_after).collect();
    if !in_user_namespace() {
        ids.push(id_after(|tree| at(tree, "d/one", |at| at.chown(1, 0).unwrap())));
        ids.push(id_after(|tree| at(tree, "d/one", |at| at.chown(0, 1).unwrap())));
    }
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

#[test]
fn copies_made_elsewhere_and_later_have_the_same_id() {
    let (first, second) = (Ground::new(), Ground::new());
    first.tree.all_shapes();
    second.tree.file("zz", 0o644, b"other inodes");
    second.tree.all_shapes();
    second.tree.root.remove("zz").unwrap();
    second.tree.times();
    // Another name outside of the tree makes no hard link inside of it.
    fs::hard_link(second.tree.path.join("sparse"), second.top.path().join("outside")).unwrap();
    assert_eq!(first.id(), second.id());
}

/// The id is in cache keys: a change loses every cache, and is made on purpose, with another version.
#[test]
fn a_fixed_tree_has_a_fixed_id() {
    let ground = Ground::new();
    ground.tree.all_shapes();
    ground.tree.opaque("opaque");
    ground.tree.whiteout("gone");
    ground.tree.times();
    assert_eq!(
        ground.id_with(WINDOW, true).hex(),
        "d5fc2c165a8b43961c0cf89c78fe205396d5443bba876214935133f10d12729b"
    );
    if !in_user_namespace() {
        judges::again_in_user_namespace("a_fixed_tree_has_a_fixed_id");
    }
}

#[test]
fn times_of_the_step_itself_do_not_count_and_others_do() {
    let ground = Ground::new();
    ground.tree.file("file", 0o644, b"");
    let id = |sec, nsec| {
        ground.set_mtime("file", sec, nsec);
        (ground.id_with(WINDOW, true), ground.id_with(Mtimes::Ignore, true))
    };
    let inside = id(SEC, 5);
    assert_eq!(id(SEC + 10, 5), inside);
    let before = id(SEC, 4);
    let after = id(SEC + 10, 6);
    assert!(before.0 != inside.0 && after.0 != inside.0 && before.0 != after.0);
    assert_eq!((before.1, after.1), (inside.1, inside.1));
    assert_eq!(id(SEC, 0), before, "layers have whole seconds");
    assert_ne!(inside.0, inside.1, "options are part of the id");
}

#[test]
fn owners_count_only_where_asked() {
    if in_user_namespace() {
        return;
    }
    let ground = Ground::new();
    ground.tree.file("file", 0o644, b"");
    let id = || (ground.id_with(Mtimes::Ignore, true), ground.id_with(Mtimes::Ignore, false));
    let root = id();
    at(&ground.tree, "file", |at| at.chown(1000, 1000).unwrap());
    let user = id();
    assert!(root.0 != user.0 && root.1 == user.1);
}

#[test]
fn threads_do_not_change_the_id_nor_the_order() {
    let ground = Ground::new();
    for number in 0..500 {
        let content = vec![number as u8; number * 37 % 3000];
        ground.tree.file(format!("{}/{number}", number % 7), 0o644, &content);
    }
    ground.tree.file("large", 0o644, &vec![1; 9_000_000]);
    let expected = ground.id();
    for count in [1, 2, 4, 16] {
        let threads = Threads::new(NonZeroUsize::new(count).unwrap());
        let options = ContentOptions { mtimes: Mtimes::Ignore, owners: true };
        assert_eq!(content_of(ground.walk(), options, threads).unwrap(), expected);
        let mut seen = Vec::new();
        hash_files(
            ground.walk(),
            threads,
            |_| None,
            |entry, _| {
                seen.push(entry.path);
                Ok(())
            },
        )
        .unwrap();
        let walked: Vec<_> = ground.walk().map(|entry| entry.unwrap().path).collect();
        assert_eq!(seen, walked);
    }
}

#[test]
fn known_files_are_not_read() {
    let ground = Ground::new();
    let options = ContentOptions { mtimes: Mtimes::Ignore, owners: true };
    let read = ReadOptions { format: Format::Plain, xattrs: XattrFilter::None };
    let walk = || Walk::new(ground.tree.root.dir(), read).unwrap();
    ground.tree.file("known", 0o644, b"content");
    let expected = content_of(walk(), options, Threads::available()).unwrap();

    let hash = FileHash::from_bytes(*blake3::hash(b"content").as_bytes());
    let mut content = ContentHasher::new(options);
    // Gone before it could be read.
    let walk = walk().inspect(|_| ground.tree.root.remove("known").unwrap());
    hash_files(
        walk,
        Threads::available(),
        |_| Some(hash),
        |entry, file| {
            content.add(&entry.path, &entry, file.as_ref());
            Ok(())
        },
    )
    .unwrap();
    assert_eq!(content.finish(), expected);
}

#[test]
fn the_first_error_ends_it() {
    let ground = Ground::new();
    for number in 0..300 {
        ground.tree.file(format!("{number}"), 0o644, b"content");
    }
    let walk = ground.walk().inspect(|entry| {
        let entry = entry.as_ref().unwrap();
        if entry.path.to_str() == Some("142") {
            fs::write(ground.tree.path.join("142"), "longer content").unwrap();
        }
    });
    let options = ContentOptions { mtimes: Mtimes::Ignore, owners: true };
    let error = content_of(walk, options, Threads::available()).unwrap_err();
    assert_eq!(error.to_string(), "file 142 changed while it was being read");
}
