//! Extended attributes: of one name, of any file type, without following it; and of an open file.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::At;
use super::at::fd_path;
use super::error::{Result, os};

/// The kernel's own limits on one value and on one list of names (xattr(7)).
const XATTR_MAX_BYTES: usize = 64 * 1024;
/// What nearly every value and list fits into.
const XATTR_USUAL_BYTES: usize = 256;

impl At<'_> {
    /// The value of an extended attribute; `None` when the file has none of this name, or cannot have any.
    pub fn xattr(&self, attribute: impl AsRef<OsStr>) -> Result<Option<Vec<u8>>> {
        let (path, attribute) = (self.proc_path(), attribute.as_ref());
        read_growing(|buffer| rustix::fs::lgetxattr(&path, attribute, buffer))
            .map_err(os("read extended attribute of", self.name))
    }

    /// The names of all extended attributes, sorted by their bytes.
    pub fn xattrs(&self) -> Result<Vec<OsString>> {
        let path = self.proc_path();
        read_growing(|buffer| rustix::fs::llistxattr(&path, buffer))
            .map(sorted_names)
            .map_err(os("list extended attributes of", self.name))
    }

    /// Sets an extended attribute, made or replaced.
    pub fn set_xattr(&self, attribute: impl AsRef<OsStr>, value: &[u8]) -> Result<()> {
        rustix::fs::lsetxattr(self.proc_path(), attribute.as_ref(), value, XattrFlags::empty())
            .map_err(os("set extended attribute of", self.name))
    }

    /// Removes an extended attribute; none there is no error.
    pub fn remove_xattr(&self, attribute: impl AsRef<OsStr>) -> Result<()> {
        match rustix::fs::lremovexattr(self.proc_path(), attribute.as_ref()) {
            Err(Errno::NODATA) => Ok(()),
            result => result.map_err(os("remove extended attribute of", self.name)),
        }
    }

    /// There are no `*xattrat` calls before Linux 6.13. The `l*xattr` calls on a path through our own descriptor
    /// do the same: they resolve to the open directory and do not follow the last name.
    fn proc_path(&self) -> OsString {
        let mut path = OsString::from(fd_path(self.dir.as_fd()));
        path.push("/");
        path.push(self.name);
        path
    }
}

/// The names of all extended attributes of an open file, sorted by their bytes. A fifth of what [`At::xattrs`] costs,
/// for those who open the file anyway.
pub(crate) fn xattrs_of_fd(fd: BorrowedFd<'_>) -> std::result::Result<Vec<OsString>, Errno> {
    read_growing(|buffer| rustix::fs::flistxattr(fd, buffer)).map(sorted_names)
}

/// The value of an extended attribute of an open file, if it has one of this name.
pub(crate) fn xattr_of_fd(
    fd: BorrowedFd<'_>,
    attribute: &OsStr,
) -> std::result::Result<Option<Vec<u8>>, Errno> {
    read_growing(|buffer| rustix::fs::fgetxattr(fd, attribute, buffer))
}

/// Names as the kernel lists them, each with a NUL at its end.
fn sorted_names(list: Option<Vec<u8>>) -> Vec<OsString> {
    let list = list.unwrap_or_default();
    let names = list.split(|b| *b == 0).filter(|name| !name.is_empty());
    let mut names: Vec<_> = names.map(|name| OsString::from_vec(name.to_vec())).collect();
    names.sort_unstable();
    names
}

/// Reads with a small buffer first, and once more with the largest when that was too small.
fn read_growing(
    read: impl Fn(&mut [u8]) -> std::result::Result<usize, Errno>,
) -> std::result::Result<Option<Vec<u8>>, Errno> {
    let mut buffer = vec![0; XATTR_USUAL_BYTES];
    let mut result = read(&mut buffer);
    if result == Err(Errno::RANGE) {
        buffer.resize(XATTR_MAX_BYTES, 0);
        result = read(&mut buffer);
    }
    match result {
        Ok(length) => {
            buffer.truncate(length);
            Ok(Some(buffer))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno),
    }
}
