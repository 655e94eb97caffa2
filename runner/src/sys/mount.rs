//! `mount_setattr(2)`, which rustix lacks.

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
