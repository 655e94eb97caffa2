//! A directory of this machine as a build context, seen through its ignore file.
//!
//! What the ignore file excludes is not there: it is neither opened nor listed. What leads out of the directory
//! by a symlink does not lead out: it is looked up inside. Each name is looked at once in a build ([`Seen`]).

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use forge_solver::explain::Listing;
use forge_solver::matching::IgnorePatterns;
use forge_solver::op::Selection;
use forge_store::ContentId;
use forge_store::rootdir::{Dir, FileKind, RootDir, RootDirError, Stat};

use super::error::FilesError;
use super::hash::{hash_selection, list_selection};
use super::seen::Seen;
use super::select::select;
use super::stamps::Stamps;
use super::view::{Child, TreeView};

/// A local directory.
pub struct LocalContext {
    root: RootDir,
    ignore: IgnorePatterns,
    stamps: Stamps,
    seen: Seen,
    /// Files that were changed between being seen and being hashed: as they were hashed.
    hashed_late: Mutex<HashMap<PathBuf, Stat>>,
    /// Selections that were hashed before in this build.
    known: Mutex<HashMap<Selection, ContentId>>,
}

impl LocalContext {
    /// Opens `dir`; hashes of its files are remembered in `state_dir`, named after the directory's path.
    pub fn open(dir: &Path, ignore: IgnorePatterns, state_dir: &Path) -> Result<Self, FilesError> {
        let root = RootDir::open_host(dir)?;
        let name = blake3::hash(dir.as_os_str().as_bytes()).to_hex();
        let stamps = Stamps::load(&state_dir.join(format!("stamps-{}", &name[..16])));
        Ok(Self::new(root, ignore, stamps))
    }

    /// Opens a directory that is gone after this build: nothing of it is remembered.
    pub fn open_transient(dir: &Path, ignore: IgnorePatterns) -> Result<Self, FilesError> {
        let root = RootDir::open_host(dir)?;
        Ok(Self::new(root, ignore, Stamps::none()))
    }

    fn new(root: RootDir, ignore: IgnorePatterns, stamps: Stamps) -> Self {
        let (seen, hashed_late, known) = (Seen::default(), Mutex::default(), Mutex::default());
        Self { root, ignore, stamps, seen, hashed_late, known }
    }

    /// What a selection holds, by content; hashed once per build.
    pub fn content(&self, selection: &Selection) -> Result<ContentId, FilesError> {
        let known = || self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(content) = known().get(selection) {
            return Ok(*content);
        }
        let content = hash_selection(self, selection, false)?;
        known().insert(selection.clone(), content);
        Ok(content)
    }

    /// Fails if a file that the selection requires is not there; reads none.
    pub fn find(&self, selection: &Selection) -> Result<(), FilesError> {
        select(self, selection).map(drop)
    }

    /// Every selection that was hashed in this build, with the files that it holds.
    pub fn listings(
        &self,
        wanted: impl Fn(&ContentId) -> bool,
    ) -> impl Iterator<Item = (ContentId, Listing)> {
        let selections: Vec<(Selection, ContentId)> = {
            let known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let known = known.iter().filter(|(_, content)| wanted(content));
            known.map(|(selection, content)| (selection.clone(), *content)).collect()
        };
        let list = |(selection, content)| Some((content, list_selection(self, &selection).ok()?));
        selections.into_iter().filter_map(list)
    }

    /// The files behind a content id (in hex) that was hashed in this build.
    pub fn listing_of(&self, content: &str) -> Option<Listing> {
        let selection = {
            let known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            known.iter().find(|(_, id)| id.hex() == content).map(|(selection, _)| selection.clone())?
        };
        list_selection(self, &selection).ok()
    }

    /// Keeps the hashes for the next build. Losing them costs time only, so failures are nobody's business.
    pub fn remember(&self) {
        self.stamps.save();
    }

    /// True if the ignore file excludes `path` for certain: it has no pattern that takes anything back.
    pub fn is_ignored(&self, path: &str) -> bool {
        !self.ignore.has_negations() && self.excluded(Path::new(path))
    }

    /// Stands for the ignore file's patterns, in explanations.
    pub fn ignore_fact(&self) -> String {
        blake3::hash(format!("{:?}", self.ignore).as_bytes()).to_hex()[..16].to_owned()
    }

    /// The hash of a file's bytes as it stands in this build's keys; `None` if the file was changed since.
    pub fn hashed(&self, path: &Path, seen: &Stat) -> Option<blake3::Hash> {
        self.stamps.hashed(&self.as_hashed(path, seen))
    }

