//! Making a path's directories. The kernel has no "mkdir in root", so the path is resolved here, one component at
//! a time in open directories; symlinks are read and expanded by us and so cannot lead out.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, ResolveFlags};
use rustix::io::Errno;

use super::error::{Result, os};
use super::steps::{SYMLINKS_MAX, Step, steps};
use super::{At, Dir, NewDir, RootDir, RootDirError};

/// A position in the tree: an open directory, and its path without symlinks from the root.
struct Position<'a> {
    root: &'a RootDir,
    dir: Dir,
    path: PathBuf,
}

/// Opens the directory at `path`, making what is missing of it.
pub(super) fn create_dirs(root: &RootDir, path: &Path, new: NewDir) -> Result<Dir> {
    let mut here = Position { root, dir: root.dir().clone(), path: PathBuf::new() };
    let mut todo: VecDeque<Step> = steps(path).collect();
    let mut symlinks = 0;
    while let Some(step) = todo.pop_front() {
        match step {
            Step::Root => here.restart(),
            Step::Up => here.up()?,
            Step::Down(name) => {
                if let Some(target) = here.down(&name, new)? {
                    symlinks += 1;
                    if symlinks > SYMLINKS_MAX {
                        return Err(os("create directory", path)(Errno::LOOP));
                    }
                    steps(Path::new(&target)).rev().for_each(|step| todo.push_front(step));
                }
            }
        }
    }
    Ok(here.dir)
}

impl Position<'_> {
    fn restart(&mut self) {
        self.dir = self.root.dir().clone();
        self.path.clear();
    }

    /// Goes by our own record of the path, not by the directory's `..`, which a rename could have moved outside.
    fn up(&mut self) -> Result<()> {
        self.path.pop();
        if self.path.as_os_str().is_empty() {
            self.restart();
            return Ok(());
        }
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let opened = super::openat2(self.root.dir.as_fd(), self.path.as_os_str(), flags, resolve);
        self.dir = Dir::from_fd(opened.map_err(os("open directory", &self.path))?);
        Ok(())
    }

    /// Enters `name`, made where missing; or gives the target when it is a symlink, and stays.
    fn down(&mut self, name: &OsString, new: NewDir) -> Result<Option<OsString>> {
        let path = self.path.join(name);
        let at = self.dir.at(name)?;
        let opened = match at.open_dir() {
            Err(error) if error.not_found() => make(at, new).and_then(|()| at.open_dir()),
            opened => opened,
        };
        match opened {
            Ok(dir) => {
                self.dir = dir;
                self.path = path;
                Ok(None)
            }
            Err(error) if error.errno() == Some(Errno::NOTDIR) => link_target(at, &path).map(Some),
            Err(RootDirError::Os { verb, errno, .. }) => Err(RootDirError::Os { verb, path, errno }),
            Err(error) => Err(error),
        }
    }
}

fn make(at: At<'_>, new: NewDir) -> Result<()> {
    match at.create_dir(new.mode) {
        // Somebody else made it in this instant: theirs is as good.
        Err(error) if error.exists() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => match new.owner {
            // In this order: chown clears setgid.
            Some((uid, gid)) => at.chown(uid, gid).and_then(|()| at.chmod(new.mode)),
            None => Ok(()),
        },
    }
}

/// Of what is not a directory: the target of a symlink, or the error that a directory was needed.
fn link_target(at: At<'_>, path: &Path) -> Result<OsString> {
    match at.read_link() {
        Ok(target) if target.as_bytes().is_empty() => Err(os("open directory", path)(Errno::NOENT)),
        Err(error) if error.errno() == Some(Errno::INVAL) => Err(os("open directory", path)(Errno::NOTDIR)),
        target => target,
    }
}
