//! What a tree looked like before a step: enough to say of every file that nobody touched it.
//!
//! The kernel sets ctime, and nobody can set it back, so a file with the same inode, ctime and size is the same file.
//! A stamp that is as young as the clock's tick is no proof; the tree is stamped, then a tick is waited out.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use forge_store::RootDir;
use forge_store::rootdir::{Dir, FileKind, Stat};

use rustix::fs::{AtFlags, StatxFlags, statx};

use crate::files::FilesError;

/// Longer than the coarsest clock that stamps files takes for a tick (100 Hz).
const TICK: Duration = Duration::from_millis(12);

/// When an inode was made, where the file system says it: numbers of inodes are used again at once.
pub(super) type Birth = Option<(i64, u32)>;

/// Every directory.
pub(super) struct Stamps {
    directories: HashMap<PathBuf, Stamp>,
}

/// One directory: its names with their metadata.
struct Stamp {
    born: Birth,
    names: BTreeMap<OsString, Stat>,
}

impl Stamps {
    /// Stamps a tree that nobody changes any more.
    pub(super) fn take(root: &RootDir) -> Result<Stamps, FilesError> {
        let mut stamps = Stamps { directories: HashMap::new() };
        stamps.directory(root.dir(), Path::new(""))?;
        std::thread::sleep(TICK);
        Ok(stamps)
    }

    fn directory(&mut self, dir: &Dir, path: &Path) -> Result<(), FilesError> {
        let mut names = BTreeMap::new();
        for entry in dir.read_dir()? {
            let at = dir.at(&entry.name)?;
            let stat = at.stat()?;
            if stat.kind == FileKind::Directory {
                self.directory(&at.open_dir()?, &path.join(&entry.name))?;
            }
            names.insert(entry.name, stat);
        }
        self.directories.insert(path.to_owned(), Stamp { born: born(dir), names });
        Ok(())
    }

    /// What was in a directory; `None` if there was no directory of this path.
    pub(super) fn of(&self, path: &Path) -> Option<&BTreeMap<OsString, Stat>> {
        self.directories.get(path).map(|stamp| &stamp.names)
    }

    /// Whether `now` is the directory that had this path, rather than a new one of the same inode number.
    pub(super) fn is_still(&self, path: &Path, was: &Stat, now: &Dir, stat: &Stat) -> bool {
        let known = self.directories.get(path);
        was.same_inode(stat) && known.is_some_and(|stamp| stamp.born == born(now))
    }
}

fn born(dir: &Dir) -> Birth {
    let wanted = StatxFlags::BTIME;
    let found = statx(dir, "", AtFlags::EMPTY_PATH, wanted).ok()?;
    let known = StatxFlags::from_bits_retain(found.stx_mask).contains(wanted);
    known.then_some((found.stx_btime.tv_sec, found.stx_btime.tv_nsec))
}

/// Whether it is the same file, as it was.
pub(super) fn untouched(before: &Stat, now: &Stat) -> bool {
    before.same_inode(now) && before.ctime == now.ctime && same_metadata(before, now)
}

/// Whether both look the same but for content and attributes.
pub(super) fn same_metadata(before: &Stat, now: &Stat) -> bool {
    let of = |stat: &Stat| (stat.kind, stat.mode, stat.uid, stat.gid, stat.mtime, stat.rdev);
    // A directory's size is the file system's own affair.
    of(before) == of(now) && (now.kind == FileKind::Directory || before.size == now.size)
}
