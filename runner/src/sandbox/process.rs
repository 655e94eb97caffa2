//! The step's own process, between its fork from PID 1 and `execve`.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::Mode;
use rustix::process::{
    Signal, chdir, chroot, fchdir, getcwd, ioctl_tiocsctty, set_parent_process_death_signal, setsid, umask,
};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout, stdin};
use rustix::thread::set_no_new_privs;

use super::privileges;
use super::report::{At, Failure, Phase};
use super::spec::{DEFAULT_PATH, SandboxSpec};
use crate::guard::Guard;
use crate::isolation::{Capability, has_capability};
use crate::seccomp::Program;
use crate::sys;
use crate::user::Ids;

/// The standard streams.
pub(super) struct Streams {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// A process that shares the machine's namespaces: it changes its root directory, and does without the rights that its
/// surroundings took from it before.
#[derive(Clone, Copy)]
pub(super) struct Shared<'a> {
    /// The root directory to be.
    pub(super) root: &'a OwnedFd,
    /// A container's own filter is on already, and ours says little more.
    pub(super) is_filtered: bool,
}

/// Turns this process into the step's program. Returns only if that failed.
pub(super) fn run(
    spec: &SandboxSpec,
    ids: &Ids,
    streams: &Streams,
    filter: &Program,
    shared: Option<Shared<'_>>,
) -> Failure {
    match confine(spec, ids, streams, filter, shared).and_then(|()| enter_directory(&spec.cwd)) {
        Ok(()) => exec(spec),
        Err(failure) => failure,
    }
}

fn confine(
    spec: &SandboxSpec,
    ids: &Ids,
    streams: &Streams,
    filter: &Program,
    shared: Option<Shared<'_>>,
) -> Result<(), Failure> {
    let security = &spec.security;
    setsid().at(Phase::Privileges, "session")?;
    connect(streams, spec.terminal).at(Phase::Privileges, "standard streams")?;
    if let Some(shared) = shared {
        fchdir(shared.root).and_then(|()| chroot(".")).at(Phase::Rootfs, "enter the new root")?;
    }
    if Guard::ClosedDescriptors.holds() {
        sys::close_on_exec_from(3).at(Phase::Privileges, "close descriptors")?;
    }
    umask(Mode::from_raw_mode(0o022));
    privileges::set_rlimits(&spec.rlimits)?;
    join_keyring(shared.is_some())?;
    privileges::limit_bounding_set(security.capabilities, shared.is_some())?;
    let is_filtered = shared.is_some_and(|shared| shared.is_filtered);
    let loads_filter = security.seccomp && Guard::Seccomp.holds() && !is_filtered;
    // A filter may be loaded by CAP_SYS_ADMIN or by those who can gain no rights any more.
    let must_give_up = loads_filter && shared.is_some() && !has_capability(Capability::SysAdmin);
    if security.no_new_privs || must_give_up {
        set_no_new_privs(true).at(Phase::Privileges, "no_new_privs")?;
    }
    // While CAP_SYS_ADMIN is still there: without it, and without no_new_privs, no filter may be loaded. All calls
    // that follow are ones the filter allows.
    if security.confined && Guard::Scope.holds() {
        limit_scope()?;
    }
    if loads_filter {
        let with_386 = security.entry_386.then(Program::compile_with_386);
        let filter = with_386.as_ref().unwrap_or(filter);
        sys::load_seccomp_filter(filter.instructions()).at(Phase::Privileges, "seccomp filter")?;
    }
    privileges::become_user(ids, security)?;
    privileges::drop_capabilities(ids, security)?;
    if shared.is_some() {
        // Where no PID namespace ends with its first process. Changes of ids take it away, so it comes last.
        set_parent_process_death_signal(Some(Signal::KILL)).at(Phase::Privileges, "death signal")?;
    }
    sys::unblock_all().at(Phase::Privileges, "signals")
}

