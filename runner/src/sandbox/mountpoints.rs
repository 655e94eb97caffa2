//! Mount points in a tree that an image made: found without leaving the tree, made when missing, and taken back.
//!
//! Paths are resolved by `openat2` with RESOLVE_IN_ROOT: a symbolic link of the image, however hostile, ends inside
//! the image. What is made here is remembered by descriptor and inode, so that taking it back cannot be led astray by
//! a step that moved directories about in the meantime.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, fstat, mkdirat, openat, openat2, statat,
    unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::guard::{self, Guard};

/// What a mount wants to lie on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
}

/// Opens `path` (absolute or relative, both counted from `root`) without following anything out of the root.
pub(super) fn open(
    root: impl AsFd,
    path: &Path,
    flags: OFlags,
    resolve: ResolveFlags,
) -> io::Result<OwnedFd> {
    let (path, resolve) = if Guard::InRoot.holds() {
        (path.to_owned(), resolve | ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
    } else {
        (Path::new(".").join(path.strip_prefix("/").unwrap_or(path)), resolve)
    };
    Ok(openat2(root, &path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

/// Opens an existing mount point, or says `None`.
pub(super) fn find(root: impl AsFd, path: &Path) -> io::Result<Option<OwnedFd>> {
    match open(root, path, OFlags::PATH, ResolveFlags::empty()) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The deepest directory on the way to `path` that exists, and the names that are missing below it.
pub(super) fn deepest(root: impl AsFd, path: &Path) -> io::Result<(OwnedFd, Vec<PathBuf>)> {
    let names = names(path)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    for existing in (0..names.len()).rev() {
        let prefix: PathBuf =
            std::iter::once(Path::new("/")).chain(names[..existing].iter().map(PathBuf::as_path)).collect();
        match open(&root, &prefix, flags, ResolveFlags::empty()) {
            Ok(found) => return Ok((found, names[existing..].to_vec())),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::INVAL.into())
}

/// The names of a path, which may neither be empty nor climb.
fn names(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(PathBuf::from(name)),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(Errno::INVAL.into()),
        }
    }
    if names.is_empty() { Err(Errno::INVAL.into()) } else { Ok(names) }
}

/// Makes one missing directory or empty file.
pub(super) fn make(parent: impl AsFd, name: &Path, kind: Kind) -> io::Result<OwnedFd> {
    let parent = parent.as_fd();
    match kind {
        Kind::Directory => mkdirat(parent, name, Mode::from_raw_mode(0o755))?,
        Kind::File => {
            let own = if Guard::InRoot.holds() { OFlags::EXCL | OFlags::NOFOLLOW } else { OFlags::empty() };
            let flags = OFlags::WRONLY | OFlags::CREATE | own | OFlags::CLOEXEC;
            drop(openat(parent, name, flags, Mode::from_raw_mode(0o644))?);
        }
    }
    Ok(openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

/// A mount point that had to be made in a tree whose changes are kept.
pub(super) struct Made {
    parent: OwnedFd,
    name: PathBuf,
    kind: Kind,
    identity: (u64, u64),
    parent_times: Timestamps,
    parent_times_after: Timestamps,
}

/// Opens `path`, making what is missing on the way and noting it in `made`.
pub(super) fn open_or_make(
    root: impl AsFd,
    path: &Path,
    kind: Kind,
    made: &mut Vec<Made>,
) -> io::Result<OwnedFd> {
    if let Some(found) = find(&root, path)? {
        return Ok(found);
    }
    guard::meanwhile();
    if !Guard::ByDescriptor.holds() {
        return make_by_path(&root, path, kind);
    }
    let (mut parent, missing) = deepest(&root, path)?;
    for (index, name) in missing.iter().enumerate() {
        let kind = if index + 1 == missing.len() { kind } else { Kind::Directory };
        let before = times(&fstat(&parent)?);
        let child = make(&parent, name, kind)?;
        let child_stat = fstat(&child)?;
        let after = times(&fstat(&parent)?);
        made.push(Made {
            parent,
            name: name.clone(),
            kind,
            identity: identity(&child_stat),
            parent_times: before,
            parent_times_after: after,
        });
        parent = child;
    }
    Ok(parent)
}

/// What other builders did: a path that was looked at is walked once more. See [`Guard::ByDescriptor`].
fn make_by_path(root: impl AsFd, path: &Path, kind: Kind) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let relative = path.strip_prefix("/").unwrap_or(path);
    let place = Path::new("/proc/self/fd").join(root.as_fd().as_raw_fd().to_string()).join(relative);
    match kind {
        Kind::Directory => std::fs::create_dir_all(&place)?,
        Kind::File => drop(std::fs::File::create(&place)?),
    }
    Ok(openat(root, relative, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// Takes mount points back, the last made first: only what is still the same inode and still empty, and the times of
/// the parent only if nobody else changed it. A step that put something there keeps it.
pub(super) fn take_back(made: Vec<Made>) {
    for point in made.into_iter().rev() {
        // Whatever fails here leaves an empty directory in the layer, which is what other builders always leave.
        let _ = point.remove();
    }
}

impl Made {
    fn remove(&self) -> io::Result<()> {
        let now = statat(&self.parent, &self.name, AtFlags::SYMLINK_NOFOLLOW)?;
        if identity(&now) != self.identity || (self.kind == Kind::File && now.st_size != 0) {
            return Ok(());
        }
        let untouched = same_times(&times(&fstat(&self.parent)?), &self.parent_times_after);
        let flags = if self.kind == Kind::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        unlinkat(&self.parent, &self.name, flags)?;
        if untouched {
            utimensat(&self.parent, ".", &self.parent_times, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Access and modification time of a file.
pub(super) fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec.cast_signed() },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec.cast_signed() },
    }
}

pub(super) fn same_times(left: &Timestamps, right: &Timestamps) -> bool {
    left.last_modification == right.last_modification
}
