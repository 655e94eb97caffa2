//! `landlock(7)`: scopes, which neither `std` nor `rustix` offers.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `struct landlock_ruleset_attr` of linux/landlock.h, as of ABI 6.
#[repr(C)]
struct Ruleset {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1;
const SCOPE_SIGNAL: u64 = 1 << 1;

/// Keeps this process and all that come from it from signalling processes outside of them and from abstract unix
/// sockets that were made there. Needs CAP_SYS_ADMIN in the user namespace, or no_new_privs; a kernel before 6.12, or
/// one without Landlock, says that it cannot.
pub(crate) fn restrict_scope() -> io::Result<()> {
    let ruleset = Ruleset {
        handled_access_fs: 0,
        handled_access_net: 0,
        scoped: SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL,
    };
    // SAFETY: `ruleset` outlives the call and its size is passed beside it.
    let made = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, &raw const ruleset, size_of::<Ruleset>(), 0_u32)
    };
    let made = super::checked(made)? as libc::c_int;
    // SAFETY: the kernel just made this descriptor, and nobody else owns it.
    let made = unsafe { OwnedFd::from_raw_fd(made) };
    // SAFETY: the call takes two integers.
    let result = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, made.as_raw_fd(), 0_u32) };
    super::checked(result).map(drop)
}

/// Whether [`restrict_scope`] is something that this kernel knows, as far as asking goes.
pub(crate) fn knows_scopes() -> bool {
    const CREATE_RULESET_VERSION: u32 = 1;
    const WITH_SCOPES: libc::c_long = 6;
    // SAFETY: without a ruleset the call only gives a number.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<Ruleset>(),
            0_usize,
            CREATE_RULESET_VERSION,
        )
    };
    version >= WITH_SCOPES
}
