//! Owners in trees that are written where one user id exists, or where chown(2) is forbidden.
//!
//! Every inode there belongs to the process, which reads as root of the image. Another owner is a record: the extended
//! attribute `user.forge.owner` = `UID:GID` of a file or directory. Links and pipes cannot have attributes of this
//! kind, so theirs stand in their directory's: `user.forge.owners` = lines of `UID:GID NAME`. overlayfs copies both
//! up with what they belong to, so a step that writes to a file keeps its owner.
//!
//! What is lost, and only there: a step sees every file as root's, so its own `chown` to root of a file that belongs to
//! another changes nothing, and one to any other id fails. A link that a step replaces keeps its name's record.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::{OverlayXattrs, TreeError};
use crate::rootdir::{At, FileKind, RootDirError, Stat, xattr_of_fd};

/// On a regular file or directory: whose it is.
const OWNER: &str = "user.forge.owner";
/// On a directory: whose those in it are that can have no attribute.
const OWNERS: &str = "user.forge.owners";

/// Gives a file to somebody, in the way that trees of this kind say it. Never follows a link.
pub fn set(at: At<'_>, uid: u32, gid: u32, xattrs: OverlayXattrs) -> Result<(), RootDirError> {
    if xattrs != OverlayXattrs::Single {
        return at.chown(uid, gid);
    }
    match at.stat()?.kind {
        FileKind::Regular | FileKind::Directory => match (uid, gid) {
            (0, 0) => at.remove_xattr(OWNER),
            _ => at.set_xattr(OWNER, format!("{uid}:{gid}").as_bytes()),
        },
        _ => set_by_name(at, (uid, gid)),
    }
}

/// The same for an open regular file that was just made.
pub(crate) fn set_of_file(file: &File, uid: u32, gid: u32, xattrs: OverlayXattrs) -> Result<(), Errno> {
    if xattrs != OverlayXattrs::Single {
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        return rustix::fs::fchown(file, Some(uid), Some(gid));
    }
    match (uid, gid) {
        (0, 0) => Ok(()),
        _ => rustix::fs::fsetxattr(file, OWNER, format!("{uid}:{gid}").as_bytes(), XattrFlags::empty()),
    }
}

fn set_by_name(at: At<'_>, owner: (u32, u32)) -> Result<(), RootDirError> {
    let directory = at.dir().itself();
    let known = directory.xattr(OWNERS)?.unwrap_or_default();
    let mut lines: Vec<&[u8]> =
        lines(&known).filter(|(name, _)| *name != at.name().as_bytes()).map(|l| l.1).collect();
    let mut line = format!("{}:{} ", owner.0, owner.1).into_bytes();
    line.extend_from_slice(at.name().as_bytes());
    if owner != (0, 0) {
        lines.push(&line);
    }
    match lines.is_empty() {
        true if known.is_empty() => Ok(()),
        true => directory.remove_xattr(OWNERS),
        false => directory.set_xattr(OWNERS, &lines.join(&0)),
    }
}

/// Names with their whole records; a name may hold any byte but NUL, which parts the records.
fn lines(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    text.split(|byte| *byte == 0).filter_map(|line| {
        let space = line.iter().position(|byte| *byte == b' ')?;
        Some((&line[space + 1..], line))
    })
}

/// Metadata of `at` with the owner that a tree of this kind gives it. `path` is for the error.
pub(super) fn applied(at: At<'_>, path: &Path, stat: Stat, xattrs: OverlayXattrs) -> Result<Stat, TreeError> {
    if xattrs != OverlayXattrs::Single {
        return Ok(stat);
    }
    let located = |error: RootDirError| error.with_path(path);
    let owner = match stat.kind {
        FileKind::Regular | FileKind::Directory => {
            let text = at.xattr(OWNER).map_err(located)?;
            text.as_deref().map_or(Some((0, 0)), parse)
        }
        _ => {
            let known = at.dir().itself().xattr(OWNERS).map_err(located)?.unwrap_or_default();
            of_name(&known, at.name())
        }
    };
    let (uid, gid) = owner.ok_or_else(|| TreeError::Owner { path: path.into() })?;
    Ok(Stat { uid, gid, ..stat })
}

/// Metadata of an open directory or file, likewise.
pub fn applied_to_open(file: impl AsFd, stat: Stat, xattrs: OverlayXattrs) -> Stat {
    if xattrs != OverlayXattrs::Single {
        return stat;
    }
    let text = xattr_of_fd(file.as_fd(), OsStr::new(OWNER)).ok().flatten();
    let (uid, gid) = text.as_deref().and_then(parse).unwrap_or((0, 0));
    Stat { uid, gid, ..stat }
}

fn of_name(known: &[u8], name: &OsStr) -> Option<(u32, u32)> {
    match lines(known).find(|(found, _)| *found == name.as_bytes()) {
        None => Some((0, 0)),
        Some((name, line)) => parse(&line[..line.len() - name.len() - 1]),
    }
}

fn parse(text: &[u8]) -> Option<(u32, u32)> {
    let (uid, gid) = std::str::from_utf8(text).ok()?.split_once(':')?;
    Some((uid.parse().ok()?, gid.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_names_read_back() {
        let known = b"1:2 a\x0033:44 b c";
        assert_eq!(of_name(known, OsStr::new("a")), Some((1, 2)));
        assert_eq!(of_name(known, OsStr::new("b c")), Some((33, 44)));
        assert_eq!(of_name(known, OsStr::new("c")), Some((0, 0)));
        assert_eq!(of_name(b"x:1 a", OsStr::new("a")), None);
    }
}
