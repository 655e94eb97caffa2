//! A stack of layer trees seen as the one tree that an overlay mount of them would show, without mounting it.
//!
//! For what only reads: COPY from a stage that nobody runs in, `/etc/passwd` for a USER, writing a rootfs to a tar
//! or a directory. Needs no privilege, and nothing of what it reads is executed or trusted: paths are resolved
//! here, symlinks re-rooted, `..` stopping at the root, as a process with this tree as its `/` would see it.
//!
//! Of a name, the topmost layer that has it decides (overlayfs.rst): a whiteout hides it, a file is it, and
//! directories merge downwards until one is opaque or something that is no directory lies beneath.
//!
//! A stack of one directory in [`super::Format::Plain`] is that directory: build contexts and stages are read alike.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{Entry, MergedWalk, Node, ReadOptions, TreeError, XattrFilter};
use crate::RootDir;
use crate::rootdir::{At, Dir, SYMLINKS_MAX, Stat, Step, steps};

/// What becomes of whiteouts and opaque directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marks {
    /// They have hidden what they hide, and are gone.
    Spent,
    /// They hide what lies below the stack, too, and stay.
    Kept,
}

/// The stack. Holds a descriptor for each layer, and for the time of a call up to two more.
#[derive(Debug, Clone)]
pub struct MergedTree {
    layers: Vec<Dir>,
    options: ReadOptions,
}

/// What a path leads to.
#[derive(Debug, Clone)]
pub struct Found {
    /// The file, with the path at which it was found: without symlinks and `..`, empty for the root. Of a merged
    /// directory it is the topmost layer's.
    pub entry: Entry,
    /// Which layer it is in, 0 being the top.
    pub layer: usize,
    /// If it is a directory: where in each layer it is, the topmost first.
    dirs: Vec<(usize, Dir)>,
}

/// What the layers make of one name.
pub(super) struct Merged {
    pub(super) entry: Entry,
    /// The layers that contribute: more than one only to a directory.
    pub(super) layers: Vec<(usize, Stat)>,
}

impl MergedTree {
    /// Stacks trees, the topmost first. `options` are those of all.
    pub fn new(layers: Vec<RootDir>, options: ReadOptions) -> Self {
        Self { layers: layers.into_iter().map(|root| root.dir().clone()).collect(), options }
    }

    /// What `path` leads to, or `None` when there is nothing. Symlinks among its parents are followed; at its end
    /// one is followed if `follow_last`.
    pub fn lookup(&self, path: impl AsRef<Path>, follow_last: bool) -> Result<Option<Found>, TreeError> {
        let path = path.as_ref();
        let mut here = self.root()?;
        let mut todo: VecDeque<Step> = steps(path).collect();
        let mut symlinks = 0;
        while let Some(step) = todo.pop_front() {
            if !here.entry.node.is_directory() {
                return Err(TreeError::NotDirectory { path: here.entry.path });
            }
            let name = match step {
                Step::Root => {
                    here = self.root()?;
                    continue;
                }
                Step::Up => {
                    here = self.parent(&here)?;
                    continue;
                }
                Step::Down(name) => name,
            };
            let Some(child) = here.child(&name, self.options)? else { return Ok(None) };
            match &child.entry.node {
                Node::Symlink { target } if follow_last || !todo.is_empty() => {
                    symlinks += 1;
                    if symlinks > SYMLINKS_MAX {
                        return Err(TreeError::TooManyLinks { path: path.into() });
                    }
                    steps(Path::new(target)).rev().for_each(|step| todo.push_front(step));
                }
                _ => here = child,
            }
        }
        Ok(Some(here))
    }

    /// The entries of the directory at `path`, symlinks followed, sorted by their names' bytes. Their paths begin
    /// where the directory was found.
    pub fn read_dir(&self, path: impl AsRef<Path>) -> Result<Vec<Entry>, TreeError> {
        let found = self.find(path.as_ref())?;
        let prefix = found.entry.path.clone();
        let mut walk = self.walk_found(found)?;
        let mut entries = Vec::new();
        while let Some(entry) = walk.next().transpose()? {
            walk.skip_directory();
            entries.push(Entry { path: prefix.join(&entry.path), ..entry });
        }
        Ok(entries)
    }

    /// Opens the regular file at `path`, symlinks followed. Anything else is refused unopened.
    pub fn open_file(&self, path: impl AsRef<Path>) -> Result<(File, Entry), TreeError> {
        let Found { entry, .. } = self.find(path.as_ref())?;
        match entry.node {
            Node::Regular => Ok((entry.open_file()?.into_file(), entry)),
            _ => Err(TreeError::NotRegular { path: entry.path }),
        }
    }

    /// The target of the symlink at `path`; `None` when that is no symlink.
    pub fn read_link(&self, path: impl AsRef<Path>) -> Result<Option<OsString>, TreeError> {
        let path = path.as_ref();
        match self.lookup(path, false)? {
            None => Err(TreeError::NotFound { path: path.into() }),
            Some(Found { entry: Entry { node: Node::Symlink { target }, .. }, .. }) => Ok(Some(target)),
            Some(_) => Ok(None),
        }
    }

