//! COPY from contexts into a layer that nobody looks into: no tree is made of it. The layer is a list of entries
//! whose files still lie in the context, packed from there, and each file's bytes are held against the hash that
//! stands in the step's key.
//!
//! It gives the layer that [`super::copy`] gives, and leaves to it what is rare: archives to unpack, `--parents`,
//! files written in the Dockerfile, device nodes.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use forge_solver::matching::{Chmod, IgnoreDirectory};
use forge_solver::op::{CopyOp, CopySource, Selection, Unpack};
use forge_store::ContentId;
use forge_store::layer::is_archive;
use forge_store::rootdir::{Dir, FileKind, Mtime, NewDir, Stat};
use forge_store::tree::{ContentHasher, ContentOptions, Entry, FileContent, FileHash, Mtimes, Node, Xattrs};

use super::LocalContext;
use super::copy::{chmod_of, chown_of, dest_of_file};
use super::error::FilesError;
use super::select::{Match, excludes, select};
use super::upper::shown;
use super::view::{Child, TreeView, resolve};

/// A layer whose files lie elsewhere, in the order of layers.
pub struct Borrowed<'a> {
    sources: Vec<&'a LocalContext>,
    /// Directories that files come from: which source, and where in it.
    dirs: Vec<(usize, PathBuf)>,
    items: BTreeMap<PathBuf, Item>,
}

/// What is at one path of the layer.
struct Item {
    stat: Stat,
    what: What,
}

enum What {
    /// A directory of the layer, with its attributes.
    Directory(Xattrs),
    Symlink(OsString),
    /// A file in one of `dirs`, called as in the layer unless it was renamed.
    File {
        dir: u32,
        renamed: Option<OsString>,
        hash: FileHash,
    },
}

/// An entry of the layer, and what is in it if it is a regular file.
pub type BorrowedEntry = (Entry, Option<FileHash>);

/// The layer that `op` makes over `below`, or `None` where only [`super::copy`] can make it. `inputs` are the op's
/// sources, by input number.
pub fn borrow<'a>(
    op: &CopyOp,
    below: &dyn TreeView,
    inputs: &[&'a LocalContext],
) -> Result<Option<Borrowed<'a>>, FilesError> {
    if op.parents {
        return Ok(None);
    }
    let (chmod, chown) = (chmod_of(op)?, chown_of(op, below)?);
    let layer = Borrowed { sources: inputs.to_vec(), dirs: Vec::new(), items: BTreeMap::new() };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = Mtime { sec: now.as_secs() as i64, nsec: now.subsec_nanos() };
    let mut borrower = Borrower { layer, below, op, chmod, chown, now, matches: 0, has_links: false };
    for source in &op.sources {
        let CopySource::Files { input, selection, unpack } = source else { return Ok(None) };
        if !borrower.selection(*input - 1, selection, *unpack)? {
            return Ok(None);
        }
    }
    // Names of one inode are one file within a match, and separate files between matches.
    let unclear = borrower.has_links && borrower.matches > 1;
    Ok((!unclear).then_some(borrower.layer))
}

impl Borrowed<'_> {
    /// What the layer holds: the id that its tree would have.
    pub fn content(&self) -> Result<ContentId, FilesError> {
        let mut hasher = ContentHasher::new(ContentOptions { mtimes: Mtimes::Ignore, owners: true });
        for entry in self.entries() {
            let (entry, hash) = entry?;
            let file = hash.map(|hash| FileContent { hash, xattrs: Xattrs::new() });
            hasher.add(&entry.path, &entry, file.as_ref());
        }
        Ok(hasher.finish())
    }

    /// The entries, parents before children. Few directories are open at a time.
    pub fn entries(&self) -> impl Iterator<Item = Result<BorrowedEntry, FilesError>> + Send {
        let mut open: Option<(u32, Dir)> = None;
        self.items.iter().map(move |(path, item)| self.entry(path, item, &mut open))
    }

    fn entry(
        &self,
        path: &Path,
        item: &Item,
        open: &mut Option<(u32, Dir)>,
    ) -> Result<BorrowedEntry, FilesError> {
        let name = path.file_name().unwrap_or_default();
        let (dir, name, node, xattrs, hash) = match &item.what {
            What::Directory(xattrs) => {
                (self.sources[0].top(), name, Node::Directory { opaque: false }, xattrs.clone(), None)
            }
            What::Symlink(target) => {
                (self.sources[0].top(), name, Node::Symlink { target: target.clone() }, Xattrs::new(), None)
            }
            What::File { dir: at, renamed, hash } => {
                let dir = self.source_dir(*at, open)?;
                (dir, renamed.as_deref().unwrap_or(name), Node::Regular, Xattrs::new(), Some(*hash))
            }
        };
        Ok((Entry::elsewhere(dir.at(name)?, path.to_owned(), node, item.stat, xattrs), hash))
    }

    fn source_dir<'d>(&self, at: u32, open: &'d mut Option<(u32, Dir)>) -> Result<&'d Dir, FilesError> {
        if open.as_ref().is_none_or(|(number, _)| *number != at) {
            let (source, path) = &self.dirs[at as usize];
            *open = Some((at, self.sources[*source].open_dir(path)?));
        }
        Ok(&open.as_ref().expect("it was just opened").1)
    }
}

