//! What a tree, or any selection of its files, holds: one id that is the same whenever the content is.
//!
//! Covered: paths, types, modes, link targets, device numbers, bytes, `security.capability` and `user.*`
//! attributes (as far as the entries carry them), whiteouts, opaque directories, which names are hard links of
//! each other; owners and modification times as the options say. Never covered: inode and device numbers of the
//! file system, link counts, change and access times, which differ with every copy.
//!
//! The id is in cache keys. Changing what is covered or how it is encoded changes [`CONTEXT`].

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::hash_files::hash_files;
use super::{Entry, Node, TreeError, Xattrs};
use crate::rootdir::{Device, Mtime};
use crate::{ContentId, Threads};

/// Domain and version of the id (BLAKE3's key derivation).
const CONTEXT: &str = "forge tree content v1";

/// Which modification times are content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mtimes {
    /// None.
    Ignore,
    /// All but those from `from` to `to`, inclusive: a step's files that say just "when it ran" are equal to those
    /// of another run, while a time that it set on purpose counts. Whole seconds count, as layers have them.
    OutsideWindow {
        /// When the step began.
        from: Mtime,
        /// When it had ended.
        to: Mtime,
    },
}

/// What is content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentOptions {
    /// Modification times.
    pub mtimes: Mtimes,
    /// Whether owners and groups are. Those of a build context are not: COPY sets others.
    pub owners: bool,
}

/// The hash of one file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileHash([u8; 32]);

/// What is in one regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileContent {
    /// Of its bytes.
    pub hash: FileHash,
    /// The extended attributes that the walk was told to read.
    pub xattrs: Xattrs,
}

/// Puts entries together to an id, in the order in which they are added.
#[derive(Debug)]
pub struct ContentHasher {
    options: ContentOptions,
    hasher: blake3::Hasher,
    links: HashMap<(u64, u64), PathBuf>,
    record: Vec<u8>,
}

/// The id of what `entries` has, in that order: a walk over a tree, or what a filter leaves of one. Files are read
/// by `threads`; see [`hash_files`] to spare the reading of files that are known.
pub fn content_of(
    entries: impl Iterator<Item = Result<Entry, TreeError>>,
    options: ContentOptions,
    threads: Threads,
) -> Result<ContentId, TreeError> {
    let mut content = ContentHasher::new(options);
    hash_files(
        entries,
        threads,
        |_| None,
        |entry, file| {
            content.add(&entry.path, &entry, file.as_ref());
            Ok(())
        },
    )?;
    Ok(content.finish())
}

impl FileHash {
    /// Takes 32 bytes that were a file's hash.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, to keep.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FileContent {
    /// Reads and hashes the regular file of an entry. `buffer` must not be empty.
    pub fn read(entry: &Entry, buffer: &mut [u8]) -> Result<Self, TreeError> {
        let file = entry.open_file()?;
        let xattrs = file.xattrs()?;
        let mut hasher = blake3::Hasher::new();
        file.read(buffer, |bytes| {
            hasher.update(bytes);
            Ok::<_, TreeError>(())
        })?;
        Ok(Self { hash: FileHash(*hasher.finalize().as_bytes()), xattrs })
    }
}

impl ContentHasher {
    /// Starts with nothing.
    pub fn new(options: ContentOptions) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(&[u8::from(options.owners), u8::from(options.mtimes != Mtimes::Ignore)]);
        Self { options, hasher, links: HashMap::new(), record: Vec::new() }
    }

    /// Adds an entry that counts as being at `path`. `file` is what is in a regular file; without it, only its
    /// metadata counts.
    pub fn add(&mut self, path: &Path, entry: &Entry, file: Option<&FileContent>) {
        self.record.clear();
        self.put_bytes(path.as_os_str().as_bytes());
        match entry.is_hard_linked().then(|| self.first_name(path, entry)).flatten() {
            Some(first) => {
                self.record.push(b'h');
                self.put_bytes(first.as_os_str().as_bytes());
            }
            None => self.put_inode(entry, file),
        }
        let length = self.record.len() as u64;
        self.hasher.update(&length.to_le_bytes());
        self.hasher.update(&self.record);
    }

    /// The id of all that was added.
    pub fn finish(self) -> ContentId {
        ContentId::new(self.hasher.finalize())
    }

    /// The name under which this inode was added; `None`, and remembered, when this is the first.
    fn first_name(&mut self, path: &Path, entry: &Entry) -> Option<PathBuf> {
        let inode = (entry.stat.dev, entry.stat.ino);
        let first = self.links.get(&inode).cloned();
        if first.is_none() {
            self.links.insert(inode, path.to_owned());
        }
        first
    }

    fn put_inode(&mut self, entry: &Entry, file: Option<&FileContent>) {
        match &entry.node {
            Node::Regular => {
                self.record.push(b'f');
                self.put_number(entry.stat.size);
                self.record.push(u8::from(file.is_some()));
                self.record.extend_from_slice(file.map_or(&[], |file| &file.hash.0[..]));
            }
            Node::Directory { opaque } => self.record.push(if *opaque { b'o' } else { b'd' }),
            Node::Symlink { target } => {
                self.record.push(b'l');
                self.put_bytes(target.as_bytes());
            }
            Node::Char(device) => self.put_device(b'c', *device),
            Node::Block(device) => self.put_device(b'b', *device),
            Node::Fifo => self.record.push(b'p'),
            // Nothing but the name is kept of a whiteout.
            Node::Whiteout => return self.record.push(b'w'),
        }
        self.put_metadata(entry);
        let xattrs = file.map_or(&entry.xattrs, |file| &file.xattrs);
        for (name, value) in xattrs {
            self.record.push(b'x');
            self.put_bytes(name.as_bytes());
            self.put_bytes(value);
        }
    }

    fn put_metadata(&mut self, entry: &Entry) {
        let stat = &entry.stat;
        self.put_number(stat.mode.into());
        if self.options.owners {
            self.put_number(stat.uid.into());
            self.put_number(stat.gid.into());
        }
        if self.options.mtimes.cover(stat.mtime) {
            self.record.push(b't');
            self.record.extend_from_slice(&stat.mtime.sec.to_le_bytes());
        }
    }

    fn put_device(&mut self, letter: u8, device: Device) {
        self.record.push(letter);
        self.put_number(device.major.into());
        self.put_number(device.minor.into());
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_number(bytes.len() as u64);
        self.record.extend_from_slice(bytes);
    }

    fn put_number(&mut self, number: u64) {
        self.record.extend_from_slice(&number.to_le_bytes());
    }
}

impl Mtimes {
    fn cover(self, mtime: Mtime) -> bool {
        match self {
            Self::Ignore => false,
            Self::OutsideWindow { from, to } => !(from..=to).contains(&mtime),
        }
    }
}
