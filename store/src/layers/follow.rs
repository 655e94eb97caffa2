//! Following a blob while it is packed: whoever sends it need not wait for its end.

use std::fs::File;
use std::io::{self, Write};

use tempfile::NamedTempFile;

use super::PackedLayer;

/// Follows one blob from its first byte to its end. Called from the threads that pack it; it must be quick.
///
/// A blob that is not told of as whole, when the last handle of its follower is dropped, will never be.
pub trait Follow: Send + Sync {
    /// The packing begins: bytes will be added to this file, which stays readable whatever becomes of its name.
    fn begins(&self, _blob: &File) -> io::Result<()> {
        Ok(())
    }

    /// So many of the blob's bytes are in the file.
    fn grew(&self, _bytes: u64) {}

    /// The blob is whole, and the store has it.
    fn is_whole(&self, _layer: &PackedLayer) {}

    /// False once nobody wants the blob any more: the packing ends with an error.
    fn is_wanted(&self) -> bool {
        true
    }
}

/// Nobody follows.
impl Follow for () {}

/// The file of a blob, with what follows it.
pub(super) struct Growing<'a> {
    file: NamedTempFile,
    bytes: u64,
    follow: &'a dyn Follow,
}

impl<'a> Growing<'a> {
    pub fn new(file: NamedTempFile, follow: &'a dyn Follow) -> io::Result<Self> {
        follow.begins(file.as_file())?;
        Ok(Self { file, bytes: 0, follow })
    }

    pub fn into_file(self) -> NamedTempFile {
        self.file
    }
}

impl Write for Growing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.bytes += count as u64;
        self.follow.grew(self.bytes);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A layer's tar on its way into the packer: it breaks off once nobody wants the blob.
pub(super) struct Wanted<'a> {
    pub out: &'a mut dyn Write,
    pub follow: &'a dyn Follow,
}

impl Write for Wanted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.follow.is_wanted() {
            true => self.out.write(bytes),
            false => Err(io::Error::other("nobody wants the layer any more")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
