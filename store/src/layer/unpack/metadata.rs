//! Owner, mode, attributes and time of an unpacked file, in the order the kernel needs.
//!
//! A write clears setuid, chown(2) clears setuid and `security.capability`, and both change the time: so content,
//! owner, mode, attributes, time. No call follows a symlink: they are on descriptors, or on a name that is not
//! followed.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{Mode, Timespec, Timestamps, UTIME_OMIT, XattrFlags};
use rustix::io::Errno;

use super::super::read::Entry;
use super::error::{Refusal, UnpackError};
use super::options::{Owner, UnpackOptions};
use crate::rootdir::{At, FileKind, Mtime, RootDirError, Stat};
use crate::tree::node::XATTR_PREFIX;
use crate::tree::{OverlayXattrs, owner};

/// What a file gets besides its content.
#[derive(Debug)]
pub(super) struct Metadata {
    owner: Option<(u32, u32)>,
    mode: u32,
    mtime: Mtime,
    xattrs: Vec<(OsString, Vec<u8>)>,
    tree: OverlayXattrs,
    /// How many attributes of the archive are not set.
    left_out: u64,
}

/// What becomes of an extended attribute.
enum Fate {
    Set,
    LeaveOut,
    Refuse,
}

/// New files in a directory inherit this one, so it is set when they are all there.
pub(super) const DEFAULT_ACL: &str = "system.posix_acl_default";

/// The times that ext4 holds; others hold more. Beyond them it is looked whether the file system took the time.
const USUAL_SECONDS: std::ops::Range<i64> = -(1 << 31)..(1 << 34) - (1 << 31);

impl Metadata {
    /// By what the entry says and the options change. Takes the entry's attributes.
    pub(super) fn new(
        entry: &mut Entry,
        kind: FileKind,
        options: &UnpackOptions,
    ) -> Result<Self, UnpackError> {
        let mut left_out = entry.foreign_attributes;
        let mut xattrs = Vec::new();
        for (name, value) in std::mem::take(&mut entry.xattrs) {
            match fate(&name, options.xattrs) {
                Fate::Set => xattrs.push((OsString::from_vec(name), value)),
                Fate::LeaveOut => left_out += 1,
                Fate::Refuse => {
                    let refusal = Refusal::Xattr(name.escape_ascii().to_string());
                    return Err(UnpackError::refused(&entry.path, refusal));
                }
            }
        }
        let owner = match options.owner {
            Owner::OfArchive => Some((entry.uid, entry.gid)),
            Owner::Fixed { uid, gid } => Some((uid, gid)),
            Owner::OfProcess => None,
        };
        let mode = options.chmod.as_ref().map_or(entry.mode, |chmod| chmod.apply(kind, entry.mode));
        Ok(Self { owner, mode, mtime: entry.mtime, xattrs, tree: options.xattrs, left_out })
    }

    pub(super) fn mode(&self) -> u32 {
        self.mode
    }

    pub(super) fn mtime(&self) -> Mtime {
        self.mtime
    }

    /// The attribute that a directory gets last.
    pub(super) fn take_default_acl(&mut self) -> Option<Vec<u8>> {
        let at = self.xattrs.iter().position(|(name, _)| name == DEFAULT_ACL)?;
        Some(self.xattrs.swap_remove(at).1)
    }

    /// Applies all to a regular file that was made with its mode and has its content. Gives how many attributes were left out.
    pub(super) fn apply_to_file(&self, file: &File, path: &[u8]) -> Result<u64, UnpackError> {
        let write = |verb| move |errno| UnpackError::write(path)(os(verb, errno));
        if let Some((uid, gid)) = self.owner {
            owner::set_of_file(file, uid, gid, self.tree)
                .map_err(|errno| owner_error(path, (uid, gid), os("set owner of", errno)))?;
        }
        // It was made with this mode, of which chown cleared these bits.
        if self.mode & 0o6000 != 0 {
            rustix::fs::fchmod(file, Mode::from_raw_mode(self.mode)).map_err(write("set mode of"))?;
        }
        let mut left_out = self.left_out;
        for (name, value) in &self.xattrs {
            let set = rustix::fs::fsetxattr(file, name, value, XattrFlags::empty())
                .map_err(|errno| os("set extended attribute of", errno));
            left_out += settle(name, set, path)?;
        }
        rustix::fs::futimens(file, &timestamps(self.mtime)).map_err(write("set time of"))?;
        check_time(self.mtime, path, || Stat::of_fd(file).map_err(|errno| os("stat", errno)))?;
        Ok(left_out)
    }

