//! Entries become files, in the archive's order.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

use super::super::read::{Entry, EntryKind, TarReader};
use super::Unpacked;
use super::directories::Record;
use super::error::{Refusal, UnpackError};
use super::metadata::{Metadata, write_error};
use super::options::{UnpackOptions, Whiteouts};
use super::parents::{Held, is_missing};
use super::path::TreePath;
use super::reserve::Reserve;
use super::tree::{Tree, at};
use super::whiteout::Name;
use super::writers::{Job, Writers};
use crate::rootdir::{At, Device, FileKind, RootDir, RootDirError};
use crate::tree::{create_whiteout, node};

/// Larger files are written by the caller as they come, not by a thread from memory.
const SMALL_FILE_BYTES: u64 = 128 * 1024;

pub(super) struct Unpacker<'a> {
    options: &'a UnpackOptions,
    tree: Tree<'a>,
    writers: Writers,
    reserve: Reserve,
    file_bytes: u64,
    attributes_left_out: u64,
}

impl<'a> Unpacker<'a> {
    pub(super) fn new(root: &'a RootDir, options: &'a UnpackOptions) -> Self {
        let (tree, writers) = (Tree::new(root, options), Writers::start(options.writers));
        let reserve = Reserve::new(root.dir());
        Self { options, tree, writers, reserve, file_bytes: 0, attributes_left_out: 0 }
    }

    /// Makes what an archive holds.
    pub(super) fn run(mut self, mut archive: TarReader<impl Read>) -> Result<Unpacked, UnpackError> {
        let read = self.entries(&mut archive);
        // What a writer failed at stood in the archive before what may have failed here.
        let left_out = self.writers.finish()?;
        read?;
        let (entries, implied_dirs) = self.tree.finish()?;
        Ok(Unpacked {
            entries,
            file_bytes: self.file_bytes,
            stream_bytes: archive.offset(),
            implied_dirs,
            attributes_left_out: self.attributes_left_out + left_out,
        })
    }

