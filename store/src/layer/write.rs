//! Trees to tar, as the OCI image-spec wants layers ("Image Layer Filesystem Changeset").
//!
//! The same tree gives the same bytes: entries in the order of the walk, headers with nothing of the machine or
//! the moment in them, whole seconds, owners by number only. Hard links are found within what is written; the
//! first name carries the content. Whiteouts become `.wh.<name>`, an opaque directory holds `.wh..wh..opq` as its
//! first entry. The root directory has no entry, extended attributes other than `security.capability` are not
//! part of layers, holes are written as the zeros they read as.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use tar::EntryType;

use super::header::{BLOCK, Fields};
use crate::rootdir::{Device, Dir, Mtime};
use crate::tree::{
    CAPABILITY_XATTR, Entry, FileHash, Format, Node, OverlayXattrs, ReadOptions, TreeError, Walk, XattrFilter,
};

/// The mark of a whiteout in a layer's names.
pub const WHITEOUT_PREFIX: &str = ".wh.";

/// The whiteout of all that the layers below have in a directory.
pub const WHITEOUT_OPAQUE: &str = ".wh..wh..opq";

/// How much of a file is read at a time. Most files are smaller, and are read in one call.
const READ_BYTES: usize = 256 * 1024;

/// What may differ between two layers of the same tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// What becomes of modification times.
    pub times: FileTimes,
}

/// Modification times of files in a layer, in seconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum FileTimes {
    /// As the files have them.
    #[default]
    Kept,
    /// None is later than this (`rewrite-timestamp` with `SOURCE_DATE_EPOCH`).
    Clamped(i64),
    /// All are this: nothing is left of when a file was checked out or made.
    Fixed(i64),
}

impl FileTimes {
    /// What becomes of a time where fractions of seconds can be kept.
    pub fn exact(self, time: Mtime) -> Mtime {
        match self {
            Self::Clamped(latest) if time.sec < latest => time,
            Self::Kept => time,
            Self::Clamped(_) | Self::Fixed(_) => self.of(time.sec),
        }
    }

    fn of(self, seconds: i64) -> Mtime {
        let sec = match self {
            Self::Kept => seconds,
            Self::Clamped(latest) => seconds.min(latest),
            Self::Fixed(time) => time,
        };
        Mtime { sec, nsec: 0 }
    }
}

