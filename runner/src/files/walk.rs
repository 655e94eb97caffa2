//! Everything that a selection holds, in the order of names: what is hashed, and named when it changed.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use forge_solver::matching::IgnoreDirectory;
use forge_solver::op::Selection;
use forge_store::rootdir::{FileKind, Stat};

use super::ahead::read_ahead;
use super::error::FilesError;
use super::select::{Match, excludes, left_out_below, select};
use super::view::TreeView;

/// The entries of a selection. Their names stand in one row of bytes: there may be 100,000 of them.
#[derive(Default)]
pub struct Walked {
    tops: Vec<Match>,
    tails: Vec<u8>,
    entries: Vec<Entry>,
}

/// One entry: a match, or what stands at `tail` below it.
struct Entry {
    top: usize,
    tail: std::ops::Range<usize>,
    stat: Stat,
}

impl Walked {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn stat(&self, at: usize) -> &Stat {
        &self.entries[at].stat
    }

    /// How an entry is named: decides what it is called at its destination.
    pub fn name(&self, at: usize) -> Vec<u8> {
        let (top, tail) = self.parts(at);
        let mut name = top.name.as_os_str().as_bytes().to_vec();
        if !name.is_empty() && !tail.is_empty() {
            name.push(b'/');
        }
        name.extend_from_slice(tail);
        name
    }

    /// Where an entry is.
    pub fn path(&self, at: usize) -> PathBuf {
        let (top, tail) = self.parts(at);
        if tail.is_empty() { top.path.clone() } else { top.path.join(OsStr::from_bytes(tail)) }
    }

    fn parts(&self, at: usize) -> (&Match, &[u8]) {
        let Entry { top, tail, .. } = &self.entries[at];
        (&self.tops[*top], &self.tails[tail.clone()])
    }

    fn push(&mut self, tail: &[u8], stat: Stat) {
        let start = self.tails.len();
        self.tails.extend_from_slice(tail);
        self.entries.push(Entry { top: self.tops.len() - 1, tail: start..self.tails.len(), stat });
    }
}

/// Walks a selection, the directories' content included.
pub fn walk(view: &dyn TreeView, selection: &Selection) -> Result<Walked, FilesError> {
    let left_out = excludes(selection)?;
    let mut walked = Walked::default();
    for found in select(view, selection)? {
        let (path, stat) = (found.path.clone(), found.stat);
        let below = left_out_below(&found, selection, &left_out);
        walked.tops.push(found);
        walked.push(b"", stat);
        if stat.kind == FileKind::Directory {
            if view.remembers() {
                read_ahead(view, &path);
            }
            collect(view, &path, &mut Vec::new(), below, &mut walked)?;
        }
    }
    Ok(walked)
}

fn collect(
    view: &dyn TreeView,
    path: &Path,
    tail: &mut Vec<u8>,
    left_out: IgnoreDirectory<'_>,
    walked: &mut Walked,
) -> Result<(), FilesError> {
    let length = tail.len();
    for child in view.children(path)?.iter() {
        let verdict = left_out.entry(child.name.as_bytes());
        let is_dir = child.stat.kind == FileKind::Directory;
        if length > 0 {
            tail.push(b'/');
        }
        tail.extend_from_slice(child.name.as_bytes());
        // An excluded directory that may hold something taken back is made, and so its mode counts.
        let is_there = !verdict.excluded || (is_dir && verdict.descend);
        if is_there && child.stat.kind != FileKind::Socket {
            walked.push(tail, child.stat);
        }
        if is_dir && verdict.descend {
            collect(view, &path.join(&child.name), tail, verdict.directory(), walked)?;
        }
        tail.truncate(length);
    }
    Ok(())
}
