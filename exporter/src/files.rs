//! The files themselves, without an image around them: into a directory or a tar.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use forge_store::layer::{FileTimes, LayerWriter, WriteOptions};
use forge_store::rootdir::{FileKind, NewDir, RootDir};
use forge_store::tree::{Entry, Format, MergedTree, Node, ReadOptions, XattrFilter};
use forge_store::{Snapshot, Store};

use crate::ExportError;

/// A snapshot's layers as one tree; empty for no layers.
fn merged(store: &Store, snapshot: &Snapshot) -> Result<Option<MergedTree>, ExportError> {
    let trees = store.layers().stack(snapshot)?;
    let layers: Vec<RootDir> = trees
        .iter()
        .map(RootDir::open_host)
        .collect::<Result<_, _>>()
        .map_err(|e| ExportError::Destination(e.to_string()))?;
    let options =
        ReadOptions { format: Format::Overlay(store.layers().xattrs()), xattrs: XattrFilter::Capability };
    Ok((!layers.is_empty()).then(|| MergedTree::new(layers, options)))
}

/// Writes all files as one tar.
pub fn write_tar(
    store: &Store,
    snapshot: &Snapshot,
    times: FileTimes,
    out: impl Write,
) -> Result<(), ExportError> {
    let mut writer = LayerWriter::new(out, WriteOptions { times });
    let fail = |e: &dyn std::fmt::Display| ExportError::Destination(e.to_string());
    if let Some(tree) = merged(store, snapshot)? {
        for entry in tree.walk("").map_err(|e| fail(&e))? {
            writer.append(&entry.map_err(|e| fail(&e))?).map_err(|e| fail(&e))?;
        }
    }
    let mut out = writer.finish().map_err(|e| fail(&e))?;
    out.flush().map_err(|e| ExportError::io("write", "the tar", e))
}

/// Writes all files into a directory, as the caller's own: modes and times are kept, owners are not, devices are
/// left out. What is in the directory already stays unless a file of that name is written.
pub fn write_directory(store: &Store, snapshot: &Snapshot, dest: &Path) -> Result<(), ExportError> {
    fs::create_dir_all(dest).map_err(|e| ExportError::io("create", dest, e))?;
    let fail = |e: &dyn std::fmt::Display| ExportError::Destination(e.to_string());
    let root = RootDir::open_host(dest).map_err(|e| fail(&e))?;
    let Some(tree) = merged(store, snapshot)? else { return Ok(()) };
    let mut directories = Vec::new();
    for entry in tree.walk("").map_err(|e| fail(&e))? {
        let entry = entry.map_err(|e| fail(&e))?;
        write_entry(&root, &entry, dest)?;
        if entry.node.is_directory() {
            directories.push((entry.path, entry.stat));
        }
    }
    // Last, and the deepest first: writing into a directory changes its time, and its mode may forbid it.
    for (path, stat) in directories.into_iter().rev() {
        let dir = root.open_dir(&path).map_err(|e| fail(&e))?;
        let place = dir.itself();
        place.chmod(stat.mode).and_then(|()| place.set_mtime(stat.mtime)).map_err(|e| fail(&e))?;
    }
    Ok(())
}

fn write_entry(root: &RootDir, entry: &Entry, dest: &Path) -> Result<(), ExportError> {
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
    at.set_mtime(entry.stat.mtime).map_err(|e| fail(&e))
}
