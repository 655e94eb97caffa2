//! Directories held open, and paths that cannot leave them.
//!
//! Every tree whose content somebody else chose (a layer, a rootfs, a build context) is reached through this
//! module and never by `join` and `open`: an attacker who can put a symlink into the tree would otherwise choose
//! where we read and write.
//!
//! - [`RootDir`] takes whole paths and lets the kernel resolve them as if the directory were `/`
//!   (`openat2` with `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`, see openat2(2)): absolute symlinks are
//!   re-rooted, `..` stops at the root, `/proc/*/fd` links are refused.
//! - [`Dir`] and [`At`] are the fast path: one name in one open directory, never followed when it is a symlink.
//! - [`Place`] joins the two: the directory that a path's parents resolve to, and the last name.
//!
//! Needs Linux 5.6 and `/proc` (mode, extended attributes and opening by identity go through `/proc/self/fd`).

mod at;
mod create;
mod descent;
mod dir;
mod error;
mod remove;
mod stat;
mod steps;
mod xattr;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

pub use at::At;
pub(crate) use descent::Descent;
pub use dir::{Dir, DirEntry};
pub use error::RootDirError;
use error::{Result, os};
pub use stat::{Device, FileKind, Mtime, Stat};
pub(crate) use steps::{SYMLINKS_MAX, Step, steps};
pub(crate) use xattr::{xattr_of_fd, xattrs_of_fd};

/// An open directory beneath which every path given to it resolves, whatever symlinks and `..` it holds.
#[derive(Debug, Clone)]
pub struct RootDir {
    dir: Dir,
}

/// Where a path ends: the directory that its parents resolve to, and its last name, not yet looked at.
#[derive(Debug, Clone)]
pub struct Place {
    /// The parent directory.
    pub dir: Dir,
    /// One component: never empty, `.`, `..` or with `/`.
    pub name: OsString,
}

/// What a directory that is made on the way to a path gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewDir {
    /// Permission bits with setuid, setgid and sticky (`0o7777`); the umask is not applied.
    pub mode: u32,
    /// Owner and group; `None` leaves those of the process.
    pub owner: Option<(u32, u32)>,
}

impl Place {
    /// The name, ready for operations.
    pub fn at(&self) -> At<'_> {
        At::unchecked(&self.dir, &self.name)
    }
}

impl RootDir {
    /// Opens a directory of the host by a path that the caller trusts; symlinks in it are followed as usual.
    pub fn open_host(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(os("open directory", path))?;
        Ok(Self::from_fd(fd))
    }

