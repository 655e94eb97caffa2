//! Removing a whole tree that somebody else filled: by descriptor, never through a symlink, never into a mount.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{OFlags, ResolveFlags};
use rustix::io::Errno;

use super::dir::read_sorted;
use super::error::{Result, os};
use super::{At, Descent, Dir, DirEntry, FileKind, RootDirError, Stat};

impl At<'_> {
    /// Removes the file of this name, or the directory with all below it; nothing there is no error.
    ///
    /// Stops at mount points (EXDEV, EBUSY): what is mounted into a tree is not part of it. Any depth of tree is
    /// removed with a bounded number of descriptors and no recursion.
    pub fn remove_tree(&self) -> Result<()> {
        if self.name == OsStr::new(".") {
            return Err(RootDirError::NoName { path: self.name.into() });
        }
        if remove_simple(*self, None)? {
            return Ok(());
        }
        let mut descent = Descent::new(self.dir.clone());
        let mut levels = vec![enter(&mut descent, self.name.to_owned())?];
        while let Some(level) = levels.last_mut() {
            match level.todo.pop() {
                Some(entry) => {
                    if !remove_simple(descent.current().at(&entry.name)?, entry.kind)? {
                        levels.push(enter(&mut descent, entry.name)?);
                    }
                }
                None => {
                    descent.pop(Path::new(&level.name))?;
                    descent.current().at(&level.name)?.remove_dir()?;
                    levels.pop();
                }
            }
        }
        Ok(())
    }
}

/// A directory being emptied.
struct Level {
    name: OsString,
    todo: Vec<DirEntry>,
}

/// Removes what needs no descent; `false` for a directory that is not empty.
fn remove_simple(at: At<'_>, kind: Option<FileKind>) -> Result<bool> {
    if kind != Some(FileKind::Directory) {
        match at.remove_file() {
            Err(error) if error.not_found() => return Ok(true),
            Err(error) if error.errno() == Some(Errno::ISDIR) => {}
            result => return result.map(|()| true),
        }
    }
    match at.remove_dir() {
        Err(error) if matches!(error.errno(), Some(Errno::NOTEMPTY | Errno::EXIST)) => Ok(false),
        Err(error) if error.not_found() => Ok(true),
        result => result.map(|()| true),
    }
}

fn enter(descent: &mut Descent, name: OsString) -> Result<Level> {
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    let fd = super::openat2(descent.current().as_fd(), &name, OFlags::RDONLY | OFlags::DIRECTORY, resolve)
        .map_err(os("open directory", &name))?;
    let stat = Stat::of_fd(&fd).map_err(os("stat", &name))?;
    let todo = read_sorted(fd.as_fd()).map_err(os("read directory", &name))?;
    descent.push(Dir::from_fd(fd), &stat);
    Ok(Level { name, todo })
}
