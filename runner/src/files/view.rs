//! A read-only view of a tree of files, wherever they lie.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use forge_store::rootdir::{FileKind, Stat};
use forge_store::tree::{
    Entry, Format, MergedTree, Node, OverlayXattrs, ReadOptions, TreeError, XattrFilter,
};
use forge_store::{RootDir, Snapshot, Store};

use super::error::FilesError;

/// Symlinks that one path may lead through.
const MOST_LINKS: usize = 40;

/// One name in a directory.
#[derive(Clone, Debug)]
pub struct Child {
    /// The name.
    pub name: OsString,
    /// Its metadata, itself possibly a symlink.
    pub stat: Stat,
}

/// Files by path. Paths are relative to the root, without `.`, `..` or symlinks in their directories: what
/// [`resolve`] gives. The empty path is the root.
pub trait TreeView: Sync {
    /// Metadata of what is at `path`, itself possibly a symlink; `None` if nothing is.
    fn stat(&self, path: &Path) -> Result<Option<Stat>, FilesError>;

    /// A directory's content, sorted by name.
    fn children(&self, path: &Path) -> Result<Arc<Vec<Child>>, FilesError>;

    /// A symlink's target.
    fn read_link(&self, path: &Path) -> Result<OsString, FilesError>;

    /// A regular file, to read, with its metadata as opened.
    fn open(&self, path: &Path) -> Result<(File, Stat), FilesError>;

    /// Extended attributes that belong to the content: `security.capability` and `user.*`.
    fn xattrs(&self, path: &Path) -> Result<Vec<(OsString, Vec<u8>)>, FilesError>;

    /// True if `path` is there but hidden by an ignore file.
    fn is_hidden(&self, path: &Path) -> bool;

    /// True if what was listed once is at hand the next time, so that reading ahead is worth it.
    fn remembers(&self) -> bool {
        false
    }

    /// The hash of a file's bytes if it is known without reading them.
    fn known_hash(&self, _stat: &Stat) -> Option<blake3::Hash> {
        None
    }

    /// Tells the hash of a file's bytes, for the next time: of the file as it was when it was opened, which need not
    /// be what was seen of it before.
    fn learn_hash(&self, _path: &Path, _seen: &Stat, _opened: &Stat, _hash: blake3::Hash) {}

    /// Whether a file that is opened to be copied is the one that was hashed. Layers never change.
    fn is_as_hashed(&self, _path: &Path, _seen: &Stat, _opened: &Stat) -> bool {
        true
    }
}

/// Follows symlinks within the root: absolute ones start at the root again, `..` stops there.
///
/// Gives the path without links; what it names may be missing. With `follow_last` the last element is followed
/// too.
pub fn resolve(view: &dyn TreeView, path: &Path, follow_last: bool) -> Result<PathBuf, FilesError> {
    let mut pending: Vec<OsString> = elements(path).rev().map(OsStr::to_owned).collect();
    let mut done = PathBuf::new();
    let mut links = 0;
    while let Some(element) = pending.pop() {
        if element == ".." {
            done.pop();
            continue;
        }
        done.push(&element);
        let is_last = pending.is_empty();
        let Some(stat) = view.stat(&done)? else { continue };
        if stat.kind != FileKind::Symlink || (is_last && !follow_last) {
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(FilesError::Loop(path.to_owned()));
        }
        let target = PathBuf::from(view.read_link(&done)?);
        done.pop();
        if target.is_absolute() {
            done = PathBuf::new();
        }
        pending.extend(elements(&target).rev().map(OsStr::to_owned));
    }
    Ok(done)
}

/// The elements of a path that say something: names and `..`.
fn elements(path: &Path) -> impl DoubleEndedIterator<Item = &OsStr> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        Component::ParentDir => Some(OsStr::new("..")),
        _ => None,
    })
}

/// The stacked layers of a snapshot, as one tree.
pub struct StackView {
    tree: MergedTree,
}

impl StackView {
    /// Stacks a snapshot's layers, each unpacked if it must be.
    pub fn open(store: &Store, snapshot: &Snapshot) -> Result<Self, FilesError> {
        let trees = store.layers().stack(snapshot)?;
        let layers = trees.iter().map(RootDir::open_host).collect::<Result<_, _>>()?;
        Ok(Self::over(layers, store.layers().xattrs()))
    }

    /// One tree in the store's format.
    pub fn single(tree: &Path, marks: OverlayXattrs) -> Result<Self, FilesError> {
        Ok(Self::over(vec![RootDir::open_host(tree)?], marks))
    }

    /// What the root directory of stacked trees, the topmost first, looks like: as the topmost one's does.
    pub fn root_of(trees: &[PathBuf], marks: OverlayXattrs) -> Result<Self, FilesError> {
        let top = trees.first().map(RootDir::open_host).transpose()?;
        Ok(Self::over(top.into_iter().collect(), marks))
    }

    fn over(layers: Vec<RootDir>, marks: OverlayXattrs) -> Self {
        let options = ReadOptions { format: Format::Overlay(marks), xattrs: XattrFilter::Portable };
        Self { tree: MergedTree::new(layers, options) }
    }

    /// What is at a path without links in its directories; `None` also for an empty stack.
    fn entry(&self, path: &Path) -> Result<Option<Entry>, FilesError> {
        match self.tree.lookup(path, false) {
            Ok(found) => Ok(found.map(|found| found.entry)),
            Err(TreeError::NotFound { .. } | TreeError::NotDirectory { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl TreeView for StackView {
    fn stat(&self, path: &Path) -> Result<Option<Stat>, FilesError> {
        Ok(self.entry(path)?.map(|entry| stat_of(&entry)))
    }

    fn children(&self, path: &Path) -> Result<Arc<Vec<Child>>, FilesError> {
        let entries = match self.tree.read_dir(path) {
            Err(TreeError::NotFound { .. }) if path.as_os_str().is_empty() => Vec::new(),
            other => other?,
        };
        let child = |entry: &Entry| Child {
            name: entry.path.file_name().unwrap_or_default().to_owned(),
            stat: stat_of(entry),
        };
        Ok(Arc::new(entries.iter().map(child).collect()))
    }

    fn read_link(&self, path: &Path) -> Result<OsString, FilesError> {
        Ok(self.tree.read_link(path)?.unwrap_or_default())
    }

    fn open(&self, path: &Path) -> Result<(File, Stat), FilesError> {
        let (file, entry) = self.tree.open_file(path)?;
        Ok((file, entry.stat))
    }

    fn xattrs(&self, path: &Path) -> Result<Vec<(OsString, Vec<u8>)>, FilesError> {
        match self.entry(path)? {
            Some(entry) => Ok(entry.xattrs()?),
            None => Ok(Vec::new()),
        }
    }

    fn is_hidden(&self, _path: &Path) -> bool {
        false
    }
}

/// An entry's metadata; a recorded device (in a user namespace) is the device that it stands for.
fn stat_of(entry: &Entry) -> Stat {
    match entry.node {
        Node::Char(rdev) => Stat { kind: FileKind::Char, rdev, ..entry.stat },
        Node::Block(rdev) => Stat { kind: FileKind::Block, rdev, ..entry.stat },
        _ => entry.stat,
    }
}