struct Borrower<'a, 'b> {
    layer: Borrowed<'a>,
    below: &'b dyn TreeView,
    op: &'b CopyOp,
    chmod: Option<Chmod>,
    chown: Option<(u32, u32)>,
    now: Mtime,
    matches: usize,
    /// A file has more than one name.
    has_links: bool,
}

impl<'a> Borrower<'a, '_> {
    /// `false` where a file cannot be borrowed.
    fn selection(
        &mut self,
        source: usize,
        selection: &Selection,
        unpack: Unpack,
    ) -> Result<bool, FilesError> {
        let view: &'a LocalContext = self.layer.sources[source];
        let left_out = excludes(selection)?;
        for Match { path, name, stat } in select(view, selection)? {
            self.matches += 1;
            if stat.kind == FileKind::Directory {
                let dest = self.dest()?;
                self.dir(&dest, self.new_parent())?;
                if !self.children(source, &path, &dest, left_out.walker())? {
                    return Ok(false);
                }
                continue;
            }
            if unpack == Unpack::IfArchive && is_archive(view.open(&path)?.0) {
                return Ok(false);
            }
            let dest = self.dest_of_file(name.file_name().unwrap_or_default())?;
            self.place(&dest)?;
            let dir = self.add_dir(source, path.parent().unwrap_or(Path::new("")));
            if !self.file(dir, &path, &stat, dest)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn children(
        &mut self,
        source: usize,
        from: &Path,
        to: &Path,
        left_out: IgnoreDirectory<'_>,
    ) -> Result<bool, FilesError> {
        let below = self.below_kinds(to)?;
        let dir = self.add_dir(source, from);
        for child in self.layer.sources[source].children(from)?.iter() {
            let verdict = left_out.entry(child.name.as_encoded_bytes());
            let is_dir = child.stat.kind == FileKind::Directory;
            if verdict.excluded && !(is_dir && verdict.descend) {
                continue;
            }
            let (from, to) = (from.join(&child.name), to.join(&child.name));
            let is_borrowed = match is_dir {
                true => {
                    self.directory(&to, &child.stat)?;
                    self.children(source, &from, &to, verdict.directory())?
                }
                false => {
                    self.clear(&to, below.get(&child.name).copied())?;
                    self.file(dir, &from, &child.stat, to)?
                }
            };
            if !is_borrowed {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A directory with the metadata of a source's; one from below keeps its time.
    fn directory(&mut self, dest: &Path, stat: &Stat) -> Result<(), FilesError> {
        if self.stat(dest)?.is_some_and(|there| there.kind != FileKind::Directory) {
            return Err(FilesError::DirectoryOverFile(shown(dest)));
        }
        let is_below = self.below.stat(dest)?.is_some();
        let (mode, (uid, gid)) = (self.mode(stat), self.owner(stat));
        self.dir(dest.parent().unwrap_or(Path::new("")), self.new_parent())?;
        self.dir(dest, NewDir { mode, owner: Some((uid, gid)) })?;
        if let Some(item) = self.layer.items.get_mut(dest) {
            let mtime = if is_below { item.stat.mtime } else { stat.mtime };
            item.stat = Stat { mode, uid, gid, mtime, ..item.stat };
        }
        Ok(())
    }

    /// A file, symlink or socket to exactly `dest`, which is free.
    fn file(&mut self, dir: u32, from: &Path, stat: &Stat, dest: PathBuf) -> Result<bool, FilesError> {
        let source: &'a LocalContext = self.layer.sources[self.layer.dirs[dir as usize].0];
        let what = match stat.kind {
            FileKind::Regular => {
                let hash = source.hashed(from, stat).ok_or_else(|| FilesError::Changed(from.to_owned()))?;
                let renamed = from.file_name().filter(|name| dest.file_name() != Some(name));
                let renamed = renamed.map(OsStr::to_owned);
                What::File { dir, renamed, hash: FileHash::from_bytes(*hash.as_bytes()) }
            }
            FileKind::Symlink => What::Symlink(source.read_link(from)?),
            // Sockets mean nothing without the process behind them.
            FileKind::Socket => return Ok(true),
            _ => return Ok(false),
        };
        self.has_links |= stat.nlink > 1;
        let mode = if stat.kind == FileKind::Symlink { stat.mode } else { self.mode(stat) };
        let (uid, gid) = self.owner(stat);
        self.layer.items.insert(dest, Item { stat: Stat { mode, uid, gid, ..*stat }, what });
        Ok(true)
    }

    fn add_dir(&mut self, source: usize, path: &Path) -> u32 {
        self.layer.dirs.push((source, path.to_owned()));
        self.layer.dirs.len() as u32 - 1
    }

    /// Sees to it that the layer has the directory, made as it is below, or as `new` says where there is none.
    fn dir(&mut self, path: &Path, new: NewDir) -> Result<(), FilesError> {
        let mut at = PathBuf::new();
        for name in path.iter() {
            at.push(name);
            match self.layer.items.get(&at) {
                Some(item) if item.stat.kind == FileKind::Directory => continue,
                Some(_) => return Err(FilesError::DirectoryOverFile(shown(&at))),
                None => {}
            }
            let item = match self.below.stat(&at)? {
                Some(stat) if stat.kind != FileKind::Directory => {
                    return Err(FilesError::DirectoryOverFile(shown(&at)));
                }
                Some(stat) => Item { stat, what: What::Directory(self.below.xattrs(&at)?) },
                None => Item { stat: self.new_dir(new), what: What::Directory(Xattrs::new()) },
            };
            self.layer.items.insert(at.clone(), item);
        }
        Ok(())
    }

    /// The metadata of a directory made now.
    fn new_dir(&self, new: NewDir) -> Stat {
        let (uid, gid) = new.owner.unwrap_or((0, 0));
        Stat {
            kind: FileKind::Directory,
            mode: new.mode,
            uid,
            gid,
            size: 0,
            mtime: self.now,
            ctime: self.now,
            dev: 0,
            ino: 0,
            nlink: 1,
            rdev: Default::default(),
        }
    }

    /// Makes a file's name free, and the directories on its way.
    fn place(&mut self, dest: &Path) -> Result<(), FilesError> {
        let parent = dest.parent().ok_or_else(|| FilesError::FileOverDirectory(shown(dest)))?;
        self.dir(parent, self.new_parent())?;
        let below = self.below.stat(dest)?.map(|stat| stat.kind);
        self.clear(dest, below)
    }

    /// A name may be taken by anything but a directory; what is put there takes its place.
    fn clear(&self, dest: &Path, below: Option<FileKind>) -> Result<(), FilesError> {
        let own = self.layer.items.get(dest).map(|item| item.stat.kind);
        match own.or(below) {
            Some(FileKind::Directory) => Err(FilesError::FileOverDirectory(shown(dest))),
            _ => Ok(()),
        }
    }

    fn below_kinds(&self, dest: &Path) -> Result<HashMap<OsString, FileKind>, FilesError> {
        match self.below.stat(dest)? {
            Some(stat) if stat.kind == FileKind::Directory => {
                let children = self.below.children(dest)?;
                Ok(children.iter().map(|child| (child.name.clone(), child.stat.kind)).collect())
            }
            _ => Ok(HashMap::new()),
        }
    }

    fn merged(&self) -> Merged<'_> {
        Merged { items: &self.layer.items, below: self.below }
    }

    fn stat(&self, path: &Path) -> Result<Option<Stat>, FilesError> {
        self.merged().stat(path)
    }

    fn dest(&self) -> Result<PathBuf, FilesError> {
        resolve(&self.merged(), Path::new(&self.op.dest), true)
    }

    fn dest_of_file(&self, name: &OsStr) -> Result<PathBuf, FilesError> {
        let dest = self.dest()?;
        let is_dir = self.stat(&dest)?.is_some_and(|stat| stat.kind == FileKind::Directory);
        Ok(dest_of_file(self.op, dest, is_dir, name))
    }

    fn owner(&self, stat: &Stat) -> (u32, u32) {
        super::copy::owner(self.op, self.chown, stat)
    }

    fn mode(&self, stat: &Stat) -> u32 {
        super::copy::mode(self.chmod.as_ref(), stat)
    }

    fn new_parent(&self) -> NewDir {
        super::copy::new_parent(self.chmod.as_ref(), self.chown)
    }
}

/// The layer so far and what lies below it: for resolving paths only.
struct Merged<'a> {
    items: &'a BTreeMap<PathBuf, Item>,
    below: &'a dyn TreeView,
}

impl TreeView for Merged<'_> {
    fn stat(&self, path: &Path) -> Result<Option<Stat>, FilesError> {
        if let Some(item) = self.items.get(path) {
            return Ok(Some(item.stat));
        }
        // A file of the layer hides what is below its name.
        let mut parents = path.ancestors().skip(1).filter_map(|parent| self.items.get(parent));
        match parents.any(|item| item.stat.kind != FileKind::Directory) {
            true => Ok(None),
            false => self.below.stat(path),
        }
    }

    fn read_link(&self, path: &Path) -> Result<OsString, FilesError> {
        match self.items.get(path) {
            Some(Item { what: What::Symlink(target), .. }) => Ok(target.clone()),
            _ => self.below.read_link(path),
        }
    }

    fn children(&self, path: &Path) -> Result<Arc<Vec<Child>>, FilesError> {
        self.below.children(path)
    }

    fn open(&self, path: &Path) -> Result<(std::fs::File, Stat), FilesError> {
        self.below.open(path)
    }

    fn xattrs(&self, path: &Path) -> Result<Xattrs, FilesError> {
        self.below.xattrs(path)
    }

    fn is_hidden(&self, _path: &Path) -> bool {
        false
    }
}