    /// A file as it was when it was hashed, which may be later than it was seen.
    fn as_hashed(&self, path: &Path, seen: &Stat) -> Stat {
        let late = self.hashed_late.lock().unwrap_or_else(PoisonError::into_inner);
        late.get(path).copied().unwrap_or(*seen)
    }

    /// A directory of the context.
    pub fn open_dir(&self, path: &Path) -> Result<Dir, FilesError> {
        Ok(self.root.open_dir(path)?)
    }

    /// The context's own directory.
    pub fn top(&self) -> &Dir {
        self.root.dir()
    }

    /// Whether the ignore file excludes what is at `path`.
    fn excluded(&self, path: &Path) -> bool {
        !self.ignore.is_empty()
            && !path.as_os_str().is_empty()
            && self.ignore.excludes(path.as_os_str().as_bytes())
    }
}

impl TreeView for LocalContext {
    fn stat(&self, path: &Path) -> Result<Option<Stat>, FilesError> {
        self.seen.stat(path, || self.look_at(path))
    }

    fn children(&self, path: &Path) -> Result<Arc<Vec<Child>>, FilesError> {
        self.seen.children(path, || self.list(path).map(Arc::new))
    }

    fn read_link(&self, path: &Path) -> Result<OsString, FilesError> {
        self.seen.link(path, || Ok(self.root.read_link(path)?))
    }

    fn open(&self, path: &Path) -> Result<(File, Stat), FilesError> {
        Ok(self.root.open_file(path)?)
    }

    fn xattrs(&self, _path: &Path) -> Result<Vec<(OsString, Vec<u8>)>, FilesError> {
        // Docker's clients send none with a context.
        Ok(Vec::new())
    }

    fn is_hidden(&self, path: &Path) -> bool {
        self.excluded(path) && self.root.stat_nofollow(path).is_ok()
    }

    fn remembers(&self) -> bool {
        true
    }

    fn known_hash(&self, stat: &Stat) -> Option<blake3::Hash> {
        self.stamps.get(stat)
    }

    fn learn_hash(&self, path: &Path, seen: &Stat, opened: &Stat, hash: blake3::Hash) {
        self.stamps.put(opened, hash);
        if !is_same_file(seen, opened) {
            let mut late = self.hashed_late.lock().unwrap_or_else(PoisonError::into_inner);
            late.insert(path.to_owned(), *opened);
        }
    }

    fn is_as_hashed(&self, path: &Path, seen: &Stat, opened: &Stat) -> bool {
        is_same_file(&self.as_hashed(path, seen), opened)
    }
}

impl LocalContext {
    fn look_at(&self, path: &Path) -> Result<Option<Stat>, FilesError> {
        match self.root.stat_nofollow(path) {
            // An excluded directory may hold something that a later pattern takes back.
            Ok(stat)
                if self.excluded(path)
                    && !(stat.kind == FileKind::Directory && self.ignore.has_negations()) =>
            {
                Ok(None)
            }
            Ok(stat) => Ok(Some(stat)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A directory's content as it is now.
    fn list(&self, path: &Path) -> Result<Vec<Child>, FilesError> {
        let dir = self.root.open_dir(path)?;
        let mut ignore = self.ignore.walker();
        for name in path.iter() {
            ignore = ignore.entry(name.as_bytes()).directory();
        }
        let mut children = Vec::new();
        for entry in dir.read_dir()? {
            let verdict = (!self.ignore.is_empty()).then(|| ignore.entry(entry.name.as_bytes()));
            let excluded = verdict.as_ref().is_some_and(|verdict| verdict.excluded);
            let descend = verdict.is_none_or(|verdict| verdict.descend);
            if excluded && !(descend && entry.kind.is_none_or(|kind| kind == FileKind::Directory)) {
                continue;
            }
            let Some(stat) = dir.at(&entry.name)?.try_stat()? else { continue };
            if excluded
                && (stat.kind != FileKind::Directory || !self.holds_something(&path.join(&entry.name))?)
            {
                continue;
            }
            children.push(Child { name: entry.name, stat });
        }
        Ok(children)
    }

    /// Whether an excluded directory has anything in it that is taken back: only then it is there.
    fn holds_something(&self, path: &Path) -> Result<bool, FilesError> {
        Ok(!self.children(path)?.is_empty())
    }
}

/// Nothing was written to it in between, nor was it replaced.
fn is_same_file(one: &Stat, other: &Stat) -> bool {
    one.same_inode(other) && (one.size, one.mtime, one.ctime) == (other.size, other.mtime, other.ctime)
}

fn is_missing(error: &RootDirError) -> bool {
    error.not_found() || matches!(error.errno(), Some(rustix::io::Errno::NOTDIR))
}
