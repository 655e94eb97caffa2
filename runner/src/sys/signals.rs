//! Signal dispositions and masks, and `signalfd(2)`.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// The largest signal number of Linux (SIGRTMAX as the kernel counts).
const LAST_SIGNAL: libc::c_int = 64;

fn empty_set() -> libc::sigset_t {
    // SAFETY: sigset_t is plain data, and sigemptyset writes all of it.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        set
    }
}

fn set_of(signals: &[libc::c_int]) -> libc::sigset_t {
    let mut set = empty_set();
    for &signal in signals {
        // SAFETY: `set` was initialised by sigemptyset.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

/// Gives every signal its default disposition and empties the mask, as a freshly started program expects. Rust's
/// runtime ignores SIGPIPE, and an ignored signal stays ignored through `execve`.
pub(crate) fn reset_all() -> io::Result<()> {
    for signal in 1..=LAST_SIGNAL {
        // KILL and STOP refuse; they need no reset.
        let _ = restore_default(signal);
    }
    unblock_all()
}

/// Gives one signal its default disposition.
pub(crate) fn restore_default(signal: libc::c_int) -> io::Result<()> {
    // The raw call, since libc keeps two signals to itself and would leave them as they were inherited.
    // SAFETY: an all-zero kernel sigaction (larger than any architecture's) means SIG_DFL with no flags.
    let result = unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            [0_u64; 8].as_ptr(),
            std::ptr::null_mut::<u64>(),
            8_usize,
        )
    };
    super::checked(result).map(drop)
}

/// Empties the signal mask.
pub(crate) fn unblock_all() -> io::Result<()> {
    let none = empty_set();
    // SAFETY: `none` is an initialised set; the old one is not asked for.
    super::checked(
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) }.into(),
    )
    .map(drop)
}

/// Blocks `signals` in this single-threaded process, so that a [`signal_fd`] can report them.
pub(crate) fn block(signals: &[libc::c_int]) -> io::Result<()> {
    let set = set_of(signals);
    // SAFETY: `set` is an initialised set; the old one is not asked for.
    super::checked(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) }.into())
        .map(drop)
}

/// A descriptor that becomes readable when one of `signals` (which must be blocked) is pending.
pub(crate) fn signal_fd(signals: &[libc::c_int]) -> io::Result<OwnedFd> {
    let set = set_of(signals);
    // SAFETY: `set` is an initialised set; -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    super::checked(fd.into())?;
    // SAFETY: the call just made `fd`, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Ignores a signal; for SIGCHLD that also means children need not be reaped.
pub(crate) fn ignore(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: SIG_IGN is always a valid disposition.
    if unsafe { libc::signal(signal, libc::SIG_IGN) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