/// A second wall where Landlock is there to build it of; the first are the namespaces.
fn limit_scope() -> Result<(), Failure> {
    match sys::restrict_scope() {
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOSYS | libc::EOPNOTSUPP | libc::EINVAL | libc::E2BIG | libc::EPERM)
            ) =>
        {
            Ok(())
        }
        other => other.at(Phase::Privileges, "landlock scope"),
    }
}

fn connect(streams: &Streams, terminal: bool) -> io::Result<()> {
    dup2_stdin(&streams.stdin)?;
    dup2_stdout(&streams.stdout)?;
    dup2_stderr(&streams.stderr)?;
    if terminal {
        ioctl_tiocsctty(stdin())?;
    }
    Ok(())
}

/// A kernel without keyrings has none to leave, and a container that forbids the call hides them.
fn join_keyring(may_be_forbidden: bool) -> Result<(), Failure> {
    match sys::join_session_keyring() {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        Err(error) if may_be_forbidden && error.raw_os_error() == Some(libc::EPERM) => Ok(()),
        other => other.at(Phase::Privileges, "session keyring"),
    }
}

/// Enters the working directory as the user that the step runs as, and makes sure that it lies in this root: a
/// directory reached through an inherited descriptor would not, and the kernel says so.
fn enter_directory(path: &str) -> Result<(), Failure> {
    chdir(path).at(Phase::WorkingDirectory, path)?;
    let current = getcwd(Vec::new()).at(Phase::WorkingDirectory, path)?;
    if current.as_bytes().starts_with(b"/") || !Guard::DirectoryInside.holds() {
        return Ok(());
    }
    Err(Failure { phase: Phase::WorkingDirectory, object: format!("{path} (outside the root)"), errno: 0 })
}

fn exec(spec: &SandboxSpec) -> Failure {
    let Some(program) = spec.args.first() else {
        return Failure { phase: Phase::Exec, object: "an empty command".into(), errno: 0 };
    };
    let (Ok(args), Ok(env)) = (c_strings(&spec.args), c_strings(&spec.env)) else {
        return Failure {
            phase: Phase::Exec,
            object: format!("{program} (a NUL byte in its arguments)"),
            errno: 0,
        };
    };
    let mut refusal = io::Error::from_raw_os_error(libc::ENOENT);
    for candidate in candidates(program, &spec.env) {
        let Ok(path) = CString::new(candidate.as_str()) else { continue };
        let error = sys::execve(&path, &args, &env);
        match error.raw_os_error() {
            Some(libc::ENOENT) if std::fs::symlink_metadata(&candidate).is_ok() => {
                return Failure::new(
                    Phase::Exec,
                    format!("{candidate} (its interpreter is missing)"),
                    &error,
                );
            }
            Some(libc::ENOENT | libc::ENOTDIR) => {}
            // As a shell does: what may not be executed is passed over, but remembered.
            Some(libc::EACCES) => refusal = error,
            _ => return Failure::new(Phase::Exec, candidate, &error),
        }
    }
    Failure::new(Phase::Exec, program.as_str(), &refusal)
}

/// Where to look for `program`: there, if it has a slash, else in each absolute directory of PATH.
fn candidates(program: &str, env: &[String]) -> Vec<String> {
    if program.contains('/') {
        return vec![program.to_owned()];
    }
    let path = env.iter().rev().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    path.split(':')
        .filter(|directory| directory.starts_with('/'))
        .map(|dir| format!("{dir}/{program}"))
        .collect()
}

fn c_strings(strings: &[String]) -> Result<Vec<CString>, std::ffi::NulError> {
    strings.iter().map(|string| CString::new(string.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::candidates;

    #[test]
    fn the_last_path_of_the_environment_counts_and_relative_entries_do_not() {
        let env = ["PATH=/first".to_owned(), "PATH=/bin:.::/sbin".to_owned()];
        assert_eq!(candidates("sh", &env), ["/bin/sh", "/sbin/sh"]);
        assert_eq!(candidates("./sh", &env), ["./sh"]);
        assert_eq!(candidates("sh", &[])[5], "/bin/sh");
    }
}
