//! One name in one open directory: the operations. None of them follows the name when it is a symlink.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;

use super::dir::read_sorted;
use super::error::{Result, os};
use super::{Device, Dir, DirEntry, FileKind, Mtime, RootDirError, Stat};

/// A name in an open directory. Made by [`Dir::at`], which checks the name, and [`Dir::itself`].
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    pub(super) dir: &'a Dir,
    pub(super) name: &'a OsStr,
}

impl<'a> At<'a> {
    /// For names that came from [`Dir::at`], from the kernel, or are `.`.
    pub(crate) fn unchecked(dir: &'a Dir, name: &'a OsStr) -> Self {
        Self { dir, name }
    }

    /// The directory.
    pub fn dir(&self) -> &'a Dir {
        self.dir
    }

    /// The name in it; `.` for the directory itself.
    pub fn name(&self) -> &'a OsStr {
        self.name
    }

    /// Metadata.
    pub fn stat(&self) -> Result<Stat> {
        rustix::fs::statat(self.dir, self.name, AtFlags::SYMLINK_NOFOLLOW)
            .and_then(|raw| Stat::from_raw(&raw))
            .map_err(os("stat", self.name))
    }

    /// Metadata, or `None` when there is nothing.
    pub fn try_stat(&self) -> Result<Option<Stat>> {
        match self.stat() {
            Err(error) if error.not_found() => Ok(None),
            stat => stat.map(Some),
        }
    }

    /// The directory of this name; a symlink to one is refused (ENOTDIR).
    pub fn open_dir(&self) -> Result<Dir> {
        let fd = self.open(OFlags::PATH | OFlags::DIRECTORY, 0).map_err(os("open directory", self.name))?;
        Ok(Dir::from_fd(fd))
    }

    /// The directory of this name and its sorted entries: one system call less than [`Dir::read_dir`].
    pub fn read_dir(&self) -> Result<(Dir, Vec<DirEntry>)> {
        let fd = self.open(OFlags::RDONLY | OFlags::DIRECTORY, 0).map_err(os("read directory", self.name))?;
        let entries = read_sorted(fd.as_fd()).map_err(os("read directory", self.name))?;
        Ok((Dir::from_fd(fd), entries))
    }

    /// The regular file of this name, for reading. For names that a stat showed to be one: another type is
    /// refused only after it was opened (without waiting). [`super::RootDir::open_file`] is for the unknown.
    pub fn open_file(&self) -> Result<(File, Stat)> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = self.open(flags, 0).map_err(os("open", self.name))?;
        let stat = Stat::of_fd(&fd).map_err(os("stat", self.name))?;
        match stat.kind {
            FileKind::Regular => Ok((File::from(fd), stat)),
            _ => Err(RootDirError::NotRegular { path: self.name.into() }),
        }
    }

    /// The target of the symlink of this name.
    pub fn read_link(&self) -> Result<OsString> {
        rustix::fs::readlinkat(self.dir, self.name, Vec::new())
            .map(|target| OsString::from_vec(target.into_bytes()))
            .map_err(os("read link", self.name))
    }

    /// Makes a regular file and opens it for reading and writing. Anything of this name already there is an
    /// error (EEXIST). The umask is not applied. Writing clears setuid, setgid and `security.capability` where the
    /// process lacks CAP_FSETID: set those after the content.
    pub fn create_file(&self, mode: u32) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let fd = self.open(flags, 0o600).map_err(os("create", self.name))?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode)).map_err(os("set mode of", self.name))?;
        Ok(File::from(fd))
    }

    /// Makes a directory. The umask, a setgid parent and default ACLs do not change its mode.
    pub fn create_dir(&self, mode: u32) -> Result<()> {
        let bits = Mode::from_raw_mode(mode & 0o700);
        rustix::fs::mkdirat(self.dir, self.name, bits).map_err(os("create directory", self.name))?;
        self.chmod(mode)
    }

    /// Makes a symlink; the target is kept as given.
    pub fn symlink(&self, target: impl AsRef<OsStr>) -> Result<()> {
        rustix::fs::symlinkat(target.as_ref(), self.dir, self.name).map_err(os("create symlink", self.name))
    }

    /// Makes this name another name of `existing`'s inode, which may itself be a symlink.
    pub fn hard_link_from(&self, existing: At<'_>) -> Result<()> {
        rustix::fs::linkat(existing.dir, existing.name, self.dir, self.name, AtFlags::empty())
            .map_err(os("create hard link", self.name))
    }

    /// Makes a device node or FIFO; `device` counts for devices only. Other kinds are refused (EINVAL).
    pub fn mknod(&self, kind: FileKind, mode: u32, device: Device) -> Result<()> {
        let (kind, device) = match kind {
            FileKind::Char => (FileType::CharacterDevice, rustix::fs::makedev(device.major, device.minor)),
            FileKind::Block => (FileType::BlockDevice, rustix::fs::makedev(device.major, device.minor)),
            FileKind::Fifo => (FileType::Fifo, 0),
            _ => return Err(os("create node", self.name)(Errno::INVAL)),
        };
        rustix::fs::mknodat(self.dir, self.name, kind, Mode::from_raw_mode(mode & 0o700), device)
            .map_err(os("create node", self.name))?;
        self.chmod(mode)
    }

    /// Gives the file another name, in this or another directory, replacing what has that name (rename(2)).
    pub fn rename_to(&self, new: At<'_>) -> Result<()> {
        rustix::fs::renameat(self.dir, self.name, new.dir, new.name).map_err(os("rename", self.name))
    }

    /// Removes a file of any type but a directory.
    pub fn remove_file(&self) -> Result<()> {
        rustix::fs::unlinkat(self.dir, self.name, AtFlags::empty()).map_err(os("remove", self.name))
    }

    /// Removes an empty directory.
    pub fn remove_dir(&self) -> Result<()> {
        rustix::fs::unlinkat(self.dir, self.name, AtFlags::REMOVEDIR)
            .map_err(os("remove directory", self.name))
    }

    /// Sets the permission bits (`0o7777`). A symlink has none: EOPNOTSUPP.
    pub fn chmod(&self, mode: u32) -> Result<()> {
        // fchmodat(2) would follow a symlink; an O_PATH descriptor names the inode itself.
        let fd = self.open(OFlags::PATH, 0).map_err(os("open", self.name))?;
        rustix::fs::chmod(fd_path(fd.as_fd()), Mode::from_raw_mode(mode))
            .map_err(os("set mode of", self.name))
    }

    /// Sets owner and group. The kernel then clears setuid, setgid and `security.capability`: set those after.
    pub fn chown(&self, uid: u32, gid: u32) -> Result<()> {
        // -1 means "leave it" to the kernel, which is not what an archive that says 4294967295 asks for.
        if uid == u32::MAX || gid == u32::MAX {
            return Err(os("set owner of", self.name)(Errno::INVAL));
        }
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::fs::chownat(self.dir, self.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(os("set owner of", self.name))
    }

    /// Sets the modification time and leaves the access time.
    pub fn set_mtime(&self, mtime: Mtime) -> Result<()> {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: mtime.sec, tv_nsec: mtime.nsec.into() },
        };
        rustix::fs::utimensat(self.dir, self.name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(os("set time of", self.name))
    }

    fn open(&self, flags: OFlags, mode: u32) -> std::result::Result<OwnedFd, Errno> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(self.dir, self.name, flags, Mode::from_raw_mode(mode))
    }
}

/// The name by which `/proc` reaches what a descriptor has open, whatever happened to its path since.
pub(super) fn fd_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// The target of an open symlink.
pub(super) fn read_link_fd(fd: &OwnedFd) -> std::result::Result<OsString, Errno> {
    match rustix::fs::readlinkat(fd, "", Vec::new()) {
        // The kernel says ENOENT for an empty path on anything that is not a symlink.
        Err(Errno::NOENT) => Err(Errno::INVAL),
        target => target.map(|target| OsString::from_vec(target.into_bytes())),
    }
}
