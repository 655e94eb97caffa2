//! What an entry is, and the judgement of each of its fields.

use super::error::Fault;
use super::pax::Xattrs;
use crate::limits::{NAME_BYTES_MAX, PATH_BYTES_MAX};
use crate::rootdir::{Device, Mtime};

/// A file as the archive describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is, and what only such a file has.
    pub kind: EntryKind,
    /// Its name: no NUL, at most 4095 bytes and 255 a component, otherwise any bytes. May be empty, absolute, hold
    /// `..` or end in `/`.
    pub path: Vec<u8>,
    /// Permission bits with setuid, setgid and sticky (`0o7777`).
    pub mode: u32,
    /// Owner, never `u32::MAX`.
    pub uid: u32,
    /// Group, never `u32::MAX`.
    pub gid: u32,
    /// When its content last changed.
    pub mtime: Mtime,
    /// Bytes of a regular file, holes counted; 0 for all else.
    pub size: u64,
    /// Extended attributes.
    pub xattrs: Xattrs,
    /// How many attributes the entry has that are no extended attributes: ACLs as text, SELinux contexts.
    pub foreign_attributes: u64,
}

/// The type of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file; a contiguous one is one too. [`super::TarReader::next_piece`] gives its bytes.
    Regular,
    /// Another name of the entry at this path, which is never empty.
    HardLink(Vec<u8>),
    /// A symbolic link with this target, which is never empty.
    Symlink(Vec<u8>),
    /// A directory.
    Directory,
    /// A character device.
    Char(Device),
    /// A block device.
    Block(Device),
    /// A named pipe.
    Fifo,
}

/// GNU's and PAX's form of the same thing: Go takes the first, GNU tar the second, Python the one that came first.
pub(super) fn agree(
    gnu: Option<Vec<u8>>,
    pax: Option<Vec<u8>>,
    what: &'static str,
) -> Result<Option<Vec<u8>>, Fault> {
    match (gnu.filter(|name| !name.is_empty()), pax) {
        (Some(gnu), Some(pax)) if gnu != pax => Err(Fault::Ambiguous(what)),
        (gnu, pax) => Ok(gnu.or(pax)),
    }
}

pub(super) fn check_path(path: &[u8]) -> Result<(), Fault> {
    if path.len() > PATH_BYTES_MAX {
        return Err(Fault::TooLong { what: "path", limit: PATH_BYTES_MAX });
    }
    match path.split(|b| *b == b'/').all(|name| name.len() <= NAME_BYTES_MAX) {
        true => Ok(()),
        false => Err(Fault::TooLong { what: "name", limit: NAME_BYTES_MAX }),
    }
}

/// Only regular files have data, whatever size the header of another type gives: so say Go, Python and libarchive.
pub(super) fn kind(
    type_flag: u8,
    path: &[u8],
    packed: u64,
    link: Vec<u8>,
    device: (i64, i64),
) -> Result<EntryKind, Fault> {
    Ok(match type_flag {
        // Before POSIX a directory was a file whose name ends in a slash. None has data; if it did, readers differ.
        0 if path.ends_with(b"/") && packed == 0 => EntryKind::Directory,
        0 if path.ends_with(b"/") => return Err(Fault::Ambiguous("it is a directory with data")),
        0 | b'0' | b'7' | b'S' => EntryKind::Regular,
        b'1' => EntryKind::HardLink(target(link)?),
        b'2' => EntryKind::Symlink(target(link)?),
        b'3' => EntryKind::Char(device_number(device)?),
        b'4' => EntryKind::Block(device_number(device)?),
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        other => return Err(Fault::Type(other)),
    })
}

fn target(link: Vec<u8>) -> Result<Vec<u8>, Fault> {
    match link.len() {
        0 => Err(Fault::NoTarget),
        length if length > PATH_BYTES_MAX => {
            Err(Fault::TooLong { what: "link target", limit: PATH_BYTES_MAX })
        }
        _ => Ok(link),
    }
}

/// Linux has 12 bits for the major and 20 for the minor number.
fn device_number((major, minor): (i64, i64)) -> Result<Device, Fault> {
    let part = |value: i64, bits: u32| {
        u32::try_from(value).ok().filter(|value| value >> bits == 0).ok_or(Fault::Number("device number"))
    };
    Ok(Device { major: part(major, 12)?, minor: part(minor, 20)? })
}

/// All but the last id, which means "unchanged" to chown(2).
pub(super) fn owner(id: i64, what: &'static str) -> Result<u32, Fault> {
    u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or(Fault::Number(what))
}
