//! Reading a file's content to the byte that its entry promised.

use std::io::{self, Read};

use super::{Entry, TreeError};

impl Entry {
    /// Reads the regular file in pieces of at most `buffer`'s size, as many bytes as `stat.size` says in all. A
    /// file that has become shorter or longer is [`TreeError::Changed`]: a header that promised another size has
    /// been written by then, so nothing that was made of the bytes may be kept.
    ///
    /// `buffer` must not be empty; one that is larger than the file saves a system call.
    pub fn read_content<E: From<TreeError>>(
        &self,
        buffer: &mut [u8],
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let changed = || TreeError::Changed { path: self.path.clone() };
        let mut file = self.open_file()?;
        let mut left = self.stat.size;
        while left > 0 {
            // One byte more than is expected shows growth without another call.
            let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX).saturating_add(1));
            let read = match file.read(&mut buffer[..wanted]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(TreeError::Read { path: self.path.clone(), source }.into()),
                Ok(0) => return Err(changed().into()),
                Ok(read) => read,
            };
            left = left.checked_sub(read as u64).ok_or_else(changed)?;
            take(&buffer[..read])?;
        }
        Ok(())
    }
}
