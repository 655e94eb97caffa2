//! Entries become files, one after the other.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

use rustix::io::Errno;

use super::super::read::{Entry, EntryKind, TarReader};
use super::Unpacked;
use super::directories::{Directories, Record};
use super::error::{Refusal, UnpackError, path_of};
use super::metadata::{Metadata, os};
use super::options::{Owner, UnpackOptions, Whiteouts};
use super::parents::{Held, Parents, is_missing};
use super::path::{self, TreePath};
use super::whiteout::Name;
use crate::rootdir::{At, Device, FileKind, Mtime, NewDir, RootDir, RootDirError};
use crate::tree::{create_whiteout, is_whiteout, node};

/// What directories that no entry describes get.
const IMPLIED_MODE: u32 = 0o755;

/// The tree as far as it is unpacked.
pub(super) struct Unpacker<'a> {
    root: &'a RootDir,
    options: &'a UnpackOptions,
    parents: Parents<'a>,
    directories: Directories,
    done: Unpacked,
}

impl<'a> Unpacker<'a> {
    pub(super) fn new(root: &'a RootDir, options: &'a UnpackOptions) -> Self {
        let (parents, directories) = (Parents::new(root), Directories::default());
        Self { root, options, parents, directories, done: Unpacked::default() }
    }

    /// Makes what an entry says, reading its content.
    pub(super) fn entry(
        &mut self,
        entry: Entry,
        archive: &mut TarReader<impl Read>,
    ) -> Result<(), UnpackError> {
        self.count_entry()?;
        self.count_bytes(entry.size)?;
        let path =
            TreePath::of_entry(&entry.path).map_err(|refusal| UnpackError::refused(&entry.path, refusal))?;
        let Some((parent, name)) = path.split() else { return self.tree_root(entry) };
        let meaning = match self.options.whiteouts {
            Whiteouts::Overlay => {
                Name::of(name).map_err(|refusal| UnpackError::refused(&entry.path, refusal))?
            }
            Whiteouts::Literal => Name::Plain,
        };
        let parent = self.parent(parent)?;
        match meaning {
            Name::Opaque => self.opaque(&parent).map_err(UnpackError::write(path.bytes())),
            Name::Hides(hidden) => {
                let at = at(&parent, hidden)?;
                self.whiteout(at).map_err(UnpackError::write(path.bytes()))
            }
            Name::Plain => self.file(entry, &path, at(&parent, name)?, archive),
        }
    }

    /// Does what was left for the end. `stream_bytes` is how much of the archive was read.
    pub(super) fn finish(mut self, stream_bytes: u64) -> Result<Unpacked, UnpackError> {
        self.done.implied_dirs = self.directories.finish(self.root)?;
        self.done.stream_bytes = stream_bytes;
        Ok(self.done)
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
        let held = self.parents.open(b"").map_err(UnpackError::write(b"."))?;
        self.describe_directory(&held, b"", metadata)
    }

