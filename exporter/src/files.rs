//! The files themselves, without an image around them: into a directory or a tar.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use forge_store::layer::{FileTimes, LayerWriter, WriteOptions};
use forge_store::rootdir::{FileKind, NewDir, RootDir};
use forge_store::tree::{Entry, Format, MergedTree, Node, ReadOptions, Walk, XattrFilter};
use forge_store::{Snapshot, Store};

use crate::ExportError;

/// A snapshot's layers as one tree; empty for no layers.
fn merged(store: &Store, snapshot: &Snapshot) -> Result<Option<MergedTree>, ExportError> {
    let trees = store.layers().stack(snapshot)?;
    snapshot.downward().try_for_each(|layer| store.layers().check_before_export(layer))?;
    let layers: Vec<RootDir> = trees
        .iter()
        .map(RootDir::open_host)
        .collect::<Result<_, _>>()
        .map_err(|e| ExportError::Destination(e.to_string()))?;
    let options =
        ReadOptions { format: Format::Overlay(store.layers().xattrs()), xattrs: XattrFilter::Capability };
    Ok((!layers.is_empty()).then(|| MergedTree::new(layers, options)))
}

/// A platform's files, and the directory that they go into, where each platform has its own.
pub struct Part<'a> {
    /// `linux_amd64`; empty for none.
    pub prefix: String,
    /// The files.
    pub snapshot: &'a Snapshot,
}

/// Writes all files as one tar.
pub fn write_tar(
    store: &Store,
    parts: &[Part<'_>],
    times: FileTimes,
    out: impl Write,
) -> Result<(), ExportError> {
    let mut shared = check_mix(store, parts)?;
    let mut writer = LayerWriter::new(out, WriteOptions { times });
    for part in parts {
        if !part.prefix.is_empty() {
            writer.append_directory(Path::new(&part.prefix)).map_err(fail)?;
        }
        let Some(tree) = merged(store, part.snapshot)? else { continue };
        for entry in tree.walk("").map_err(fail)? {
            let mut entry = entry.map_err(fail)?;
            if !part.prefix.is_empty() {
                entry.path = Path::new(&part.prefix).join(&entry.path);
            } else if shared.get(&entry.path) == Some(&true) {
                continue;
            }
            shared.entry(entry.path.clone()).and_modify(|written| *written = true);
            writer.append(&entry).map_err(fail)?;
        }
        // The next part's files are others, even where they are the same inodes.
        writer.forget_links();
    }
    let mut out = writer.finish().map_err(fail)?;
    out.flush().map_err(|e| ExportError::io("write", "the tar", e))
}

/// Where the files of several platforms go into one tree they may share directories, and nothing else. Gives
/// those directories, none of them written yet.
fn check_mix(store: &Store, parts: &[Part<'_>]) -> Result<BTreeMap<PathBuf, bool>, ExportError> {
    let mut shared = BTreeMap::new();
    let mut seen = BTreeMap::new();
    let mixed: Vec<_> = parts.iter().filter(|part| part.prefix.is_empty()).collect();
    if mixed.len() < 2 {
        return Ok(shared);
    }
    for part in mixed {
        let Some(tree) = merged(store, part.snapshot)? else { continue };
        for entry in tree.walk("").map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let is_directory = entry.node.is_directory();
            match seen.insert(entry.path.clone(), is_directory) {
                None => {}
                Some(true) if is_directory => drop(shared.insert(entry.path, false)),
                Some(_) => {
                    let detail = format!(
                        "platform-split=false: {} is there for more than one platform",
                        entry.path.display()
                    );
                    return Err(ExportError::Unsuitable(detail));
                }
            }
        }
    }
    Ok(shared)
}

/// How a directory is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct DirectoryOptions {
    /// What becomes of modification times.
    pub times: FileTimes,
    /// What the files do not have is removed from the directory.
    pub mirror: bool,
}