    /// The content of the regular file at `path`, of at most `limit_bytes`, symlinks followed; `None` when nothing
    /// is there. For the likes of `/etc/passwd`: never waits, whatever an image has in its place.
    pub fn read_small(&self, path: impl AsRef<Path>, limit_bytes: u64) -> Result<Option<Vec<u8>>, TreeError> {
        let path = path.as_ref();
        let (file, entry) = match self.open_file(path) {
            Err(TreeError::NotFound { .. }) => return Ok(None),
            opened => opened?,
        };
        let mut content = Vec::new();
        let read = file.take(limit_bytes.saturating_add(1)).read_to_end(&mut content);
        read.map_err(|source| TreeError::Read { path: entry.path.clone(), source })?;
        match content.len() as u64 > limit_bytes {
            true => Err(TreeError::TooLarge { path: entry.path, limit_bytes }),
            false => Ok(Some(content)),
        }
    }

    /// Walks over all that is in the directory at `path`, symlinks followed to it. Entries' paths are relative to
    /// it; the order is that of [`super::Walk`].
    pub fn walk(&self, path: impl AsRef<Path>) -> Result<MergedWalk, TreeError> {
        self.walk_found(self.find(path.as_ref())?)
    }

    /// Walks over what the stack changes in whatever lies below it: everything that it has, and the marks of what
    /// it hides.
    pub fn changes(&self) -> Result<MergedWalk, TreeError> {
        MergedWalk::new(self.root()?.dirs, self.options, Marks::Kept)
    }

    fn walk_found(&self, found: Found) -> Result<MergedWalk, TreeError> {
        match found.entry.node.is_directory() {
            true => MergedWalk::new(found.dirs, self.options, Marks::Spent),
            false => Err(TreeError::NotDirectory { path: found.entry.path }),
        }
    }

    fn find(&self, path: &Path) -> Result<Found, TreeError> {
        self.lookup(path, true)?.ok_or_else(|| TreeError::NotFound { path: path.into() })
    }

    fn root(&self) -> Result<Found, TreeError> {
        let missing = || TreeError::NotFound { path: PathBuf::new() };
        let top = self.layers.first().ok_or_else(missing)?;
        let entry = Entry::read(top.itself(), PathBuf::new(), self.options)?.ok_or_else(missing)?;
        Ok(Found {
            entry: as_merged(entry),
            layer: 0,
            dirs: self.layers.iter().cloned().enumerate().collect(),
        })
    }

    /// Down again from the root, by names that were not symlinks a moment ago.
    fn parent(&self, found: &Found) -> Result<Found, TreeError> {
        let mut here = self.root()?;
        for name in found.entry.path.parent().into_iter().flatten() {
            let child = here.child(name, self.options)?;
            here = child.ok_or_else(|| TreeError::NotFound { path: found.entry.path.clone() })?;
        }
        Ok(here)
    }
}

impl Found {
    pub(super) fn child(&self, name: &OsStr, options: ReadOptions) -> Result<Option<Self>, TreeError> {
        let mut candidates = Vec::with_capacity(self.dirs.len());
        for (layer, dir) in &self.dirs {
            candidates.push((*layer, dir.at(name)?));
        }
        let path = self.entry.path.join(name);
        let Some(merged) = merge(&candidates, &path, options, Marks::Spent)? else { return Ok(None) };
        let mut dirs = Vec::new();
        if merged.entry.node.is_directory() {
            for (layer, at) in candidates {
                if merged.layers.iter().any(|(contributing, _)| *contributing == layer) {
                    dirs.push((layer, at.open_dir().map_err(|error| error.with_path(&merged.entry.path))?));
                }
            }
        }
        Ok(Some(Self { entry: merged.entry, layer: merged.layers[0].0, dirs }))
    }
}

/// What layers make of a name: `candidates` are the layers that may have it, the topmost first.
pub(super) fn merge(
    candidates: &[(usize, At<'_>)],
    path: &Path,
    options: ReadOptions,
    marks: Marks,
) -> Result<Option<Merged>, TreeError> {
    let mut merged: Option<Merged> = None;
    // Something in the stack hides what lies below it.
    let mut hides = false;
    for (layer, at) in candidates {
        // Of the lower directories only what they are matters.
        let xattrs = if merged.is_some() { XattrFilter::None } else { options.xattrs };
        let entry = match Entry::read(*at, path.to_owned(), ReadOptions { xattrs, ..options }) {
            Err(TreeError::Access(error)) if error.not_found() => continue,
            entry => entry?,
        };
        // A socket is left out, and hides what is below it.
        let Some(entry) = entry else { break };
        let opaque = match entry.node {
            Node::Directory { opaque } => opaque,
            Node::Whiteout if merged.is_some() || marks == Marks::Spent => {
                hides = true;
                break;
            }
            _ if merged.is_some() => {
                hides = true;
                break;
            }
            _ => return Ok(Some(Merged { layers: vec![(*layer, entry.stat)], entry })),
        };
        let contributes = (*layer, entry.stat);
        match &mut merged {
            Some(merged) => merged.layers.push(contributes),
            None => merged = Some(Merged { entry: as_merged(entry), layers: vec![contributes] }),
        }
        if opaque {
            hides = true;
            break;
        }
    }
    if let Some(merged) = merged.as_mut().filter(|_| marks == Marks::Kept) {
        merged.entry.node = Node::Directory { opaque: hides };
    }
    Ok(merged)
}

/// Opaqueness says something about layers below, and is spent once they are merged.
fn as_merged(entry: Entry) -> Entry {
    match entry.node {
        Node::Directory { .. } => Entry { node: Node::Directory { opaque: false }, ..entry },
        _ => entry,
    }
}
