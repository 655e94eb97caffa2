//! A COPY packed from its context's own files is the layer that copying them into a tree gives, byte for byte.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use forge_runner::files::{self, LocalContext, StackView};
use forge_solver::matching::IgnorePatterns;
use forge_solver::op::{CopyOp, CopySource, Selection, Unpack};
use forge_store::layer::{Compression, FileTimes, LayerWriter, WriteOptions, write_tree};
use forge_store::tree::{
    ContentOptions, Format, Mtimes, OverlayXattrs, ReadOptions, Walk, XattrFilter, content_of,
};
use forge_store::{ContentId, Layer, LayerId, RootDir, Snapshot, Store, Threads};
use tempfile::TempDir;

const MARKS: OverlayXattrs = OverlayXattrs::User;
/// Files are older; what a COPY makes now is later, and cut to this.
const LATEST: WriteOptions = WriteOptions { times: FileTimes::Clamped(1_600_000_000) };

struct World {
    dir: TempDir,
    store: Store,
}

impl World {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let store = Store::open(&dir.path().join("store"), MARKS).unwrap();
        let world = Self { dir, store };
        let context = world.context_dir();
        fs::create_dir_all(context.join("src/deep/er")).unwrap();
        fs::create_dir(context.join("src.d")).unwrap();
        fs::create_dir(context.join("empty")).unwrap();
        for (name, text) in [
            ("a.txt", "text"),
            ("run.sh", "#!/bin/sh"),
            ("src/main", "main"),
            ("src/deep/er/x", "deep"),
            ("src.d/y", "beside"),
            ("src/left-out", "no"),
            ("src/nothing", ""),
        ] {
            fs::write(context.join(name), text).unwrap();
        }
        fs::set_permissions(context.join("run.sh"), PermissionsExt::from_mode(0o4751)).unwrap();
        fs::set_permissions(context.join("empty"), PermissionsExt::from_mode(0o1777)).unwrap();
        symlink("../a.txt", context.join("src/link")).unwrap();
        symlink("src", context.join("to-src")).unwrap();
        fs::hard_link(context.join("src/main"), context.join("src/deep/same")).unwrap();
        let _ = UnixListener::bind(context.join("src/socket")).unwrap();
        age(&context);
        world
    }

    fn context_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("context")
    }

    fn context(&self) -> LocalContext {
        let ignore = IgnorePatterns::from_patterns(&["src/left-out".to_owned()]).unwrap();
        LocalContext::open(&self.context_dir(), ignore, self.dir.path()).unwrap()
    }

    /// A base with directories, a link to one, and a user.
    fn base(&self) -> Snapshot {
        let draft = self.store.draft().unwrap();
        let tree = draft.tree();
        fs::create_dir_all(tree.join("usr/lib")).unwrap();
        fs::create_dir_all(tree.join("etc")).unwrap();
        fs::write(tree.join("etc/passwd"), "root:x:0:0::/:\n").unwrap();
        symlink("usr/lib", tree.join("lib")).unwrap();
        fs::set_permissions(tree.join("usr"), PermissionsExt::from_mode(0o2711)).unwrap();
        age(&tree);
        let id = LayerId::of_content(&ContentId::new(blake3::hash(b"base")));
        self.store.layers().commit(draft, &id, 0).unwrap();
        Snapshot::default().push(Layer::built(id))
    }
}

/// Gives everything below a time of its own.
fn age(top: &Path) {
    for (at, entry) in fs::read_dir(top).unwrap().enumerate() {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            age(&path);
        }
        if kind.is_file() || kind.is_dir() {
            let time = UNIX_EPOCH + Duration::from_secs(1_500_000_000 + at as u64);
            File::open(&path).unwrap().set_modified(time).unwrap();
        }
    }
}

fn copy_op(patterns: &[&str], dest: &str) -> CopyOp {
    let source = |pattern: &&str| CopySource::Files {
        input: 1,
        selection: Selection {
            pattern: (*pattern).into(),
            pivot: None,
            excludes: Vec::new(),
            required: true,
            deep_wildcards: false,
        },
        unpack: Unpack::Never,
    };
    CopyOp {
        sources: patterns.iter().map(source).collect(),
        dest: dest.into(),
        chown: None,
        chmod: None,
        parents: false,
        link: false,
        reset_owner: true,
    }
}

/// The layer's id and tar, made through a tree.
fn by_copying(world: &World, op: &CopyOp, below: &Snapshot) -> Result<(ContentId, Vec<u8>), String> {
    let below = StackView::open(&world.store, below).unwrap();
    let draft = world.store.draft().unwrap();
    let scratch = || unreachable!("no archive is unpacked");
    files::copy(op, &below, &[&world.context()], &draft, MARKS, &scratch).map_err(|e| e.to_string())?;
    let root = RootDir::open_host(draft.tree()).unwrap();
    let read = ReadOptions { format: Format::Overlay(MARKS), xattrs: XattrFilter::Portable };
    let options = ContentOptions { mtimes: Mtimes::Ignore, owners: true };
    let id = content_of(Walk::new(root.dir(), read).unwrap(), options, Threads::available()).unwrap();
    Ok((id, write_tree(root.dir(), MARKS, LATEST, Vec::new()).unwrap()))
}

