//! Layer trees: layers unpacked, ready to be mounted.
//!
//! A tree is a plain directory in the format of an overlayfs upper directory (Linux,
//! Documentation/filesystems/overlayfs.rst), so that it can be a lower directory of any mount as it is:
//!
//! ```text
//! <layers>/<layer id>/
//! ├── etc/                 a directory: merged with those of the layers below
//! │   ├── hosts            a file: hides what is below
//! │   └── motd             character device 0:0, a whiteout: nothing of this name shows through
//! └── opt/                 xattr trusted.overlay.opaque=y: nothing of the directories below shows through
//! ```
//!
//! In a user namespace the mark is `user.overlay.opaque` (mount option `userxattr`), and a device node is a
//! record (see [`node`]). Redirected directories and metadata-only copies are not part of the format: a tree
//! that has them says something only its old mount understood, and is refused.

pub mod content;
pub mod entry;
pub mod error;
mod hash_files;
pub mod merged;
mod merged_walk;
pub mod node;
mod open_file;
pub mod owner;
mod unchanged;
pub mod walk;

pub use content::{ContentHasher, ContentOptions, FileContent, FileHash, Mtimes, content_of};
pub use entry::{CAPABILITY_XATTR, Entry, Node, ReadOptions, XattrFilter, Xattrs};
pub use error::TreeError;
pub use hash_files::hash_files;
pub use merged::{Found, MergedTree};
pub use merged_walk::MergedWalk;
pub use open_file::OpenFile;
pub use unchanged::drop_unchanged;
pub use walk::Walk;

use crate::rootdir::{At, Device, FileKind, RootDirError, Stat};

/// Which extended attributes an overlay mount of a tree uses: `trusted.*` needs CAP_SYS_ADMIN in the first user
/// namespace, `user.*` works in every other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverlayXattrs {
    /// `trusted.overlay.*`, for root.
    Trusted,
    /// `user.overlay.*`, in a user namespace.
    User,
    /// The same, and owners are records: one user id exists, or chown(2) is forbidden (see [`owner`]).
    Single,
}

/// How the files of a directory are to be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A layer tree, with whiteouts and opaque directories.
    Overlay(OverlayXattrs),
    /// A directory that means what it is: a build context.
    Plain,
}

impl OverlayXattrs {
    /// The attribute that makes a directory opaque, when its value is `y`.
    pub fn opaque(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.opaque",
            Self::User | Self::Single => "user.overlay.opaque",
        }
    }

    /// Its name, in the file that says which one a store's trees have.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::User => "user",
            Self::Single => "single",
        }
    }

    /// Reads a name back.
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Trusted, Self::User, Self::Single].into_iter().find(|marks| marks.name() == name)
    }

    /// What the names of overlayfs's own attributes begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.",
            Self::User | Self::Single => "user.overlay.",
        }
    }

    /// Marks a directory as opaque.
    pub fn set_opaque(self, directory: At<'_>) -> Result<(), RootDirError> {
        directory.set_xattr(self.opaque(), b"y")
    }
}

/// Hides what has this name in the layers below. Needs no privilege (mknod(2), since Linux 5.8), but a file system that
/// is itself an overlay refuses it; there it is a record (see [`node`]), which the kernel would not understand.
pub fn create_whiteout(at: At<'_>, xattrs: OverlayXattrs) -> Result<(), RootDirError> {
    match at.mknod(FileKind::Char, 0, Device::default()) {
        Err(error) if error.errno() == Some(rustix::io::Errno::PERM) && xattrs != OverlayXattrs::Trusted => {
            node::create_record(at, FileKind::Char, 0o600, Device::default())
        }
        result => result,
    }
}

/// Whether whiteouts can be made in a directory as the kernel knows them.
pub fn takes_whiteouts(dir: &std::path::Path) -> bool {
    use rustix::fs::{AtFlags, CWD, FileType, Mode, mknodat, unlinkat};
    let probe = dir.join(format!(".whiteout-{}", std::process::id()));
    let made = mknodat(CWD, &probe, FileType::CharacterDevice, Mode::empty(), 0);
    let _ = unlinkat(CWD, &probe, AtFlags::empty());
    made.is_ok()
}

/// Whether an inode of a layer tree is a whiteout: a character device with number 0:0.
pub fn is_whiteout(stat: &Stat) -> bool {
    stat.kind == FileKind::Char && stat.rdev == Device::default()
}

#[cfg(test)]
mod tests;
