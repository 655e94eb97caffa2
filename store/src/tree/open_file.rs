//! A file of a tree, opened: read to the byte that its entry promised, with its extended attributes.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use rustix::io::Errno;

use super::entry::Xattrs;
use super::{Entry, TreeError};
use crate::rootdir::{RootDirError, xattr_of_fd, xattrs_of_fd};

/// An open regular file, still the one that its entry tells of.
#[derive(Debug)]
pub struct OpenFile<'a> {
    entry: &'a Entry,
    file: File,
}

impl Entry {
    /// Opens the regular file for reading. When it is no longer the file that the entry tells of: `Changed`.
    pub fn open_file(&self) -> Result<OpenFile<'_>, TreeError> {
        let (file, stat) = self.at().open_file().map_err(|error| error.with_path(&self.path))?;
        match stat.same_inode(&self.stat) && stat.size == self.stat.size {
            true => Ok(OpenFile { entry: self, file }),
            false => Err(TreeError::Changed { path: self.path.clone() }),
        }
    }
}

impl OpenFile<'_> {
    /// The extended attributes that the walk was told to read.
    pub fn xattrs(&self) -> Result<Xattrs, TreeError> {
        let options = self.entry.options;
        if !options.needs_xattrs() {
            return Ok(Vec::new());
        }
        let failed = |errno: Errno| {
            let verb = "read extended attributes of";
            RootDirError::Os { verb, path: self.entry.path.clone(), errno }
        };
        let names = xattrs_of_fd(self.file.as_fd()).map_err(failed)?;
        options.refuse_features(&self.entry.path, &names)?;
        Ok(options.xattrs.read(names, |name| xattr_of_fd(self.file.as_fd(), name)).map_err(failed)?)
    }

    /// The file, to be read in some other way.
    pub fn into_file(self) -> File {
        self.file
    }

    /// Reads the file in pieces of at most `buffer`'s size, as many bytes as the entry's `stat.size` says in all. A
    /// file that has become shorter or longer is [`TreeError::Changed`]: a header that promised another size has
    /// been written by then, so nothing that was made of the bytes may be kept.
    ///
    /// `buffer` must not be empty; one that is larger than the file saves a system call.
    pub fn read<E: From<TreeError>>(
        mut self,
        buffer: &mut [u8],
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let path = &self.entry.path;
        let changed = || TreeError::Changed { path: path.clone() };
        let mut left = self.entry.stat.size;
        while left > 0 {
            // One byte more than is expected shows growth without another call.
            let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX).saturating_add(1));
            let read = match self.file.read(&mut buffer[..wanted]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(TreeError::Read { path: path.clone(), source }.into()),
                Ok(0) => return Err(changed().into()),
                Ok(read) => read,
            };
            left = left.checked_sub(read as u64).ok_or_else(changed)?;
            take(&buffer[..read])?;
        }
        Ok(())
    }
}