    fn file(
        &mut self,
        mut entry: Entry,
        path: &TreePath,
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
            EntryKind::Regular => self.regular(entry.size, path.bytes(), at, &metadata, archive),
            EntryKind::Directory => self.directory(path.bytes(), at, metadata),
            EntryKind::Symlink(target) => {
                let target = OsStr::from_bytes(&target);
                self.make(at, |at| at.symlink(target)).map_err(UnpackError::write(path.bytes()))?;
                self.describe(at, kind, path.bytes(), &metadata)
            }
            EntryKind::Char(device) if device == Device::default() => {
                Err(UnpackError::refused(&entry.path, Refusal::WhiteoutDevice))
            }
            EntryKind::Char(device) | EntryKind::Block(device) => {
                self.node(kind, device, path, at, &metadata)
            }
            _ => self.node(kind, Device::default(), path, at, &metadata),
        }
    }

    fn regular(
        &mut self,
        size: u64,
        path: &[u8],
        at: At<'_>,
        metadata: &Metadata,
        archive: &mut TarReader<impl Read>,
    ) -> Result<(), UnpackError> {
        let file = self.make(at, |at| at.create_file(metadata.mode())).map_err(UnpackError::write(path))?;
        let mut end = 0;
        while let Some(piece) = archive.next_piece()? {
            file.write_all_at(piece.bytes, piece.offset).map_err(write_error(path))?;
            end = piece.offset + piece.bytes.len() as u64;
        }
        if end != size {
            file.set_len(size).map_err(write_error(path))?;
        }
        self.done.attributes_left_out += metadata.apply_to_file(&file, path)?;
        Ok(())
    }

    /// A directory over a directory joins it; over anything else, or over a whiteout, it hides what is below.
    fn directory(&mut self, path: &[u8], at: At<'_>, metadata: Metadata) -> Result<(), UnpackError> {
        let made = match at.create_dir(0o700) {
            Err(error) if error.exists() => match at.stat() {
                Ok(stat) if stat.kind == FileKind::Directory => Ok(()),
                Ok(_) => {
                    self.clear(at).and_then(|()| at.create_dir(0o700)).and_then(|()| self.hide_below(at))
                }
                Err(error) => Err(error),
            },
            made => made,
        };
        let opened = made.and_then(|()| at.open_dir()).and_then(|dir| self.parents.hold(path, dir));
        let held = opened.map_err(UnpackError::write(path))?;
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
        let record =
            Record { path: path.to_vec(), mtime: Some(metadata.mtime()), default_acl, implied: false };
        self.directories.note(held, record)
    }

    fn node(
        &mut self,
        kind: FileKind,
        device: Device,
        path: &TreePath,
        at: At<'_>,
        metadata: &Metadata,
    ) -> Result<(), UnpackError> {
        let xattrs = self.options.xattrs;
        self.make(at, |at| node::create(at, kind, metadata.mode(), device, xattrs))
            .map_err(UnpackError::write(path.bytes()))?;
        self.describe(at, kind, path.bytes(), metadata)
    }

    fn describe(
        &mut self,
        at: At<'_>,
        kind: FileKind,
        path: &[u8],
        metadata: &Metadata,
    ) -> Result<(), UnpackError> {
        self.done.attributes_left_out += metadata.apply_to_name(at, kind, path)?;
        Ok(())
    }

    /// Another name of a file in the tree. Its own metadata do not count: they are the inode's, which its first
    /// entry described (as GNU tar does).
    fn hard_link(&mut self, target: &[u8], path: &TreePath, at: At<'_>) -> Result<(), UnpackError> {
        let refused = || {
            let refusal = Refusal::LinkTarget(target.escape_ascii().to_string());
            UnpackError::refused(path.bytes(), refusal)
        };
        let (parent, name) = link_target(target).ok_or_else(refused)?;
        let parent = self.parents.open(&parent).map_err(|error| match is_missing(&error) {
            true => refused(),
            false => UnpackError::write(path.bytes())(error),
        })?;
        let existing = self::at(&parent, name)?;
        let stat = existing.try_stat().map_err(UnpackError::write(path.bytes()))?;
        let stat = stat.filter(|stat| stat.kind != FileKind::Directory && !self.is_hidden(stat));
        let stat = stat.ok_or_else(refused)?;
        match at.try_stat().map_err(UnpackError::write(path.bytes()))? {
            // Archives that hold a file twice have the second time as a link to itself.
            Some(same) if same.same_inode(&stat) => Ok(()),
            _ => self.make(at, |at| at.hard_link_from(existing)).map_err(UnpackError::write(path.bytes())),
        }
    }

    fn is_hidden(&self, stat: &crate::rootdir::Stat) -> bool {
        self.options.whiteouts == Whiteouts::Overlay && is_whiteout(stat)
    }

    /// Hides what is below. A directory of this name is this layer's own and stays.
    fn whiteout(&mut self, at: At<'_>) -> Result<(), RootDirError> {
        match at.try_stat()? {
            None => create_whiteout(at),
            Some(stat) if stat.kind == FileKind::Directory => self.options.xattrs.set_opaque(at),
            Some(_) => Ok(()),
        }
    }

    fn opaque(&mut self, parent: &Held) -> Result<(), RootDirError> {
        self.options.xattrs.set_opaque(parent.dir.itself())
    }

    /// For a directory where this layer has, or had, something else: overlayfs would otherwise join it with one
    /// further below.
    fn hide_below(&self, at: At<'_>) -> Result<(), RootDirError> {
        match self.options.whiteouts {
            Whiteouts::Overlay => self.options.xattrs.set_opaque(at),
            Whiteouts::Literal => Ok(()),
        }
    }

    /// Makes something; what has its name goes first, whole trees too.
    fn make<T>(
        &mut self,
        at: At<'_>,
        make: impl Fn(At<'_>) -> Result<T, RootDirError>,
    ) -> Result<T, RootDirError> {
        match make(at) {
            Err(error) if error.exists() => {
                self.clear(at)?;
                make(at)
            }
            made => made,
        }
    }

    fn clear(&mut self, at: At<'_>) -> Result<(), RootDirError> {
        let kind = at.stat()?.kind;
        if matches!(kind, FileKind::Directory | FileKind::Symlink) {
            self.parents.forget();
        }
        at.remove_tree()
    }

    /// The directory at `path`, made with its parents where they are missing.
    fn parent(&mut self, path: &[u8]) -> Result<Held, UnpackError> {
        match self.parents.open(path) {
            Err(error) if is_missing(&error) => self.implied_parents(path),
            held => held.map_err(UnpackError::write(path)),
        }
    }

    fn implied_parents(&mut self, path: &[u8]) -> Result<Held, UnpackError> {
        let mut missing = vec![path];
        let mut here = loop {
            let Some((up, _)) = missing.last().and_then(|path| path::split(path)) else {
                return self.parents.open(b"").map_err(UnpackError::write(b"."));
            };
            match self.parents.open(up) {
                Err(error) if is_missing(&error) => missing.push(up),
                held => break held.map_err(UnpackError::write(up))?,
            }
        };
        for path in missing.into_iter().rev() {
            here = self.implied(&here, path)?;
        }
        Ok(here)
    }

    /// Makes one directory that something is in.
    fn implied(&mut self, parent: &Held, path: &[u8]) -> Result<Held, UnpackError> {
        let name = path::split(path).map_or(&b""[..], |(_, name)| name);
        let at = at(parent, name)?;
        let stat = at.try_stat().map_err(UnpackError::write(path))?;
        let opened = match stat {
            None => self.make_implied(at, path)?,
            Some(stat) if self.is_hidden(&stat) => {
                at.remove_file().map_err(UnpackError::write(path))?;
                let held = self.make_implied(at, path)?;
                self.hide_below(at).map(|()| held).map_err(UnpackError::write(path))?
            }
            // It leads to what is not there: that is made, in the root.
            Some(stat) if stat.kind == FileKind::Symlink => {
                self.count_entry()?;
                let dir = self.root.create_dir_all(path_of(path), self.implied_directory());
                dir.and_then(|dir| self.parents.hold(path, dir)).map_err(UnpackError::write(path))?
            }
            Some(_) => at
                .open_dir()
                .and_then(|dir| self.parents.hold(path, dir))
                .map_err(UnpackError::write(path))?,
        };
        Ok(opened)
    }

    fn make_implied(&mut self, at: At<'_>, path: &[u8]) -> Result<Held, UnpackError> {
        self.count_entry()?;
        let new = self.implied_directory();
        let made = at.create_dir(new.mode).and_then(|()| match new.owner {
            Some((uid, gid)) => at.chown(uid, gid),
            None => Ok(()),
        });
        let held = made.and_then(|()| at.open_dir()).and_then(|dir| self.parents.hold(path, dir));
        let held = held.map_err(UnpackError::write(path))?;
        // A layer's tree is the same whenever it is unpacked.
        let mtime = (self.options.whiteouts == Whiteouts::Overlay).then(Mtime::default);
        let record = Record { path: path.to_vec(), mtime, default_acl: None, implied: true };
        self.directories.note(&held, record)?;
        Ok(held)
    }

    fn implied_directory(&self) -> NewDir {
        let owner = match self.options.owner {
            Owner::OfArchive => Some((0, 0)),
            Owner::Fixed { uid, gid } => Some((uid, gid)),
            Owner::OfProcess => None,
        };
        NewDir { mode: IMPLIED_MODE, owner }
    }

    fn count_entry(&mut self) -> Result<(), UnpackError> {
        self.done.entries += 1;
        let limit = self.options.limits.entries;
        match self.done.entries <= limit {
            true => Ok(()),
            false => Err(UnpackError::TooLarge { what: "files and directories", limit }),
        }
    }

    fn count_bytes(&mut self, size: u64) -> Result<(), UnpackError> {
        let limit = self.options.limits.bytes;
        match self.done.file_bytes.checked_add(size).filter(|bytes| *bytes <= limit) {
            Some(bytes) => {
                self.done.file_bytes = bytes;
                Ok(())
            }
            None => Err(UnpackError::TooLarge { what: "bytes of files", limit }),
        }
    }
}

fn at<'a>(parent: &'a Held, name: &'a [u8]) -> Result<At<'a>, UnpackError> {
    parent.dir.at(OsStr::from_bytes(name)).map_err(UnpackError::write(name))
}

/// A link's target as a directory's path and a name. Unlike an entry's name it may have any `..`: the kernel
/// resolves them, and stops at the root.
fn link_target(target: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let parts = || target.split(|b| *b == b'/').filter(|part| !matches!(*part, b"" | b"."));
    let name = parts().next_back().filter(|name| *name != b"..")?;
    let parents: Vec<_> = parts().take(parts().count() - 1).collect();
    Some((parents.join(&b'/'), name))
}

fn write_error(path: &[u8]) -> impl FnOnce(std::io::Error) -> UnpackError + '_ {
    move |error| {
        let errno = error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error);
        UnpackError::write(path)(os("write", errno))
    }
}