    fn entries(&mut self, archive: &mut TarReader<impl Read>) -> Result<(), UnpackError> {
        while !self.writers.failed()
            && let Some(entry) = archive.next_entry()?
        {
            self.entry(entry, archive)?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: Entry, archive: &mut TarReader<impl Read>) -> Result<(), UnpackError> {
        self.tree.count_entry()?;
        self.count_bytes(entry.size)?;
        let refused = |refusal| UnpackError::refused(&entry.path, refusal);
        let path = TreePath::of_entry(&entry.path).map_err(refused)?;
        let Some((parent, name)) = path.split() else { return self.tree_root(entry) };
        let meaning = match self.options.whiteouts {
            Whiteouts::Overlay => Name::of(name).map_err(refused)?,
            Whiteouts::Literal => Name::Plain,
        };
        let parent = self.tree.parent(parent)?;
        match meaning {
            Name::Plain => self.file(entry, path.bytes(), at(&parent, name)?, archive),
            Name::Hides(hidden) => {
                self.whiteout(at(&parent, hidden)?).map_err(UnpackError::write(path.bytes()))
            }
            Name::Opaque => {
                let marked = self.options.xattrs.set_opaque(parent.dir.itself());
                marked.map_err(UnpackError::write(path.bytes()))
            }
        }
    }

    /// The root itself: a layer's gives the tree its own metadata; that of an archive for ADD is not meant for the
    /// directory it goes into.
    fn tree_root(&mut self, mut entry: Entry) -> Result<(), UnpackError> {
        if entry.kind != EntryKind::Directory {
            return Err(UnpackError::refused(&entry.path, Refusal::Root));
        }
        if self.options.whiteouts == Whiteouts::Literal {
            return Ok(());
        }
        let metadata = Metadata::new(&mut entry, FileKind::Directory, self.options)?;
        let held = self.tree.open(b"").map_err(UnpackError::write(b"."))?;
        self.describe_directory(&held, b"", metadata)
    }

    fn file(
        &mut self,
        mut entry: Entry,
        path: &[u8],
        at: At<'_>,
        archive: &mut TarReader<impl Read>,
    ) -> Result<(), UnpackError> {
        let kind = match &entry.kind {
            EntryKind::Regular => FileKind::Regular,
            EntryKind::Directory => FileKind::Directory,
            EntryKind::Symlink(_) => FileKind::Symlink,
            EntryKind::Char(_) => FileKind::Char,
            EntryKind::Block(_) => FileKind::Block,
            EntryKind::Fifo => FileKind::Fifo,
            EntryKind::HardLink(target) => return self.hard_link(target, path, at),
        };
        let metadata = Metadata::new(&mut entry, kind, self.options)?;
        match entry.kind {
            EntryKind::Regular => self.regular(entry.size, path, at, metadata, archive),
            EntryKind::Directory => self.directory(path, at, metadata),
            EntryKind::Symlink(target) => self.symlink(&target, path, at, &metadata),
            EntryKind::Char(device) | EntryKind::Block(device) => {
                self.node(kind, device, path, at, &metadata)
            }
            EntryKind::Fifo | EntryKind::HardLink(_) => {
                self.node(kind, Device::default(), path, at, &metadata)
            }
        }
    }

    fn regular(
        &mut self,
        size: u64,
        path: &[u8],
        at: At<'_>,
        metadata: Metadata,
        archive: &mut TarReader<impl Read>,
    ) -> Result<(), UnpackError> {
        let made = self.tree.make(at, |at| at.create_file(metadata.mode()));
        let file = made.map_err(UnpackError::write(path))?;
        if size <= SMALL_FILE_BYTES {
            self.reserve.before(size)?;
            let content = small_content(size, archive)?;
            let job = Job { file, content, metadata, path: path.to_vec() };
            self.attributes_left_out += self.writers.push(job)?;
            return Ok(());
        }
        let mut end = 0;
        while let Some(piece) = archive.next_piece()? {
            self.reserve.before(piece.bytes.len() as u64)?;
            file.write_all_at(piece.bytes, piece.offset).map_err(write_error(path))?;
            end = piece.offset + piece.bytes.len() as u64;
        }
        if end != size {
            file.set_len(size).map_err(write_error(path))?;
        }
        self.attributes_left_out += metadata.apply_to_file(&file, path)?;
        Ok(())
    }

    fn directory(&mut self, path: &[u8], at: At<'_>, metadata: Metadata) -> Result<(), UnpackError> {
        let held = self.tree.make_directory(at, path).map_err(UnpackError::write(path))?;
        self.describe_directory(&held, path, metadata)
    }

    fn describe_directory(
        &mut self,
        held: &Held,
        path: &[u8],
        mut metadata: Metadata,
    ) -> Result<(), UnpackError> {
        let default_acl = metadata.take_default_acl();
        self.describe(held.dir.itself(), FileKind::Directory, path, &metadata)?;
        let mtime = Some(metadata.mtime());
        self.tree.note(held, Record { path: path.to_vec(), mtime, default_acl, implied: false })
    }

    fn symlink(
        &mut self,
        target: &[u8],
        path: &[u8],
        at: At<'_>,
        metadata: &Metadata,
    ) -> Result<(), UnpackError> {
        let target = OsStr::from_bytes(target);
        self.tree.make(at, |at| at.symlink(target)).map_err(UnpackError::write(path))?;
        self.describe(at, FileKind::Symlink, path, metadata)
    }

    fn node(
        &mut self,
        kind: FileKind,
        device: Device,
        path: &[u8],
        at: At<'_>,
        metadata: &Metadata,
    ) -> Result<(), UnpackError> {
        if kind == FileKind::Char && device == Device::default() {
            return Err(UnpackError::refused(path, Refusal::WhiteoutDevice));
        }
        let (mode, xattrs) = (metadata.mode(), self.options.xattrs);
        let made = self.tree.make(at, |at| node::create(at, kind, mode, device, xattrs));
        made.map_err(UnpackError::write(path))?;
        self.describe(at, kind, path, metadata)
    }

    fn describe(
        &mut self,
        at: At<'_>,
        kind: FileKind,
        path: &[u8],
        metadata: &Metadata,
    ) -> Result<(), UnpackError> {
        self.attributes_left_out += metadata.apply_to_name(at, kind, path)?;
        Ok(())
    }

    /// Another name of a file in the tree. Its own metadata do not count: they are the inode's, which its first
    /// entry described (as GNU tar does).
    fn hard_link(&mut self, target: &[u8], path: &[u8], at: At<'_>) -> Result<(), UnpackError> {
        let refused = || {
            let refusal = Refusal::LinkTarget(target.escape_ascii().to_string());
            UnpackError::refused(path, refusal)
        };
        let (parent, name) = link_target(target).ok_or_else(refused)?;
        let parent = self.tree.open(&parent).map_err(|error| match is_missing(&error) {
            true => refused(),
            false => UnpackError::write(path)(error),
        })?;
        let existing = self::at(&parent, name)?;
        let stat = existing.try_stat().map_err(UnpackError::write(path))?;
        let stat = stat.filter(|stat| stat.kind != FileKind::Directory && !self.tree.is_hidden(stat));
        let stat = stat.ok_or_else(refused)?;
        match at.try_stat().map_err(UnpackError::write(path))? {
            // Archives that hold a file twice have the second time as a link to itself.
            Some(same) if same.same_inode(&stat) => Ok(()),
            _ => self.tree.make(at, |at| at.hard_link_from(existing)).map_err(UnpackError::write(path)),
        }
    }

    /// Hides what is below. A directory of this name is this layer's own and stays.
    fn whiteout(&mut self, at: At<'_>) -> Result<(), RootDirError> {
        match at.try_stat()? {
            None => create_whiteout(at, self.options.xattrs),
            Some(stat) if stat.kind == FileKind::Directory => self.options.xattrs.set_opaque(at),
            Some(_) => Ok(()),
        }
    }

    fn count_bytes(&mut self, size: u64) -> Result<(), UnpackError> {
        let limit = self.options.limits.bytes;
        self.file_bytes = self
            .file_bytes
            .checked_add(size)
            .filter(|bytes| *bytes <= limit)
            .ok_or(UnpackError::TooLarge { what: "bytes of files", limit })?;
        Ok(())
    }
}

/// All of a file that is small, with its holes.
fn small_content(size: u64, archive: &mut TarReader<impl Read>) -> Result<Vec<u8>, UnpackError> {
    let mut content = Vec::with_capacity(size as usize);
    while let Some(piece) = archive.next_piece()? {
        content.resize(piece.offset as usize, 0);
        content.extend_from_slice(piece.bytes);
    }
    content.resize(size as usize, 0);
    Ok(content)
}

/// A link's target as a directory's path and a name. Unlike an entry's name it may have any `..`: the kernel
/// resolves them, and stops at the root.
fn link_target(target: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let parts = target.split(|b| *b == b'/').filter(|part| !matches!(*part, b"" | b"."));
    let mut parts: Vec<_> = parts.collect();
    let name = parts.pop().filter(|name| *name != b"..")?;
    Some((parts.join(&b'/'), name))
}