/// Why a layer could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The tree could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Where the layer goes to refused it.
    #[error("cannot write layer: {0}")]
    Output(#[source] io::Error),
    /// Readers of the layer would take the file for a whiteout, and remove another.
    #[error("file {} cannot be part of a layer: names that begin with `.wh.` mean deletions", path.display())]
    ReservedName {
        /// The file.
        path: PathBuf,
    },
    /// The device has a number beyond what tar can say.
    #[error("device {} has number {major}:{minor}, too large for tar", path.display())]
    DeviceNumber {
        /// The device node.
        path: PathBuf,
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
}

/// Writes entries as a tar stream.
#[derive(Debug)]
pub struct LayerWriter<W> {
    out: W,
    options: WriteOptions,
    links: HashMap<(u64, u64), PathBuf>,
    header: Vec<u8>,
    buffer: Vec<u8>,
}

/// Writes a whole layer tree, with the end of archive. Gives back the output.
pub fn write_tree<W: Write>(
    tree: &Dir,
    xattrs: OverlayXattrs,
    options: WriteOptions,
    out: W,
) -> Result<W, WriteError> {
    let read = ReadOptions { format: Format::Overlay(xattrs), xattrs: XattrFilter::Capability };
    let mut writer = LayerWriter::new(out, options);
    for entry in Walk::new(tree, read)? {
        writer.append(&entry?)?;
    }
    writer.finish()
}

impl<W: Write> LayerWriter<W> {
    /// Starts an archive.
    pub fn new(out: W, options: WriteOptions) -> Self {
        let (links, header, buffer) = (HashMap::new(), Vec::new(), vec![0; READ_BYTES]);
        Self { out, options, links, header, buffer }
    }

    /// Writes one entry, with its content. Parents are to be written before what is in them. After an error the
    /// output is not an archive and not to be kept.
    pub fn append(&mut self, entry: &Entry) -> Result<(), WriteError> {
        self.append_checked(entry, None)
    }

    /// As [`LayerWriter::append`], of a file whose content must have this hash.
    ///
    /// # Errors
    /// [`TreeError::Changed`] if it has another: nothing that was made of the bytes may be kept.
    pub fn append_checked(&mut self, entry: &Entry, hash: Option<FileHash>) -> Result<(), WriteError> {
        let name = entry.path.file_name().unwrap_or_default();
        if name.as_bytes().starts_with(WHITEOUT_PREFIX.as_bytes()) {
            return Err(WriteError::ReservedName { path: entry.path.clone() });
        }
        if entry.is_hard_linked()
            && let Some(first) = self.first_name(entry)
        {
            let fields = Fields { link: first.as_os_str().as_bytes(), ..self.fields(entry, EntryType::Link) };
            return self.write_header(fields);
        }
        match &entry.node {
            Node::Regular => self.write_file(entry, hash),
            Node::Directory { opaque } => self.write_directory(entry, *opaque),
            Node::Symlink { target } => {
                let link = target.as_bytes();
                self.write_header(Fields { link, ..self.fields(entry, EntryType::Symlink) })
            }
            Node::Char(device) => self.write_device(entry, EntryType::Char, *device),
            Node::Block(device) => self.write_device(entry, EntryType::Block, *device),
            Node::Fifo => self.write_header(self.fields(entry, EntryType::Fifo)),
            Node::Whiteout => {
                let mut name = WHITEOUT_PREFIX.as_bytes().to_vec();
                name.extend_from_slice(entry.path.file_name().unwrap_or_default().as_bytes());
                self.write_whiteout(&entry.path.with_file_name(OsStr::from_bytes(&name)))
            }
        }
    }

    /// Writes a directory that no tree has: what is to hold the entries that follow.
    pub fn append_directory(&mut self, path: &Path) -> Result<(), WriteError> {
        self.write_header(Fields {
            path: &[path.as_os_str().as_bytes(), b"/"].concat(),
            link: b"",
            kind: EntryType::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: self.options.times.of(0),
            device: None,
            xattrs: Vec::new(),
        })
    }

    /// Files that follow are not links to those before, whatever their inodes are.
    pub fn forget_links(&mut self) {
        self.links.clear();
    }

    /// Writes the end of the archive, and gives back the output.
    pub fn finish(mut self) -> Result<W, WriteError> {
        self.out.write_all(&[0; 2 * BLOCK]).map_err(WriteError::Output)?;
        Ok(self.out)
    }

    /// The name under which this inode was written already; `None`, and remembered, when this is the first.
    fn first_name(&mut self, entry: &Entry) -> Option<PathBuf> {
        use std::collections::hash_map::Entry::{Occupied, Vacant};
        match self.links.entry((entry.stat.dev, entry.stat.ino)) {
            Occupied(first) => Some(first.get().clone()),
            Vacant(vacant) => {
                vacant.insert(entry.path.clone());
                None
            }
        }
    }

    fn write_file(&mut self, entry: &Entry, expected: Option<FileHash>) -> Result<(), WriteError> {
        let file = entry.open_file()?;
        let xattrs = file.xattrs()?;
        let capability = xattrs.iter().filter(|(name, _)| name == CAPABILITY_XATTR);
        let xattrs = capability.map(|(name, value)| (name.as_bytes(), &value[..])).collect();
        let size = entry.stat.size;
        self.write_header(Fields { size, xattrs, ..self.fields(entry, EntryType::Regular) })?;
        let out = &mut self.out;
        let mut hasher = expected.map(|_| blake3::Hasher::new());
        file.read(&mut self.buffer, |bytes| {
            if let Some(hasher) = &mut hasher {
                hasher.update(bytes);
            }
            out.write_all(bytes).map_err(WriteError::Output)
        })?;
        let found = hasher.map(|hasher| FileHash::from_bytes(*hasher.finalize().as_bytes()));
        if found != expected {
            return Err(TreeError::Changed { path: entry.path.clone() }.into());
        }
        let padding = size.next_multiple_of(BLOCK as u64) - size;
        self.out.write_all(&[0; BLOCK][..padding as usize]).map_err(WriteError::Output)
    }

    fn write_directory(&mut self, entry: &Entry, opaque: bool) -> Result<(), WriteError> {
        let path = [entry.path.as_os_str().as_bytes(), b"/"].concat();
        self.write_header(Fields { path: &path, ..self.fields(entry, EntryType::Directory) })?;
        match opaque {
            true => self.write_whiteout(&entry.path.join(WHITEOUT_OPAQUE)),
            false => Ok(()),
        }
    }

    fn write_device(&mut self, entry: &Entry, kind: EntryType, device: Device) -> Result<(), WriteError> {
        const OCTAL_7_MAX: u32 = 0o7_777_777;
        let Device { major, minor } = device;
        if major > OCTAL_7_MAX || minor > OCTAL_7_MAX {
            return Err(WriteError::DeviceNumber { path: entry.path.clone(), major, minor });
        }
        self.write_header(Fields { device: Some((major, minor)), ..self.fields(entry, kind) })
    }

    /// An empty file without owner, mode or time, as containerd and BuildKit write whiteouts.
    fn write_whiteout(&mut self, path: &Path) -> Result<(), WriteError> {
        self.write_header(Fields {
            path: path.as_os_str().as_bytes(),
            link: b"",
            kind: EntryType::Regular,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: Mtime::default(),
            device: None,
            xattrs: Vec::new(),
        })
    }

    /// What all entries have in common.
    fn fields<'a>(&self, entry: &'a Entry, kind: EntryType) -> Fields<'a> {
        Fields {
            path: entry.path.as_os_str().as_bytes(),
            link: b"",
            kind,
            mode: entry.stat.mode,
            uid: entry.stat.uid,
            gid: entry.stat.gid,
            size: 0,
            mtime: self.options.times.of(entry.stat.mtime.sec),
            device: None,
            xattrs: Vec::new(),
        }
    }

    fn write_header(&mut self, fields: Fields<'_>) -> Result<(), WriteError> {
        self.header.clear();
        fields.encode(&mut self.header);
        self.out.write_all(&self.header).map_err(WriteError::Output)
    }
}
