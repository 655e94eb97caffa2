//! A directory held open.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, RawDir};
use rustix::io::Errno;

use super::error::{Result, os};
use super::{At, FileKind, RootDirError, Stat};

/// An open directory. Cloning is cheap and shares the descriptor.
#[derive(Debug, Clone)]
pub struct Dir {
    fd: Arc<OwnedFd>,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name's bytes as the kernel gave them: any but NUL and `/`.
    pub name: OsString,
    /// The type, when the file system told it without a stat.
    pub kind: Option<FileKind>,
    /// The inode number, for reading files in the order they lie on disk.
    pub ino: u64,
}

/// Room for a few hundred entries a system call.
const READ_DIR_BYTES: usize = 32 * 1024;

impl Dir {
    /// Takes an open directory; `O_PATH` is enough.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd: Arc::new(fd) }
    }

    /// One name in this directory. Checked: not empty, `.` or `..`, no `/`, no NUL.
    pub fn at<'a>(&'a self, name: &'a (impl AsRef<OsStr> + ?Sized)) -> Result<At<'a>> {
        let name = name.as_ref();
        let bytes = name.as_bytes();
        if matches!(bytes, b"" | b"." | b"..") || bytes.iter().any(|b| matches!(b, 0 | b'/')) {
            return Err(RootDirError::Name { name: name.into() });
        }
        Ok(At::unchecked(self, name))
    }

    /// The directory itself, for its metadata.
    pub fn itself(&self) -> At<'_> {
        At::unchecked(self, OsStr::new("."))
    }

    /// Its metadata.
    pub fn stat(&self) -> Result<Stat> {
        Stat::of_fd(self).map_err(os("stat", "."))
    }

    /// All names in it except `.` and `..`, sorted by their bytes.
    pub fn read_dir(&self) -> Result<Vec<DirEntry>> {
        // Opened anew, since this descriptor may be O_PATH and its offset would be shared between threads.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(self, ".", flags, Mode::empty()).map_err(os("read directory", "."))?;
        read_sorted(fd.as_fd()).map_err(os("read directory", "."))
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Reads a directory opened for reading, from its current offset.
pub(super) fn read_sorted(fd: BorrowedFd<'_>) -> std::result::Result<Vec<DirEntry>, Errno> {
    let mut buffer = Vec::with_capacity(READ_DIR_BYTES);
    let mut raw = RawDir::new(fd, buffer.spare_capacity_mut());
    let mut entries = Vec::new();
    while let Some(entry) = raw.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            let kind = FileKind::of_type(entry.file_type());
            entries.push(DirEntry { name: OsString::from_vec(name.to_vec()), kind, ino: entry.ino() });
        }
    }
    entries.sort_unstable_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
    Ok(entries)
}
