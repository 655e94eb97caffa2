//! What a sandbox says about itself: how it ended, or what kept it from starting.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// How the process of a sandbox ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// The kernel killed it, or one of its processes, because the sandbox reached its memory limit.
    OutOfMemory {
        /// The limit in bytes.
        limit_bytes: u64,
        /// The code that a shell would give for how it ended.
        code: i32,
    },
}

impl Exit {
    /// The exit code as shells give it: 128 and the number for a signal.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Exit::Code(code) | Exit::OutOfMemory { code, .. } => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

/// The step of the set-up that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Making the process and its namespaces.
    Namespaces,
    /// Joining the cgroup.
    Cgroup,
    /// Joining or preparing the network namespace.
    Network,
    /// Mounting the rootfs and making it the root.
    Rootfs,
    /// One of the mounts inside it.
    Mount,
    /// Finding out who `USER` is.
    User,
    /// Dropping privileges: ids, capabilities, limits, the seccomp filter.
    Privileges,
    /// Entering the working directory.
    WorkingDirectory,
    /// Starting the program: it is missing, or is not an executable, or its interpreter is missing.
    Exec,
    /// A message that could not be read; forge's own fault.
    Internal,
}

/// Why a sandbox could not start its program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Failure {
    /// Where in the set-up.
    pub phase: Phase,
    /// The path, program or setting concerned.
    pub object: String,
    /// The kernel's error number; 0 if the kernel was not the one to refuse.
    pub errno: i32,
}

impl Failure {
    pub(crate) fn new(phase: Phase, object: impl Into<String>, error: &io::Error) -> Failure {
        Failure { phase, object: object.into(), errno: error.raw_os_error().unwrap_or(0) }
    }

    /// The kernel's error.
    #[must_use]
    pub fn error(&self) -> io::Error {
        io::Error::from_raw_os_error(self.errno)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { phase, object, errno } = self;
        match phase {
            Phase::Namespaces => write!(formatter, "create namespaces ({object})")?,
            Phase::Cgroup => write!(formatter, "join cgroup {object}")?,
            Phase::Network => write!(formatter, "set up network: {object}")?,
            Phase::Rootfs => write!(formatter, "mount rootfs: {object}")?,
            Phase::Mount => write!(formatter, "mount {object}")?,
            Phase::User => write!(formatter, "look up USER: {object}")?,
            Phase::Privileges => write!(formatter, "set {object}")?,
            Phase::WorkingDirectory => write!(formatter, "enter working directory {object}")?,
            Phase::Exec => write!(formatter, "exec {object}")?,
            Phase::Internal => write!(formatter, "run sandbox: {object}")?,
        }
        if *errno != 0 {
            write!(formatter, ": {}", describe(*phase, *errno))?;
        }
        Ok(())
    }
}

/// The kernel's words, except where they mislead.
fn describe(phase: Phase, errno: i32) -> String {
    match (phase, errno) {
        (Phase::Exec, libc::ENOENT) => "no such file in PATH or at that path".into(),
        (Phase::Exec, libc::EACCES) => "permission denied (not executable?)".into(),
        (Phase::Exec, libc::ENOEXEC) => {
            "exec format error (built for another platform, or no #! line)".into()
        }
        (Phase::WorkingDirectory, libc::ENOENT) => "no such directory".into(),
        _ => rustix::io::Errno::from_raw_os_error(errno).to_string(),
    }
}

/// Attaches phase and object to a kernel error: `call().at(Phase::Mount, "/proc")?`.
pub(crate) trait At<T> {
    fn at(self, phase: Phase, object: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, phase: Phase, object: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(phase, object, &error.into()))
    }
}

/// What PID 1 sends to the caller, once.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    Exited(Exit),
    Failed(Failure),
}