/// Writes all files into a directory, as the caller's own: modes and times are kept, owners are not, devices are
/// left out. What is in the directory already stays unless a file of that name is written, or `mirror` says so.
pub fn write_directory(
    store: &Store,
    parts: &[Part<'_>],
    dest: &Path,
    options: DirectoryOptions,
) -> Result<(), ExportError> {
    check_mix(store, parts)?;
    let mut written = BTreeSet::new();
    for part in parts {
        let below = dest.join(&part.prefix);
        fs::create_dir_all(&below).map_err(|e| ExportError::io("create", &below, e))?;
        let paths = write_part(store, part.snapshot, &below, options.times)?;
        if options.mirror {
            written.extend(Some(PathBuf::from(&part.prefix)).filter(|prefix| !prefix.as_os_str().is_empty()));
            written.extend(paths.into_iter().map(|path| Path::new(&part.prefix).join(path)));
        }
    }
    if options.mirror { remove_others(dest, &written) } else { Ok(()) }
}

/// Gives the paths that were written.
fn write_part(
    store: &Store,
    snapshot: &Snapshot,
    dest: &Path,
    times: FileTimes,
) -> Result<Vec<PathBuf>, ExportError> {
    let root = RootDir::open_host(dest).map_err(fail)?;
    let Some(tree) = merged(store, snapshot)? else { return Ok(Vec::new()) };
    let (mut paths, mut directories) = (Vec::new(), Vec::new());
    for entry in tree.walk("").map_err(fail)? {
        let entry = entry.map_err(fail)?;
        write_entry(&root, &entry, dest, times)?;
        paths.push(entry.path.clone());
        if entry.node.is_directory() {
            directories.push((entry.path, entry.stat));
        }
    }
    // Last, and the deepest first: writing into a directory changes its time, and its mode may forbid it.
    for (path, stat) in directories.into_iter().rev() {
        let dir = root.open_dir(&path).map_err(fail)?;
        let place = dir.itself();
        place.chmod(stat.mode).and_then(|()| place.set_mtime(times.exact(stat.mtime))).map_err(fail)?;
    }
    Ok(paths)
}

/// Removes what is in the directory and is not among `written`.
fn remove_others(dest: &Path, written: &BTreeSet<PathBuf>) -> Result<(), ExportError> {
    let root = RootDir::open_host(dest).map_err(fail)?;
    let options = ReadOptions { format: Format::Plain, xattrs: XattrFilter::None };
    let mut walk = Walk::new(root.dir(), options).map_err(fail)?;
    let mut others = Vec::new();
    while let Some(entry) = walk.next() {
        let entry = entry.map_err(fail)?;
        if !written.contains(&entry.path) {
            walk.skip_directory();
            others.push(entry.path);
        }
    }
    // Directories that were written may forbid their owner to change them; they get their times back, too.
    for path in others {
        let parent = root.parent_of(&path, None).map_err(fail)?;
        parent.at().remove_tree().map_err(fail)?;
    }
    Ok(())
}

fn fail(error: impl std::fmt::Display) -> ExportError {
    ExportError::Destination(error.to_string())
}

fn write_entry(root: &RootDir, entry: &Entry, dest: &Path, times: FileTimes) -> Result<(), ExportError> {
    let fail = |e: &dyn std::fmt::Display| {
        ExportError::Destination(format!("cannot write {}: {e}", dest.join(&entry.path).display()))
    };
    let place =
        root.parent_of(&entry.path, Some(NewDir { mode: 0o755, owner: None })).map_err(|e| fail(&e))?;
    let at = place.at();
    let there = at.try_stat().map_err(|e| fail(&e))?;
    match (&entry.node, there.map(|stat| stat.kind)) {
        (Node::Directory { .. }, Some(FileKind::Directory)) => return Ok(()),
        (_, Some(_)) => at.remove_tree().map_err(|e| fail(&e))?,
        _ => {}
    }
    match &entry.node {
        Node::Directory { .. } => at.create_dir(0o700).map_err(|e| fail(&e))?,
        Node::Symlink { target } => at.symlink(target).map_err(|e| fail(&e))?,
        Node::Regular => {
            let mut from = entry.open_file().map_err(|e| fail(&e))?.into_file();
            let mut to = at.create_file(entry.stat.mode & 0o777).map_err(|e| fail(&e))?;
            io::copy(&mut from, &mut to).map_err(|e| fail(&e))?;
        }
        Node::Fifo => at.mknod(FileKind::Fifo, entry.stat.mode, entry.stat.rdev).map_err(|e| fail(&e))?,
        Node::Char(_) | Node::Block(_) | Node::Whiteout => return Ok(()),
    }
    at.set_mtime(times.exact(entry.stat.mtime)).map_err(|e| fail(&e))
}
