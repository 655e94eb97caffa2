//! Copies of layers that outlive their step: the next one brings such a tree up to date instead of copying everything.
//!
//! ```text
//! copy of base, a      a step's changes were moved away into the layer b: its names are stale
//! wanted: base, a, b, c      names of b and c are looked at, and the stale ones; all others are as they were
//! wanted: base, x            names of a and x, and the stale ones
//! ```
//!
//! Whatever the tree and the layers of the new step have in common stays; every other name is made what the stack of
//! layers shows there. So it does not matter which step comes next, nor whether its layer is the one that was made here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use forge_store::tree::{Format, Node, OverlayXattrs, ReadOptions, Walk, XattrFilter};
use forge_store::{Draft, Layer, RootDir, Snapshot, Store};

use crate::files::FilesError;

/// More are not kept: each takes as much disk as its image.
const MOST: usize = 4;

/// A tree that no step uses now.
pub(super) struct Kept {
    pub(super) place: Draft,
    /// What it was a copy of.
    pub(super) layers: Vec<Layer>,
    /// Where it is no longer that.
    pub(super) stale: Names,
}

impl Kept {
    fn common(&self, below: &Snapshot) -> usize {
        let pairs = self.layers.iter().zip(below.layers());
        pairs.take_while(|(ours, theirs)| ours.id == theirs.id).count()
    }

    /// All names that may not be what `below` shows.
    pub(super) fn names(&mut self, store: &Store, below: &Snapshot) -> Result<Names, FilesError> {
        let mut names = std::mem::take(&mut self.stale);
        let common = self.common(below);
        let marks = store.layers().xattrs();
        let wanted = below.layers();
        for layer in self.layers[common..].iter().chain(wanted[common..].iter().copied()) {
            for tree in store.layers().stack(&Snapshot::default().push(layer.clone()))? {
                names.add_layer(&tree, marks)?;
            }
        }
        Ok(names)
    }
}

/// The trees of a build that wait for their next step.
#[derive(Default)]
pub(super) struct Pool(Mutex<Vec<Kept>>);

impl Pool {
    /// The tree that is nearest to `below`, if one has any layer of it.
    pub(super) fn take(&self, below: &Snapshot) -> Option<Kept> {
        let mut trees = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let nearest = (0..trees.len()).max_by_key(|index| trees[*index].common(below))?;
        (trees[nearest].common(below) > 0).then(|| trees.remove(nearest))
    }

    /// Keeps a tree; the oldest makes room.
    pub(super) fn put(&self, kept: Kept) {
        let mut trees = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        trees.push(kept);
        if trees.len() > MOST {
            trees.remove(0);
        }
    }
}

/// Names of a tree.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// With everything below it.
    pub(super) is_whole: bool,
    pub(super) inner: BTreeMap<OsString, Names>,
}

impl Names {
    pub(super) fn add(&mut self, path: &Path, is_whole: bool) {
        let mut here = self;
        for name in path.components() {
            here = here.inner.entry(name.as_os_str().to_owned()).or_default();
        }
        here.is_whole |= is_whole;
    }

    /// Everything that a layer has, or hides.
    fn add_layer(&mut self, tree: &Path, marks: OverlayXattrs) -> Result<(), FilesError> {
        let root = RootDir::open_host(tree)?;
        let options = ReadOptions { format: Format::Overlay(marks), xattrs: XattrFilter::None };
        for entry in Walk::new(root.dir(), options)? {
            let entry = entry?;
            // Only an ordinary directory shows what lies below it in other layers.
            self.add(&entry.path, !matches!(entry.node, Node::Directory { opaque: false }));
        }
        Ok(())
    }
}