    /// Takes an open directory (`O_PATH` is enough) as a root.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { dir: Dir::from_fd(fd) }
    }

    /// The root directory itself.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// The directory at `path` as a root of its own.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Self> {
        self.open_dir(path).map(|dir| Self { dir })
    }

    /// The directory at `path`, symlinks followed inside the root.
    pub fn open_dir(&self, path: impl AsRef<Path>) -> Result<Dir> {
        let path = path.as_ref();
        let fd = self.resolve(path, OFlags::PATH | OFlags::DIRECTORY).map_err(os("open directory", path))?;
        Ok(Dir::from_fd(fd))
    }

    /// The regular file at `path` for reading, symlinks followed inside the root. Anything else is refused
    /// without being opened, so that no device or FIFO of an image is ever touched.
    pub fn open_file(&self, path: impl AsRef<Path>) -> Result<(File, Stat)> {
        let path = path.as_ref();
        let fd = self.resolve(path, OFlags::PATH).map_err(os("open", path))?;
        let stat = Stat::of_fd(&fd).map_err(os("stat", path))?;
        if stat.kind != FileKind::Regular {
            return Err(RootDirError::NotRegular { path: path.into() });
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file =
            rustix::fs::open(at::fd_path(fd.as_fd()), flags, Mode::empty()).map_err(os("open", path))?;
        Ok((File::from(file), stat))
    }

    /// Metadata of what `path` leads to, the last symlink followed too.
    pub fn stat_follow(&self, path: impl AsRef<Path>) -> Result<Stat> {
        self.stat(path.as_ref(), OFlags::PATH)
    }

    /// Metadata of what is at `path`, itself possibly a symlink.
    pub fn stat_nofollow(&self, path: impl AsRef<Path>) -> Result<Stat> {
        self.stat(path.as_ref(), OFlags::PATH | OFlags::NOFOLLOW)
    }

    /// The target of the symlink at `path`.
    pub fn read_link(&self, path: impl AsRef<Path>) -> Result<OsString> {
        let path = path.as_ref();
        let fd = self.resolve(path, OFlags::PATH | OFlags::NOFOLLOW).map_err(os("read link", path))?;
        at::read_link_fd(&fd).map_err(os("read link", path))
    }

    /// Resolves all but the last component. Missing parents are made when `create` says how; a dangling symlink
    /// among them gets its target made, inside the root (`/var/lock/x` where `lock -> /run/lock`).
    ///
    /// A path that names the root itself, or ends in `..`, has no place: [`RootDirError::NoName`].
    pub fn parent_of(&self, path: impl AsRef<Path>, create: Option<NewDir>) -> Result<Place> {
        let path = path.as_ref();
        let (parent, name) = split(path)?;
        let dir = match create {
            Some(new) => self.create_dir_all(parent, new)?,
            None if parent.as_os_str().is_empty() => self.dir.clone(),
            None => self.open_dir(parent)?,
        };
        Ok(Place { dir, name: name.to_owned() })
    }

    /// The directory at `path`, made with its parents where missing; what exists is left as it is.
    pub fn create_dir_all(&self, path: impl AsRef<Path>, new: NewDir) -> Result<Dir> {
        let path = path.as_ref();
        if path.as_os_str().is_empty() {
            return Ok(self.dir.clone());
        }
        match self.open_dir(path) {
            Err(error) if error.not_found() => create::create_dirs(self, path, new),
            opened => opened,
        }
    }

    /// Removes what is at `path`, with everything below it; nothing there is no error. See [`At::remove_tree`].
    pub fn remove(&self, path: impl AsRef<Path>) -> Result<()> {
        match self.parent_of(path, None) {
            Err(error) if error.not_found() => Ok(()),
            place => place?.at().remove_tree(),
        }
    }

    fn stat(&self, path: &Path, flags: OFlags) -> Result<Stat> {
        let fd = self.resolve(path, flags).map_err(os("stat", path))?;
        Stat::of_fd(&fd).map_err(os("stat", path))
    }

    fn resolve(&self, path: &Path, flags: OFlags) -> std::result::Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        openat2(self.dir.as_fd(), path.as_os_str(), flags, ResolveFlags::IN_ROOT)
    }
}

impl AsFd for RootDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// How often a resolution that raced with a rename is tried again before the error is believed.
const RESOLVE_TRIES: u32 = 128;

/// openat2 without magic links. The kernel answers EAGAIN when a rename anywhere on the machine ran beside a
/// `..`, since it cannot tell any more whether the path stayed inside; that is to be repeated.
fn openat2(
    dir: BorrowedFd<'_>,
    path: &OsStr,
    flags: OFlags,
    resolve: ResolveFlags,
) -> std::result::Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC;
    let resolve = resolve | ResolveFlags::NO_MAGICLINKS;
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(dir, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) if tries < RESOLVE_TRIES => tries += 1,
            result => return result,
        }
    }
}

/// The parent and the last name of a path. `a/b/`, `a/b/.` and `//a//b` all end in `b`.
fn split(path: &Path) -> Result<(&Path, &OsStr)> {
    let mut parts = path.components();
    match parts.next_back() {
        Some(Component::Normal(name)) => Ok((parts.as_path(), name)),
        _ => Err(RootDirError::NoName { path: path.into() }),
    }
}

#[cfg(test)]
pub(crate) mod tests;
