//! Clone, exec and what lies between them.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::process::Pid;

/// linux/sched.h; libc's constant has too narrow a type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The two returns of [`clone_process`].
pub(crate) enum Cloned {
    /// We are the new process.
    Child,
    /// We made it.
    Parent {
        /// Its id, as seen from here.
        pid: Pid,
        /// A descriptor that becomes readable when it has ended.
        pidfd: OwnedFd,
    },
}

/// `clone3(2)` with the given namespace flags, like `fork`: the child goes on with a copy of this memory.
///
/// The caller must be single-threaded (the zygote and the processes below it are): in a threaded process the child
/// could find a lock held for ever. `cgroup` is a cgroup v2 directory for the child to be born in.
pub(crate) fn clone_process(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: clone_args is plain data, for which all zeroes is a valid value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces | libc::CLONE_PIDFD as u64;
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(directory) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(directory.as_raw_fd().cast_unsigned());
    }
    // SAFETY: no new stack, no shared memory and no thread-local set-up are asked for, so the child runs on its own
    // copy of this stack; `args` and `pidfd` outlive the call.
    let mut result =
        unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    // Containers' seccomp profiles hide clone3, whose flags they cannot check; the older call does the same but for
    // the cgroup.
    if result < 0 && cgroup.is_none() && io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS) {
        let flags = args.flags | args.exit_signal;
        // SAFETY: as above: no stack, no shared memory; the third argument is where the kernel writes the pidfd.
        result = unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, &raw mut pidfd, 0_usize, 0_usize) };
    }
    match Pid::from_raw(super::checked(result)? as libc::pid_t) {
        None => Ok(Cloned::Child),
        // SAFETY: the kernel wrote a new descriptor into `pidfd`, and nobody else owns it.
        Some(pid) => Ok(Cloned::Parent { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
    }
}

/// `unshare(2)` of namespaces for the calling thread. Never called with CLONE_FILES.
pub(crate) fn unshare(namespaces: libc::c_int) -> io::Result<()> {
    debug_assert_eq!(namespaces & libc::CLONE_FILES, 0);
    // SAFETY: without CLONE_FILES no descriptor changes its meaning for other threads.
    super::checked(unsafe { libc::unshare(namespaces) }.into()).map(drop)
}

/// Marks every descriptor from `first` up to be closed by the next `execve`.
pub(crate) fn close_on_exec_from(first: libc::c_uint) -> io::Result<()> {
    // SAFETY: only flags of descriptors change; none is closed under its owner.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    super::checked(result).map(drop)
}

/// Closes every descriptor from `first` up. Only for the start of a process, before anything owns one.
pub(crate) fn close_from(first: libc::c_uint) {
    // SAFETY: the caller is the first code of a fresh program; no value owns a descriptor yet.
    unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
}

/// Real, effective and saved user id of this single-threaded process, by the raw call: libc's own would signal
/// threads that a cloned process does not have.
pub(crate) fn set_user_ids(uid: u32) -> io::Result<()> {
    // SAFETY: the call takes three integers.
    super::checked(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// Joins a new, unnamed session keyring, so that the keys of forge's own session are out of reach.
pub(crate) fn join_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    let result = unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>())
    };
    super::checked(result).map(drop)
}

/// Loads a seccomp filter for this thread and everything that comes from it. Needs CAP_SYS_ADMIN in the user
/// namespace, or no_new_privs.
pub(crate) fn load_seccomp_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    const SECCOMP_SET_MODE_FILTER: libc::c_long = 1;
    let length = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: `program` names `len` instructions that outlive the call; the kernel copies and checks them.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0 as libc::c_long, &raw const program)
    };
    super::checked(result).map(drop)
}

/// `execve(2)`: returns only when it failed.
pub(crate) fn execve(path: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both arrays are null-terminated and point at C strings that live in the caller.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// SIGKILL to every process of this PID namespace but ourselves; we must be its PID 1.
pub(crate) fn kill_everyone() {
    if std::process::id() == 1 {
        // SAFETY: the call takes two integers. Having no one to kill is no failure.
        unsafe { libc::kill(-1, libc::SIGKILL) };
    }
}

/// `_exit(2)`: no destructor, no handler, no buffer of the process we were cloned from is touched.
pub(crate) fn exit_at_once(code: i32) -> ! {
    // SAFETY: the call takes an integer and does not return.
    unsafe { libc::_exit(code) }
}

/// Closes a descriptor that this clone shares with its parent but whose owner (a value in the parent's frames below
/// us) will never run in this process.
pub(crate) fn close(descriptor: &OwnedFd) {
    // SAFETY: this process leaves by `exit_at_once`, so the owner's destructor does not run here.
    unsafe { libc::close(descriptor.as_raw_fd()) };
}

/// Has the kernel kill the program that `command` starts when the thread that starts it is gone.
pub(crate) fn die_with_this_thread(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: the closure makes one system call, which is allowed between fork and exec.
    unsafe {
        command.pre_exec(|| {
            super::checked(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong).into())
                .map(drop)
        });
    }
}
