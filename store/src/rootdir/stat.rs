//! Metadata of one inode, in the shapes that layers need.

use std::os::fd::AsFd;

use rustix::fs::FileType;
use rustix::io::Errno;

/// The type of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
}

/// A device number (makedev(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Device {
    /// Selects the driver.
    pub major: u32,
    /// Selects the device of that driver.
    pub minor: u32,
}

/// A modification time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Mtime {
    /// Seconds since 1970-01-01 UTC, negative before.
    pub sec: i64,
    /// Nanoseconds past `sec`, below 1,000,000,000.
    pub nsec: u32,
}

/// What stat(2) tells of one inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The file's type.
    pub kind: FileKind,
    /// Permission bits with setuid, setgid and sticky (`0o7777`).
    pub mode: u32,
    /// Owner, in the caller's user namespace.
    pub uid: u32,
    /// Group, in the caller's user namespace.
    pub gid: u32,
    /// Bytes of content; the target's length for a symlink.
    pub size: u64,
    /// When the content last changed.
    pub mtime: Mtime,
    /// When the inode last changed. For stat caches; never part of an image.
    pub ctime: Mtime,
    /// The file system it is on.
    pub dev: u64,
    /// Its number there.
    pub ino: u64,
    /// How many names it has.
    pub nlink: u64,
    /// The device that a device node stands for.
    pub rdev: Device,
}

impl FileKind {
    pub(super) fn of_type(kind: FileType) -> Option<Self> {
        Some(match kind {
            FileType::RegularFile => Self::Regular,
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Symlink,
            FileType::CharacterDevice => Self::Char,
            FileType::BlockDevice => Self::Block,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            _ => return None,
        })
    }
}

impl Stat {
    /// Of the inode that is open.
    pub fn of_fd(fd: impl AsFd) -> Result<Self, Errno> {
        Self::from_raw(&rustix::fs::fstat(fd)?)
    }

    /// An inode of no known type is EINVAL: there is nothing that could be done with it.
    pub(super) fn from_raw(raw: &rustix::fs::Stat) -> Result<Self, Errno> {
        let kind = FileKind::of_type(FileType::from_raw_mode(raw.st_mode)).ok_or(Errno::INVAL)?;
        Ok(Self {
            kind,
            mode: raw.st_mode & 0o7777,
            uid: raw.st_uid,
            gid: raw.st_gid,
            size: raw.st_size as u64,
            mtime: Mtime { sec: raw.st_mtime, nsec: raw.st_mtime_nsec as u32 },
            ctime: Mtime { sec: raw.st_ctime, nsec: raw.st_ctime_nsec as u32 },
            dev: raw.st_dev,
            ino: raw.st_ino,
            nlink: nlink(raw),
            rdev: Device { major: rustix::fs::major(raw.st_rdev), minor: rustix::fs::minor(raw.st_rdev) },
        })
    }

    /// Whether both are the same inode.
    pub fn same_inode(&self, other: &Self) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }
}

/// 64 bits wide on x86-64, 32 on others.
#[allow(clippy::useless_conversion)]
fn nlink(raw: &rustix::fs::Stat) -> u64 {
    raw.st_nlink.into()
}
