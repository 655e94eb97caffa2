//! What overlayfs copied up although it stayed as it was: a `chmod` to the same mode, a `mv` there and back. A layer
//! holds changes only, so these files are taken out of its tree again.
//!
//! A file goes if the one below has the same type, mode, owner, time, attributes and content; a directory if it has
//! the same metadata and nothing is left in it. Hard links stay: which names are one file is a change, too. Only
//! directories that are on both sides are looked into, so a step that adds much costs little here.

use std::ffi::OsString;
use std::io::Read;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Entry, Found, MergedTree, Node, ReadOptions, TreeError};
use crate::rootdir::{Dir, DirEntry, Mtime, RootDir, RootDirError};

/// How deep directories are looked into; what lies deeper stays. Each level holds a descriptor for every layer.
const DEPTH_MAX: usize = 64;

/// Bytes of two files that are compared at a time.
const COMPARE_BYTES: usize = 64 * 1024;

/// Takes out of a layer's tree what is below it already. `since` is when the step began: what is not older was
/// written by it, unless its time is still to come, as a context's files may have it. `below` is asked only if something
/// might go: to open a tall stack costs more than most steps write.
pub fn drop_unchanged<E: From<TreeError>>(
    layer: &RootDir,
    below: impl FnOnce() -> Result<MergedTree, E>,
    options: ReadOptions,
    since: Mtime,
) -> Result<(), E> {
    let dir = layer.dir().clone();
    let names = dir.read_dir().map_err(TreeError::from)?.into_iter();
    let root = Level { dir, entry: None, found: None, names, is_kept: true, is_touched: false };
    Sweep { options, since, until: now(), below: Some(below), levels: vec![root], path: PathBuf::new() }.run()
}

fn now() -> Mtime {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Mtime { sec: i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX), nsec: since_1970.subsec_nanos() }
}

struct Sweep<B> {
    options: ReadOptions,
    since: Mtime,
    until: Mtime,
    /// Gives what is below; taken by whoever needs it first.
    below: Option<B>,
    levels: Vec<Level>,
    path: PathBuf,
}

/// A directory on its way: it is in the layer, and below.
struct Level {
    dir: Dir,
    /// What the layer says of it; none for the root.
    entry: Option<Entry>,
    /// What is below; of the root once somebody asked.
    found: Option<Found>,
    names: std::vec::IntoIter<DirEntry>,
    /// Something in it stays.
    is_kept: bool,
    /// Something in it went, so its time must be set again.
    is_touched: bool,
}

impl<B> Sweep<B> {
    fn run<E: From<TreeError>>(mut self) -> Result<(), E>
    where
        B: FnOnce() -> Result<MergedTree, E>,
    {
        while let Some(level) = self.levels.last_mut() {
            match level.names.next() {
                Some(name) => self.visit(name.name)?,
                None => self.leave()?,
            }
        }
        Ok(())
    }

    fn visit<E: From<TreeError>>(&mut self, name: OsString) -> Result<(), E>
    where
        B: FnOnce() -> Result<MergedTree, E>,
    {
        let depth = self.levels.len();
        let Some(level) = self.levels.last_mut() else { return Ok(()) };
        let at = level.dir.at(&name).map_err(TreeError::from)?;
        let Some(entry) = Entry::read(at, self.path.join(&name), self.options)? else {
            level.is_kept = true;
            return Ok(());
        };
        let may_be = match &entry.node {
            Node::Directory { opaque } => !opaque && depth < DEPTH_MAX,
            Node::Whiteout => false,
            _ => !entry.is_hard_linked() && !(self.since..=self.until).contains(&entry.stat.mtime),
        };
        if may_be && let Some(below) = self.below.take() {
            level.found = below()?.lookup("", false)?;
        }
        let found = match &level.found {
            Some(found) if may_be => found.child(&name, self.options)?,
            _ => None,
        };
        match found {
            Some(found) if entry.node.is_directory() && found.entry.node.is_directory() => {
                let (dir, names) = at.read_dir().map_err(|error| located(error, &entry))?;
                self.path.push(&name);
                let names = names.into_iter();
                self.levels.push(Level {
                    dir,
                    entry: Some(entry),
                    found: Some(found),
                    names,
                    is_kept: false,
                    is_touched: false,
                });
            }
            Some(found) if !entry.node.is_directory() && is_same_file(&entry, &found.entry)? => {
                at.remove_file().map_err(|error| located(error, &entry))?;
                level.is_touched = true;
            }
            _ => level.is_kept = true,
        }
        Ok(())
    }

    /// Goes back up, without the directory if nothing of it is a change.
    fn leave(&mut self) -> Result<(), TreeError> {
        let Some(left) = self.levels.pop() else { return Ok(()) };
        self.path.pop();
        let (Some(entry), Some(found), Some(parent)) = (&left.entry, &left.found, self.levels.last_mut())
        else {
            return Ok(());
        };
        if !left.is_kept && is_same(entry, &found.entry)? {
            parent.dir.at(entry.name())?.remove_dir().map_err(|error| located(error, entry))?;
            parent.is_touched = true;
            return Ok(());
        }
        parent.is_kept = true;
        if left.is_touched {
            left.dir.itself().set_mtime(entry.stat.mtime).map_err(|error| located(error, entry))?;
        }
        Ok(())
    }
}

fn located(error: RootDirError, entry: &Entry) -> TreeError {
    error.with_path(&entry.path).into()
}

/// Whether all that is said of two files is the same.
fn is_same(a: &Entry, b: &Entry) -> Result<bool, TreeError> {
    let (x, y) = (&a.stat, &b.stat);
    let stats = (x.mode, x.uid, x.gid, x.mtime) == (y.mode, y.uid, y.gid, y.mtime);
    Ok(stats && a.node == b.node && a.xattrs()? == b.xattrs()?)
}

fn is_same_file(a: &Entry, b: &Entry) -> Result<bool, TreeError> {
    if b.is_hard_linked() || a.stat.size != b.stat.size || !is_same(a, b)? {
        return Ok(false);
    }
    match a.node {
        Node::Regular => has_same_content(a, b),
        _ => Ok(true),
    }
}

fn has_same_content(a: &Entry, b: &Entry) -> Result<bool, TreeError> {
    let (mut x, mut y) = (a.open_file()?.into_file(), b.open_file()?.into_file());
    let (mut left, mut right) = (vec![0; COMPARE_BYTES], vec![0; COMPARE_BYTES]);
    let failed = |source| TreeError::Read { path: a.path.clone(), source };
    loop {
        let count = x.read(&mut left).map_err(failed)?;
        if count == 0 {
            return Ok(y.read(&mut right[..1]).map_err(failed)? == 0);
        }
        match y.read_exact(&mut right[..count]) {
            Ok(()) if left[..count] == right[..count] => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(failed(error)),
        }
    }
}
