//! `mount_setattr(2)`, which rustix lacks, and mounts of a program of our own.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::mount::MountAttrFlags;

/// `struct mount_attr` of linux/mount.h.
#[repr(C)]
struct MountAttributes {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Sets flags on the mount behind `mount`, and with `recursive` on all that lie below it.
pub(crate) fn set_mount_attributes(
    mount: impl AsFd,
    flags: MountAttrFlags,
    recursive: bool,
) -> io::Result<()> {
    let flags = flags & crate::sandbox::guarded();
    let attributes =
        MountAttributes { attr_set: u64::from(flags.bits()), attr_clr: 0, propagation: 0, userns_fd: 0 };
    let at = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a static C string, `attributes` outlives the call and its size is passed beside it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            at,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    super::checked(result).map(drop)
}

/// Has the program that `command` starts run in a mount namespace of its own, from which nothing comes back.
pub(crate) fn in_own_mounts(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: the closure makes two system calls with static strings, which is allowed between fork and exec.
    unsafe {
        command.pre_exec(|| {
            super::checked(libc::unshare(libc::CLONE_NEWNS).into())?;
            let flags = libc::MS_REC | libc::MS_PRIVATE;
            let nothing = std::ptr::null();
            super::checked(libc::mount(nothing, c"/".as_ptr(), nothing, flags, nothing.cast()).into())
                .map(drop)
        });
    }
}
