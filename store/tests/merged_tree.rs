//! A stack of layers in userland, against the kernel's own overlay mount of the same stack.

mod judges;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use forge_store::RootDir;
use forge_store::layer::{LayerWriter, WriteOptions, write_tree};
use forge_store::rootdir::FileKind;
use forge_store::tree::{Entry, Format, MergedTree, Node, ReadOptions, TreeError, XattrFilter};
use judges::fixture::Fixture;
use judges::in_user_namespace;
use tempfile::TempDir;

/// Small numbers that are the same on every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    /// Few names, so that layers often have the same.
    fn name(&mut self) -> &'static str {
        ["a", "b", "c", "d.x", "d"][self.roll(5) as usize]
    }

    fn path(&mut self) -> String {
        let names: Vec<_> =
            (0..=self.roll(5)).map(|_| if self.roll(6) == 0 { ".." } else { self.name() }).collect();
        let slash = if self.roll(2) == 0 { "/" } else { "" };
        format!("{slash}{}", names.join("/"))
    }

    /// Fills a directory of a layer.
    fn fill(&mut self, tree: &Fixture, directory: &str, depth: u32) {
        for _ in 0..2 + self.roll(3) {
            let path = format!("{directory}{}", self.name());
            if tree.path.join(&path).symlink_metadata().is_ok() {
                continue;
            }
            match self.roll(20) {
                0..9 if depth < 4 => {
                    tree.dir(&path, [0o755, 0o700, 0o1777][self.roll(3) as usize]);
                    self.fill(tree, &format!("{path}/"), depth + 1);
                }
                9..12 if depth < 4 => {
                    tree.opaque(&path);
                    self.fill(tree, &format!("{path}/"), depth + 1);
                }
                12..15 => tree.whiteout(&path),
                15..18 => tree.link(&path, self.path()),
                _ => tree.file(&path, 0o640, format!("{}", self.roll(1000)).as_bytes()),
            }
        }
    }
}

/// Layers in directories `0` (the top), `1`, … of a directory.
struct Stack {
    path: PathBuf,
    layers: Vec<Fixture>,
    _top: Option<TempDir>,
}

impl Stack {
    fn new(count: usize) -> Self {
        let top = TempDir::new().unwrap();
        let stack = Self::new_in(top.path(), count);
        Self { _top: Some(top), ..stack }
    }

    fn new_in(path: &Path, count: usize) -> Self {
        let layers = (0..count).map(|layer| {
            let path = path.join(layer.to_string());
            fs::create_dir(&path).unwrap();
            Fixture::new(&path)
        });
        Self { layers: layers.collect(), path: path.into(), _top: None }
    }

    fn merged(&self) -> MergedTree {
        let options =
            ReadOptions { format: Format::Overlay(self.layers[0].xattrs), xattrs: XattrFilter::Capability };
        MergedTree::new(self.layers.iter().map(|layer| layer.root.clone()).collect(), options)
    }

    /// What `dump_tree.py` would say of a mount of the stack, said of a [`MergedTree`].
    fn dump(&self, probes: &[String]) -> String {
        let merged = self.merged();
        let mut lines = Vec::new();
        for entry in merged.walk("").unwrap() {
            let entry = entry.unwrap();
            lines.push(format!("{} {}", entry.path.display(), describe(&merged, &entry)));
        }
        for probe in probes {
            for (follow, name) in [(false, "False"), (true, "True")] {
                let found = match merged.lookup(probe, follow) {
                    Ok(Some(found)) => describe(&merged, &found.entry),
                    Ok(None) => "nothing".to_owned(),
                    Err(TreeError::NotDirectory { .. }) => "not a directory".to_owned(),
                    Err(TreeError::TooManyLinks { .. }) => "too many links".to_owned(),
                    Err(error) => panic!("{error}"),
                };
                lines.push(format!("probe {probe} {name} {found}"));
            }
        }
        lines.join("\n") + "\n"
    }
}

fn describe(merged: &MergedTree, entry: &Entry) -> String {
    let stat = entry.stat;
    let (kind, size, more) = match &entry.node {
        Node::Directory { .. } => (0o40000, 0, String::new()),
        Node::Symlink { target } => (0o120000, stat.size, format!(" -> {}", target.display())),
        Node::Regular => {
            let content = merged.read_small(Path::new("/").join(&entry.path), 1000).unwrap().unwrap();
            (0o100000, stat.size, format!(" {}", String::from_utf8(content).unwrap()))
        }
        other => panic!("{other:?}"),
    };
    let mtime_ns = stat.mtime.sec * 1_000_000_000 + i64::from(stat.mtime.nsec);
    format!("{kind:o} {:o} {size} {mtime_ns}{more}", stat.mode)
}

