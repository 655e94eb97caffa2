//! One file of a tree, and what its inode and extended attributes make of it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Format, OverlayXattrs, TreeError, is_whiteout, node, owner};
use crate::rootdir::{At, Device, Dir, FileKind, RootDirError, Stat};

/// The attribute that holds a program's capabilities (capabilities(7)).
pub const CAPABILITY_XATTR: &str = "security.capability";

/// What an inode is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadOptions {
    /// What the tree's files mean.
    pub format: Format,
    /// Which extended attributes entries carry.
    pub xattrs: XattrFilter,
}

/// Which extended attributes of files and directories are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XattrFilter {
    /// None.
    None,
    /// `security.capability`: what layers carry.
    Capability,
    /// `security.capability` and `user.*`, but for those of overlayfs and of forge.
    Portable,
}

/// What an entry is, with what only that type has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A regular file.
    Regular,
    /// A directory.
    Directory {
        /// Hides the directories of this name in the layers below.
        opaque: bool,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points, as it was written.
        target: OsString,
    },
    /// A character device.
    Char(Device),
    /// A block device.
    Block(Device),
    /// A named pipe.
    Fifo,
    /// Hides what has this name in the layers below.
    Whiteout,
}

/// Names and values of extended attributes, sorted by name.
pub type Xattrs = Vec<(OsString, Vec<u8>)>;

/// One file of a tree.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Where, relative to the root: no leading `/`, and empty for the root only.
    pub path: PathBuf,
    /// What it is.
    pub node: Node,
    /// Its inode's metadata. Of a recorded device (see [`node`]) it is that of the record.
    pub stat: Stat,
    /// Of directories: what their layer has to say is among them, so they are read at once.
    pub(super) xattrs: Xattrs,
    pub(super) options: ReadOptions,
    pub(super) dir: Dir,
    pub(super) name: OsString,
}

impl Node {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self, Self::Directory { .. })
    }
}

impl Entry {
    /// Reads all there is to know of `at` but its content, to be called `path`. `None` for a socket, which means
    /// nothing outside the process that listens on it.
    pub fn read(at: At<'_>, path: PathBuf, options: ReadOptions) -> Result<Option<Self>, TreeError> {
        let located = |error: RootDirError| error.with_path(&path);
        let mut stat = at.stat().map_err(located)?;
        if let Format::Overlay(xattrs) = options.format {
            stat = owner::applied(at, &path, stat, xattrs)?;
        }
        let mut attributes = Vec::new();
        if stat.kind == FileKind::Directory && options.needs_xattrs() {
            attributes = at.xattrs().map_err(located)?;
            options.refuse_features(&path, &attributes)?;
        }
        let node = match (stat.kind, options.format) {
            (FileKind::Socket, _) => return Ok(None),
            (_, Format::Overlay(xattrs)) => overlay_node(at, &path, &stat, &attributes, xattrs)?,
            (_, Format::Plain) => plain_node(at, &stat).map_err(located)?,
        };
        let xattrs = options.xattrs.read(attributes, |name| at.xattr(name)).map_err(located)?;
        Ok(Some(Self {
            path,
            node,
            stat,
            xattrs,
            options,
            dir: at.dir().clone(),
            name: at.name().to_owned(),
        }))
    }

    /// An entry of a layer whose inode lies elsewhere, at `at`: a file that is packed without being copied. `stat`
    /// says what the layer says of it, with the inode and size that a regular file has where it is.
    pub fn elsewhere(at: At<'_>, path: PathBuf, node: Node, stat: Stat, xattrs: Xattrs) -> Self {
        let options = ReadOptions { format: Format::Plain, xattrs: XattrFilter::None };
        Self { path, node, stat, xattrs, options, dir: at.dir().clone(), name: at.name().to_owned() }
    }

    /// The extended attributes that the walk was told to read, of regular files and directories. Of a file that is
    /// opened anyway, [`super::OpenFile::xattrs`] is faster.
    pub fn xattrs(&self) -> Result<Xattrs, TreeError> {
        if self.node != Node::Regular || self.options.xattrs == XattrFilter::None {
            return Ok(self.xattrs.clone());
        }
        let located = |error: RootDirError| error.with_path(&self.path);
        let names = self.at().xattrs().map_err(located)?;
        self.options.refuse_features(&self.path, &names)?;
        Ok(self.options.xattrs.read(names, |name| self.at().xattr(name)).map_err(located)?)
    }

