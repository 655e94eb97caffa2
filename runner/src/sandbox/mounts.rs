//! Mounts by file descriptor: made detached, then moved to an open target. No path of an untrusted tree is ever
//! handed to a mount call, so there is nothing to swap between look-up and use.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use rustix::path::Arg;

use crate::guard::Guard;
use crate::sys;

/// nosuid, noexec, nodev: what a mount gets that only holds data of the kernel.
pub(super) const INERT: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC)
    .union(MountAttrFlags::MOUNT_ATTR_NODEV);

/// Makes a new file system of `kind`, detached.
pub(super) fn make(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        fsconfig_set_string(&context, *key, *value)?;
    }
    create(&context, attributes)
}

/// Makes the configured file system, detached. The kernel's own explanation of a refusal is part of the error.
pub(super) fn create(context: &OwnedFd, attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    fsconfig_create(context)?;
    Ok(fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes & guarded())?)
}

/// The flags that a mount may have: all of them. See [`Guard::Nodev`].
pub(crate) fn guarded() -> MountAttrFlags {
    if Guard::Nodev.holds() { MountAttrFlags::all() } else { !MountAttrFlags::MOUNT_ATTR_NODEV }
}

/// What the kernel wrote into the log of a file system context, one line after the other.
pub(super) fn explanation(context: &OwnedFd) -> String {
    let mut buffer = [0_u8; 512];
    let mut lines = Vec::new();
    while let Ok(length @ 1..) = rustix::io::read(context, &mut buffer) {
        lines.push(String::from_utf8_lossy(&buffer[..length]).trim().to_owned());
    }
    lines.join("; ")
}

/// A detached copy of the mount (a part of it) at `path` below `directory`.
pub(super) fn copy(directory: impl AsFd, path: impl Arg, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(directory, path, flags)?)
}

/// Like [`copy`], with mount flags set.
pub(super) fn copy_with(
    directory: impl AsFd,
    path: impl Arg,
    recursive: bool,
    attributes: MountAttrFlags,
) -> io::Result<OwnedFd> {
    let mount = copy(directory, path, recursive)?;
    sys::set_mount_attributes(&mount, attributes, recursive)?;
    Ok(mount)
}

/// Moves a detached mount onto the open file or directory `target`.
pub(super) fn attach(mount: &OwnedFd, target: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", target, "", flags)?)
}

/// A detached copy of the mount at an open file or directory, to be handed to a sandbox as
/// [`super::spec::MountSource::Handle`]. The caller resolves the source once, safely; the sandbox mounts just that,
/// whatever happens to its path meanwhile.
///
/// # Errors
/// Those of `open_tree(2)`: EPERM without CAP_SYS_ADMIN in the user namespace that owns the mount namespace.
pub fn detach(source: impl AsFd, recursive: bool) -> io::Result<OwnedFd> {
    copy(source, "", recursive)
}

/// A detached copy of what lies at a trusted host path.
pub(super) fn copy_path(path: impl Arg, recursive: bool) -> io::Result<OwnedFd> {
    copy(CWD, path, recursive)
}

/// Puts a tmpfs over `/proc` in a mount namespace of its own, to see whether mounts work; gives it. For a process that
/// does nothing else afterwards.
///
/// # Errors
/// The kernel's refusal.
fn try_disk() -> io::Result<OwnedFd> {
    use rustix::mount::MountPropagationFlags;
    sys::unshare(libc::CLONE_NEWNS)?;
    rustix::mount::mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    let disk = make("tmpfs", &[("size", "1m")], INERT)?;
    attach(&disk, rustix::fs::openat(CWD, "/proc", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty())?)?;
    Ok(disk)
}

/// See [`try_disk`].
pub(crate) fn try_mounts() -> io::Result<()> {
    try_disk().map(drop)
}

/// Mounts an overlay likewise.
pub(crate) fn try_overlay() -> io::Result<()> {
    let disk = try_disk()?;
    for name in ["lower", "upper", "work"] {
        rustix::fs::mkdirat(&disk, name, rustix::fs::Mode::from_raw_mode(0o755))?;
    }
    rustix::process::fchdir(&disk)?;
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in [("lowerdir", "lower"), ("upperdir", "upper"), ("workdir", "work")] {
        fsconfig_set_string(&context, key, value)?;
    }
    rustix::mount::fsconfig_set_flag(&context, "userxattr")?;
    create(&context, INERT).map(drop)
}