    /// Applies all to what has this name. A symlink has no mode.
    pub(super) fn apply_to_name(&self, at: At<'_>, kind: FileKind, path: &[u8]) -> Result<u64, UnpackError> {
        if let Some((uid, gid)) = self.owner {
            owner::set(at, uid, gid, self.tree).map_err(|error| owner_error(path, (uid, gid), error))?;
        }
        if kind != FileKind::Symlink {
            at.chmod(self.mode).map_err(UnpackError::write(path))?;
        }
        let mut left_out = self.left_out;
        for (name, value) in &self.xattrs {
            left_out += settle(name, at.set_xattr(name, value), path)?;
        }
        set_time(at, self.mtime, path)?;
        Ok(left_out)
    }
}

/// The kernel calls an id that the user namespace has no place for an invalid argument.
fn owner_error(path: &[u8], (uid, gid): (u32, u32), error: RootDirError) -> UnpackError {
    match error.errno() {
        Some(Errno::INVAL) => UnpackError::refused(path, Refusal::Owner { uid, gid }),
        _ => UnpackError::write(path)(error),
    }
}

/// Sets the modification time of what has this name.
pub(super) fn set_time(at: At<'_>, mtime: Mtime, path: &[u8]) -> Result<(), UnpackError> {
    at.set_mtime(mtime).map_err(UnpackError::write(path))?;
    check_time(mtime, path, || at.stat())
}

/// File systems cut off what they cannot hold, and say nothing.
fn check_time(
    mtime: Mtime,
    path: &[u8],
    stat: impl FnOnce() -> Result<Stat, RootDirError>,
) -> Result<(), UnpackError> {
    if USUAL_SECONDS.contains(&mtime.sec) {
        return Ok(());
    }
    match stat().map_err(UnpackError::write(path))?.mtime.sec == mtime.sec {
        true => Ok(()),
        false => Err(UnpackError::refused(path, Refusal::Time(mtime.sec))),
    }
}

/// Which attributes are content.
///
/// `security.*` beyond capabilities are labels of the policy of the host that wrote the archive, and names outside
/// Linux's namespaces are another system's (`com.apple.*`): builders before us set the former only by accident,
/// and never the latter. What is left out is counted.
fn fate(name: &[u8], tree: OverlayXattrs) -> Fate {
    let begins = |prefix: &str| name.starts_with(prefix.as_bytes());
    let own = [OverlayXattrs::Trusted.prefix(), OverlayXattrs::User.prefix(), XATTR_PREFIX];
    match name {
        _ if own.into_iter().any(begins) => Fate::Refuse,
        b"security.capability" => Fate::Set,
        _ if begins("user.") || begins("system.posix_acl_") => Fate::Set,
        // Only the first user namespace may set them.
        _ if begins("trusted.") && tree == OverlayXattrs::Trusted => Fate::Set,
        _ => Fate::LeaveOut,
    }
}

/// A file system without `user.*` attributes (tmpfs before Linux 6.6) loses what nothing depends on. A capability
/// or an ACL that cannot be set is an error: without it the file is another one.
fn settle(name: &OsString, set: Result<(), RootDirError>, path: &[u8]) -> Result<u64, UnpackError> {
    match set {
        Ok(()) => Ok(0),
        Err(error)
            if error.errno() == Some(Errno::OPNOTSUPP) && name.as_encoded_bytes().starts_with(b"user.") =>
        {
            Ok(1)
        }
        Err(error) => Err(UnpackError::write(path)(error)),
    }
}

fn timestamps(mtime: Mtime) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.sec, tv_nsec: mtime.nsec.into() },
    }
}

/// The caller names the path.
pub(super) fn os(verb: &'static str, errno: Errno) -> RootDirError {
    RootDirError::Os { verb, path: Default::default(), errno }
}

/// For `map_err`: a failed write to the content of the entry at `path`.
pub(super) fn write_error(path: &[u8]) -> impl FnOnce(io::Error) -> UnpackError + '_ {
    move |error| {
        let errno = error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error);
        UnpackError::write(path)(os("write", errno))
    }
}
