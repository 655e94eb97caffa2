//! Device nodes in trees that are written without the right to make any.
//!
//! In a user namespace mknod(2) of a device is EPERM. An image with `/dev/ptmx` must still unpack, copy and pack
//! without losing it, so the tree has an empty regular file with its mode and owner there, and the extended
//! attribute `user.forge.node` = `c|b MAJOR MINOR`. Inside a sandbox it stays an empty file: the real `/dev` is
//! mounted over it. With `trusted.*` attributes there is no record, neither written nor believed.

use std::path::Path;

use rustix::io::Errno;

use super::{OverlayXattrs, TreeError};
use crate::rootdir::{At, Device, FileKind, RootDirError, Stat};

/// The extended attribute that makes an empty file stand for a device.
pub const NODE_XATTR: &str = "user.forge.node";

/// What the names of attributes of our own begin with. Never part of an image.
pub const XATTR_PREFIX: &str = "user.forge.";

/// Makes a device node or FIFO, or the record of a device where only that is possible.
pub fn create(
    at: At<'_>,
    kind: FileKind,
    mode: u32,
    device: Device,
    xattrs: OverlayXattrs,
) -> Result<(), RootDirError> {
    match at.mknod(kind, mode, device) {
        Err(error) if error.errno() == Some(Errno::PERM) && xattrs != OverlayXattrs::Trusted => {
            create_record(at, kind, mode, device)
        }
        result => result,
    }
}

/// Makes the record of a device: for trees in which a node would be alive.
pub fn create_record(at: At<'_>, kind: FileKind, mode: u32, device: Device) -> Result<(), RootDirError> {
    at.create_file(mode)?;
    at.set_xattr(NODE_XATTR, record(kind, device).as_bytes())
}

/// The device that an inode stands for, when it is a record of one. `path` is for the error.
pub fn read(
    at: At<'_>,
    path: &Path,
    stat: &Stat,
    xattrs: OverlayXattrs,
) -> Result<Option<(FileKind, Device)>, TreeError> {
    if xattrs == OverlayXattrs::Trusted || stat.kind != FileKind::Regular || stat.size != 0 {
        return Ok(None);
    }
    match at.xattr(NODE_XATTR).map_err(|error| error.with_path(path))? {
        None => Ok(None),
        Some(text) => match parse(&text) {
            Some(node) => Ok(Some(node)),
            None => Err(TreeError::Node { path: path.into() }),
        },
    }
}

fn record(kind: FileKind, device: Device) -> String {
    let letter = if kind == FileKind::Block { 'b' } else { 'c' };
    format!("{letter} {} {}", device.major, device.minor)
}

fn parse(text: &[u8]) -> Option<(FileKind, Device)> {
    let mut words = std::str::from_utf8(text).ok()?.split(' ');
    let kind = match words.next()? {
        "c" => FileKind::Char,
        "b" => FileKind::Block,
        _ => return None,
    };
    let device = Device { major: words.next()?.parse().ok()?, minor: words.next()?.parse().ok()? };
    words.next().is_none().then_some((kind, device))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back() {
        for kind in [FileKind::Char, FileKind::Block] {
            let device = Device { major: 4095, minor: 1_048_575 };
            assert_eq!(parse(record(kind, device).as_bytes()), Some((kind, device)));
        }
    }

    #[test]
    fn what_is_no_record_is_not_taken_for_one() {
        for text in ["", "c", "c 1", "c 1 3 5", "d 1 3", "c  1 3", "c -1 3", "c 1 4294967296", "c 1 3\n"] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse(b"c \xff 3"), None);
    }
}
