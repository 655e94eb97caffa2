//! Extended attributes of one name, of any file type, without following it.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
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
        let list = read_growing(|buffer| rustix::fs::llistxattr(&path, buffer))
            .map_err(os("list extended attributes of", self.name))?
            .unwrap_or_default();
        let names = list.split(|b| *b == 0).filter(|name| !name.is_empty());
        let mut names: Vec<_> = names.map(|name| OsString::from_vec(name.to_vec())).collect();
        names.sort_unstable();
        Ok(names)
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
