//! Every `unsafe` line of forge: the system calls that neither `std` nor `rustix` offers safely.
//!
//! Each function is one call with its arguments checked by their types, and carries its SAFETY reason. Nothing here
//! decides anything; what to call and when is settled in the modules above.

mod interface;
mod landlock;
mod memory;
mod mount;
mod process;
mod signals;

pub(crate) use interface::bring_up_loopback;
pub(crate) use landlock::{knows_scopes, restrict_scope};
pub use memory::share_heap;
pub(crate) use mount::{in_own_mounts, set_mount_attributes};
pub(crate) use process::{
    Cloned, clone_process, close, close_from, close_on_exec_from, die_with_this_thread, execve, exit_at_once,
    join_session_keyring, kill_everyone, load_seccomp_filter, set_user_ids, unshare,
};
pub(crate) use signals::{block, ignore, reset_all, restore_default, signal_fd, unblock_all};

/// Turns the result of a raw call into `io::Result`.
fn checked(result: libc::c_long) -> std::io::Result<libc::c_long> {
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(result) }
}