/// The same without a tree; `None` where that is left to copying.
fn by_borrowing(
    world: &World,
    op: &CopyOp,
    below: &Snapshot,
) -> Result<Option<(ContentId, Vec<u8>)>, String> {
    let below = StackView::open(&world.store, below).unwrap();
    let context = world.context();
    for source in &op.sources {
        if let CopySource::Files { selection, .. } = source {
            context.content(selection).map_err(|e| e.to_string())?;
        }
    }
    let Some(layer) = files::borrow(op, &below, &[&context]).map_err(|e| e.to_string())? else {
        return Ok(None);
    };
    let mut writer = LayerWriter::new(Vec::new(), LATEST);
    for entry in layer.entries() {
        let (entry, hash) = entry.unwrap();
        writer.append_checked(&entry, hash).unwrap();
    }
    Ok(Some((layer.content().unwrap(), writer.finish().unwrap())))
}

#[test]
fn a_borrowed_layer_is_the_copied_one() {
    let world = World::new();
    let base = world.base();
    let mut compared = 0;
    for (patterns, dest) in [
        (&["src"][..], "/app"),
        (&["src"], "/app/"),
        (&[""], "/"),
        (&[""], "/usr/lib"),
        (&["src", "src.d"], "/x"),
        (&["src.d"], "/lib"),
        (&["a.txt"], "/renamed"),
        (&["a.txt"], "/usr/lib/"),
        (&["a.txt", "run.sh"], "/lib/"),
        (&["a.txt"], "/lib"),
        (&["a.txt"], "/etc/passwd"),
        (&["to-src"], "/y"),
        (&["*.txt", "src.*"], "/glob/"),
        (&["empty"], "/usr"),
        (&["src"], "/etc/passwd"),
        (&["a.txt"], "/etc/passwd/x"),
        (&["missing"], "/"),
        (&["run.sh", "a.txt"], "/same"),
    ] {
        for (chown, chmod) in [(None, None), (Some("7:8"), None), (Some("root"), Some("u=rwX,go=rX"))] {
            let mut op = copy_op(patterns, dest);
            (op.chown, op.chmod) = (chown.map(str::to_owned), chmod.map(str::to_owned));
            if chown == Some("7:8") && !rustix::process::getuid().is_root() {
                continue;
            }
            for below in [&Snapshot::default(), &base] {
                if chown == Some("root") && below.top().is_none() {
                    continue;
                }
                let expected = by_copying(&world, &op, below);
                match by_borrowing(&world, &op, below) {
                    Ok(Some(found)) => {
                        assert!(Ok(&found) == expected.as_ref(), "{patterns:?} to {dest} {chown:?}");
                        compared += 1;
                    }
                    Ok(None) => assert!(expected.is_ok(), "{patterns:?} to {dest}"),
                    Err(error) => assert_eq!(Err(error), expected.map(drop), "{patterns:?} to {dest}"),
                }
            }
        }
    }
    assert!(compared > 40, "{compared}");
}

#[test]
fn what_changed_since_it_was_hashed_is_refused() {
    let world = World::new();
    let context = world.context();
    let op = copy_op(&["src.d"], "/");
    let CopySource::Files { selection, .. } = &op.sources[0] else { unreachable!() };
    context.content(selection).unwrap();
    let below = StackView::open(&world.store, &Snapshot::default()).unwrap();
    let layer = files::borrow(&op, &below, &[&context]).unwrap().unwrap();
    // Same size, and the same time: only its bytes tell.
    fs::write(world.context_dir().join("src.d/y"), "BESIDE").unwrap();
    age(&world.context_dir().join("src.d"));
    let id = LayerId::of_content(&layer.content().unwrap());
    let outcome = world.store.layers().pack_entries(&id, Compression::None, layer.entries(), &());
    let error = outcome.unwrap_err().to_string();
    assert_eq!(error, "y changed while it was read");
    assert!(!world.store.layers().is_local(&Layer::built(id)).unwrap());
}

#[test]
fn a_packed_layer_gives_its_tree_when_someone_needs_it() {
    let world = World::new();
    let context = world.context();
    let op = copy_op(&["src"], "/app");
    let CopySource::Files { selection, .. } = &op.sources[0] else { unreachable!() };
    context.content(selection).unwrap();
    let below = StackView::open(&world.store, &Snapshot::default()).unwrap();
    let layer = files::borrow(&op, &below, &[&context]).unwrap().unwrap();
    let id = LayerId::of_content(&layer.content().unwrap());
    let layers = world.store.layers();
    layers.pack_entries(&id, Compression::Gzip(Default::default()), layer.entries(), &()).unwrap();
    assert!(layers.is_local(&Layer::built(id)).unwrap() && layers.tree(&id).unwrap().is_none());
    let tree = layers.ensure_tree(&Layer::built(id)).unwrap();
    assert_eq!(fs::read(tree.join("app/deep/er/x")).unwrap(), b"deep");
    assert_eq!(fs::read_link(tree.join("app/link")).unwrap(), Path::new("../a.txt"));
    let again = layers.pack(&Layer::built(id), Compression::None).unwrap();
    assert_eq!(Some(again.diff_id), layers.diff_id(&id).unwrap());
}
