//! The workshop: one small tmpfs per sandbox that holds what forge itself contributes to the tree (the content of
//! /dev, generated files, an empty directory to hide others behind). It dies with the sandbox's mount namespace.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, chmodat, fchown, fstat, mkdirat, openat};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::mountpoints::{self, Kind};
use super::mounts;

/// What the step may write into /dev, together with everything else in the workshop.
const SIZE: &str = "64m";

/// An attached tmpfs, reachable by its descriptor only.
pub(super) struct Workshop {
    root: OwnedFd,
    null: OwnedFd,
}

impl Workshop {
    /// Makes the tmpfs and puts it over `/` of this mount namespace, where no path look-up finds it (those start
    /// below), but where its parts can be copied as mounts.
    pub(super) fn open() -> io::Result<Workshop> {
        let root = mounts::make("tmpfs", &[("size", SIZE), ("mode", "0755")], MountAttrFlags::empty())?;
        mounts::attach(&root, openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)?;
        mkdirat(&root, "empty", Mode::from_raw_mode(0o555))?;
        let null = attached(&root, "null", &device("/dev/null", (1, 3))?)?;
        Ok(Workshop { root, null })
    }

    /// The open root directory.
    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Makes a directory and opens it.
    pub(super) fn directory(&self, name: &str) -> io::Result<OwnedFd> {
        mountpoints::make(&self.root, Path::new(name), Kind::Directory)
    }

    /// Puts a mount where it can be worked on until the tree is there that it belongs in.
    pub(super) fn stage(&self, name: &str, mount: &OwnedFd) -> io::Result<()> {
        mounts::attach(mount, self.directory(name)?)
    }

    /// Copies a part of the workshop as a detached mount.
    pub(super) fn mount(&self, name: &str, attributes: MountAttrFlags) -> io::Result<OwnedFd> {
        mounts::copy_with(&self.root, name, false, attributes)
    }

    /// Writes a file and copies it as a detached mount.
    pub(super) fn file(
        &self,
        name: &str,
        bytes: &[u8],
        mode: u32,
        owner: (u32, u32),
        attributes: MountAttrFlags,
    ) -> io::Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = std::fs::File::from(openat(&self.root, name, flags, Mode::from_raw_mode(0o600))?);
        io::Write::write_all(&mut &file, bytes)?;
        if owner != (0, 0) {
            fchown(&file, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)))?;
        }
        chmodat(&self.root, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
        self.mount(name, attributes)
    }

    /// A mount of an empty, read-only directory, to hide another behind.
    pub(super) fn empty(&self) -> io::Result<OwnedFd> {
        self.mount("empty", mounts::INERT | MountAttrFlags::MOUNT_ATTR_RDONLY)
    }

    /// A mount of the host's /dev/null, to hide a file behind.
    pub(super) fn null(&self) -> io::Result<OwnedFd> {
        mounts::copy(&self.null, "", false)
    }
}

/// Attaches a mount of a file and opens it there: a kernel before 6.15 copies no mount that is attached nowhere.
fn attached(root: &OwnedFd, name: &str, mount: &OwnedFd) -> io::Result<OwnedFd> {
    let place = mountpoints::make(root, Path::new(name), Kind::File)?;
    mounts::attach(mount, place)?;
    Ok(openat(root, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// A detached mount of a device node of the host, checked to be the device it should be: an image or a broken host
/// may have put something else there.
pub(super) fn device(path: &str, number: (u32, u32)) -> io::Result<OwnedFd> {
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = mounts::copy_path(path, false)?;
    sys_attributes(&mount, flags)?;
    let stat = fstat(&mount)?;
    let found = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice || found != number {
        return Err(Errno::NODEV.into());
    }
    Ok(mount)
}

fn sys_attributes(mount: &OwnedFd, flags: MountAttrFlags) -> io::Result<()> {
    crate::sys::set_mount_attributes(mount, flags, false)
}