/// Mounts stacks that lie in directories below `top`, each at `mount` in its directory, and has the kernel's view of
/// them written to `mount.dump`.
fn dump_mounts(top: &Path) {
    let option = if in_user_namespace() { ",userxattr" } else { "" };
    let script = format!(
        "for stack in \"$1\"/*; do
            cd \"$stack\" || exit
            mkdir mount
            mount -t overlay overlay -o lowerdir=\"$(ls -d [0-9]* | sort -n | paste -sd :)\"{option} mount || exit
         done
         exec python3 -c \"$0\" \"$1\"/*/mount"
    );
    let script = ["-m", "sh", "-c", &script, include_str!("judges/dump_tree.py")].map(OsStr::new);
    judges::run("util-linux, mount and python3", "unshare", script.into_iter().chain([top.as_os_str()]));
}

#[test]
fn random_stacks_look_as_the_kernel_shows_them() {
    let top = TempDir::new().unwrap();
    let stacks: Vec<_> = (0..20).map(|seed| random_stack(top.path(), seed)).collect();
    dump_mounts(top.path());
    for (seed, (stack, probes)) in stacks.iter().enumerate() {
        let (ours, kernel) = (stack.dump(probes), fs::read_to_string(stack.path.join("mount.dump")).unwrap());
        for (ours, kernel) in ours.lines().zip(kernel.lines()) {
            assert_eq!(ours, kernel, "seed {seed}");
        }
        assert_eq!(ours.len(), kernel.len(), "seed {seed}");
    }
    if !in_user_namespace() {
        judges::again_in_user_namespace("random_stacks_look_as_the_kernel_shows_them");
    }
}

/// A stack, and paths to look up in it.
fn random_stack(top: &Path, seed: u64) -> (Stack, Vec<String>) {
    let mut dice = Dice(seed);
    let path = top.join(seed.to_string());
    fs::create_dir(&path).unwrap();
    let stack = Stack::new_in(&path, 2 + dice.roll(5) as usize);
    for layer in &stack.layers {
        dice.fill(layer, "", 0);
    }
    let probes: Vec<_> = (0..60).map(|_| dice.path()).collect();
    fs::write(path.join("mount.probes"), probes.join("\n")).unwrap();
    (stack, probes)
}

#[test]
fn a_merged_walk_is_written_as_one_layer_without_deletions() {
    let stack = Stack::new(3);
    let [top, middle, bottom] = &stack.layers[..] else { unreachable!() };
    bottom.all_shapes();
    bottom.file("old/file", 0o644, b"");
    middle.whiteout("old");
    middle.file("opaque/hidden", 0o644, b"");
    top.opaque("opaque");
    top.file("opaque/shown", 0o644, b"");
    stack.layers.iter().for_each(Fixture::times);
    let mut writer = LayerWriter::new(Vec::new(), WriteOptions::default());
    for entry in stack.merged().walk("/").unwrap() {
        writer.append(&entry.unwrap()).unwrap();
    }
    let merged = writer.finish().unwrap();

    let expected = Stack::new(1);
    let tree = &expected.layers[0];
    tree.all_shapes();
    tree.file("opaque/shown", 0o644, b"");
    tree.times();
    let expected = write_tree(tree.root.dir(), tree.xattrs, WriteOptions::default(), Vec::new()).unwrap();
    assert!(merged == expected);
}

#[test]
fn links_are_resolved_inside_and_across_layers() {
    let stack = Stack::new(2);
    stack.layers[0].link("etc/passwd", "/../../usr/lib/passwd");
    stack.layers[0].link("dangling", "/nowhere/at/all");
    stack.layers[1].file("usr/lib/passwd", 0o644, b"root");
    let merged = stack.merged();
    let found = merged.lookup("etc/passwd", true).unwrap().unwrap();
    assert_eq!((found.entry.path.to_str().unwrap(), found.layer), ("usr/lib/passwd", 1));
    assert_eq!(merged.lookup("etc/passwd", false).unwrap().unwrap().layer, 0);
    assert_eq!(merged.read_link("etc/passwd").unwrap().unwrap(), "/../../usr/lib/passwd");
    assert_eq!(merged.read_link("etc").unwrap(), None);
    assert!(merged.lookup("dangling", true).unwrap().is_none());
    let root = merged.lookup("/", true).unwrap().unwrap();
    assert_eq!((root.entry.path.as_os_str().len(), root.layer), (0, 0));
    let names = |path| merged.read_dir(path).unwrap().into_iter().map(|e| e.path).collect::<Vec<_>>();
    assert_eq!(names("/"), ["dangling", "etc", "usr"].map(Path::new));
    assert_eq!(names("etc/../usr/lib"), [Path::new("usr/lib/passwd")]);
}