    /// The entry's name in its directory; `.` for a root.
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// The entry in its open directory.
    pub fn at(&self) -> At<'_> {
        At::unchecked(&self.dir, &self.name)
    }

    /// Whether its inode may have other names.
    pub fn is_hard_linked(&self) -> bool {
        self.stat.nlink > 1 && !matches!(self.node, Node::Directory { .. } | Node::Whiteout)
    }
}

impl ReadOptions {
    pub(super) fn needs_xattrs(self) -> bool {
        self.format != Format::Plain || self.xattrs != XattrFilter::None
    }

    /// Overlay mounts of ours have `redirect_dir=off,metacopy=off`. A tree made by others would be read wrongly.
    pub(super) fn refuse_features(self, path: &Path, attributes: &[OsString]) -> Result<(), TreeError> {
        let Format::Overlay(xattrs) = self.format else { return Ok(()) };
        for attribute in attributes {
            let feature = attribute.as_bytes().strip_prefix(xattrs.prefix().as_bytes());
            if matches!(feature, Some(b"redirect" | b"metacopy")) {
                let attribute = attribute.to_string_lossy().into_owned();
                return Err(TreeError::Feature { attribute, path: path.into() });
            }
        }
        Ok(())
    }
}

impl XattrFilter {
    fn wants(self, attribute: &OsStr) -> bool {
        let name = attribute.as_bytes();
        match self {
            Self::None => false,
            _ if name == CAPABILITY_XATTR.as_bytes() => true,
            Self::Capability => false,
            Self::Portable => {
                let ours = [OverlayXattrs::User.prefix(), node::XATTR_PREFIX];
                name.starts_with(b"user.") && !ours.iter().any(|prefix| name.starts_with(prefix.as_bytes()))
            }
        }
    }

    /// The values of those among `names` that are wanted.
    pub(super) fn read<E>(
        self,
        names: Vec<OsString>,
        value: impl Fn(&OsStr) -> Result<Option<Vec<u8>>, E>,
    ) -> Result<Xattrs, E> {
        let mut values = Vec::new();
        for name in names.into_iter().filter(|name| self.wants(name)) {
            if let Some(value) = value(&name)? {
                values.push((name, value));
            }
        }
        Ok(values)
    }
}

fn overlay_node(
    at: At<'_>,
    path: &Path,
    stat: &Stat,
    attributes: &[OsString],
    xattrs: OverlayXattrs,
) -> Result<Node, TreeError> {
    let has = |name: &str| attributes.iter().any(|attribute| attribute == name);
    match stat.kind {
        FileKind::Char if is_whiteout(stat) => Ok(Node::Whiteout),
        FileKind::Directory if has(xattrs.opaque()) => {
            let value = at.xattr(xattrs.opaque()).map_err(|error| error.with_path(path))?;
            Ok(Node::Directory { opaque: value.as_deref() == Some(b"y") })
        }
        FileKind::Regular => match node::read(at, path, stat, xattrs)? {
            Some((FileKind::Block, device)) => Ok(Node::Block(device)),
            Some((_, device)) if device == Device::default() => Ok(Node::Whiteout),
            Some((_, device)) => Ok(Node::Char(device)),
            None => Ok(Node::Regular),
        },
        _ => plain_node(at, stat).map_err(|error| error.with_path(path).into()),
    }
}

fn plain_node(at: At<'_>, stat: &Stat) -> Result<Node, RootDirError> {
    Ok(match stat.kind {
        FileKind::Directory => Node::Directory { opaque: false },
        FileKind::Symlink => Node::Symlink { target: at.read_link()? },
        FileKind::Char => Node::Char(stat.rdev),
        FileKind::Block => Node::Block(stat.rdev),
        FileKind::Fifo => Node::Fifo,
        FileKind::Regular | FileKind::Socket => Node::Regular,
    })
}