#[test]
fn small_files_are_read_whole_or_refused_at_once() {
    let stack = Stack::new(2);
    let tree = &stack.layers[0];
    tree.file("file", 0o644, b"12345");
    tree.node("pipe", FileKind::Fifo, 0o644, 0, 0);
    tree.node("null", FileKind::Char, 0o666, 1, 3);
    tree.link("to-pipe", "pipe");
    tree.link("out", "/proc/self/environ");
    let merged = stack.merged();
    assert_eq!(merged.read_small("file", 5).unwrap().unwrap(), b"12345");
    assert_eq!(merged.read_small("file", 4).unwrap_err().to_string(), "file is larger than 4 bytes");
    assert_eq!(merged.read_small("to-pipe", 5).unwrap_err().to_string(), "pipe is not a regular file");
    assert_eq!(merged.read_small("null", 5).unwrap_err().to_string(), "null is not a regular file");
    assert!(merged.read_small("missing", 5).unwrap().is_none());
    assert!(merged.read_small("out", 5).unwrap().is_none());
}

#[test]
fn a_plain_directory_is_a_stack_of_one() {
    let top = TempDir::new().unwrap();
    fs::create_dir(top.path().join("sub")).unwrap();
    fs::write(top.path().join("sub/file"), "content").unwrap();
    fs::write(top.path().join(".wh.kept"), "").unwrap();
    let options = ReadOptions { format: Format::Plain, xattrs: XattrFilter::None };
    let context = MergedTree::new(vec![RootDir::open_host(top.path()).unwrap()], options);
    let mut walk = context.walk("").unwrap();
    let mut seen = Vec::new();
    while let Some(entry) = walk.next().transpose().unwrap() {
        if entry.path == Path::new("sub") {
            walk.skip_directory();
        }
        seen.push(entry.path);
    }
    assert_eq!(seen, [".wh.kept", "sub"].map(Path::new));
    let (file, entry) = context.open_file("sub/../sub/file").unwrap();
    assert_eq!(file.metadata().unwrap().ino(), entry.stat.ino);
}

/// All directories of all layers together are more than a process may usually have open.
#[test]
fn many_layers_and_deep_trees_need_few_descriptors() {
    judges::limit_descriptors();
    let stack = Stack::new(24);
    let deep = ["d"; 45].join("/");
    for (number, layer) in stack.layers.iter().enumerate() {
        layer.file(format!("{deep}/{number}"), 0o644, b"");
    }
    let merged = stack.merged();
    assert_eq!(merged.walk("").unwrap().map(Result::unwrap).count(), 69);
    assert_eq!(merged.lookup(format!("{deep}/23"), true).unwrap().unwrap().layer, 23);
    let options = ReadOptions { format: Format::Plain, xattrs: XattrFilter::None };
    assert!(MergedTree::new(Vec::new(), options).lookup("x", true).is_err());
}

/// The upper layers of random stacks, written as one layer: on the same lower ones it shows the same tree.
#[test]
fn the_changes_of_several_layers_are_one_layer() {
    for seed in 0..20 {
        let mut dice = Dice(seed);
        let stack = Stack::new(4);
        for layer in &stack.layers {
            dice.fill(layer, "", 0);
        }
        let options =
            ReadOptions { format: Format::Overlay(stack.layers[0].xattrs), xattrs: XattrFilter::Capability };
        let roots = |layers: &[Fixture]| layers.iter().map(|layer| layer.root.clone()).collect();
        let upper = MergedTree::new(roots(&stack.layers[..2]), options);
        let mut writer = LayerWriter::new(Vec::new(), WriteOptions::default());
        for entry in upper.changes().unwrap() {
            writer.append(&entry.unwrap()).unwrap();
        }
        let tar = writer.finish().unwrap();

        let top = TempDir::new().unwrap();
        let squashed = Fixture::new(top.path());
        let unpack = forge_store::layer::UnpackOptions::layer(squashed.xattrs);
        forge_store::layer::unpack(&tar[..], &squashed.root, &unpack).unwrap();
        for layer in &stack.layers {
            // Layers have whole seconds.
            for entry in forge_store::tree::Walk::new(layer.root.dir(), options).unwrap() {
                let entry = entry.unwrap();
                let mtime = forge_store::rootdir::Mtime { nsec: 0, ..entry.stat.mtime };
                entry.at().set_mtime(mtime).unwrap();
            }
        }
        let want = stack.dump(&[]);
        let Stack { path, layers, _top } = stack;
        let mut layers = layers.into_iter().skip(2).collect::<Vec<_>>();
        layers.insert(0, squashed);
        assert_eq!(Stack { path, layers, _top }.dump(&[]), want, "seed {seed}");
    }
}
