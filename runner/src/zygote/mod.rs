//! The zygote: a small, single-threaded process that every sandbox is born from.
//!
//! A threaded process may not run ordinary code between clone and exec, and building a sandbox is a lot of ordinary
//! code. So the first sandbox starts a second forge process, by exec, that does nothing but clone PID 1s; each of them
//! then builds its own sandbox beside the others. Being started by exec rather than by fork it may be started at any
//! time, from any thread, only when a step really has to run, and is small.
//!
//! It is executed through a read-only, detached mount of forge's own binary (or a sealed copy in memory where mounts
//! are refused): a step that gets hold of `/proc/self/exe` of its ancestor can then not write to the program on disk.

mod newborn;
mod running;
mod server;
pub(crate) mod wire;

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{CWD, MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

pub(crate) use newborn::Newborn;
pub use running::Running;

use crate::cgroup::Cgroup;
use crate::guard::{self, Guard};
use crate::sandbox::cradle::Cradle;
use crate::sandbox::report::Failure;
use crate::sandbox::spec::SandboxSpec;
use crate::sys;

/// The name by which a forge process knows that it is the zygote.
const NAME: &str = "forge-zygote";

/// Why the zygote could not be started or asked.
#[derive(Debug, thiserror::Error)]
pub enum ZygoteError {
    /// It could not be started.
    #[error("start sandbox helper process: {0}")]
    Start(io::Error),
    /// The directory of empty mount points could not be made.
    #[error("create mount points in {path}: {error}")]
    Skeleton {
        /// The directory.
        path: PathBuf,
        /// The kernel's error.
        error: io::Error,
    },
    /// It is gone, or refused the message.
    #[error("send to sandbox helper process: {0}")]
    Send(io::Error),
    /// More mounts by descriptor than one message carries.
    #[error("pass {0} open mounts to a sandbox: more than 200")]
    TooManyHandles(usize),
    /// The sandbox's process could not be made.
    #[error(transparent)]
    Sandbox(#[from] Failure),
}

/// The standard streams of a sandbox.
#[derive(Debug)]
pub struct Stdio {
    /// Read end of its input.
    pub stdin: OwnedFd,
    /// Write end of its output.
    pub stdout: OwnedFd,
    /// Write end of its diagnostics.
    pub stderr: OwnedFd,
}

/// One sandbox to start: the description and the descriptors that it speaks of.
#[derive(Debug)]
pub struct Job<'a> {
    /// What to start.
    pub spec: &'a SandboxSpec,
    /// Its standard streams.
    pub stdio: Stdio,
    /// Detached mounts, see [`crate::detach`], that the spec's mounts name by number.
    pub handles: Vec<OwnedFd>,
    /// The namespace to join for [`crate::spec::Network::Default`].
    pub netns: Option<BorrowedFd<'a>>,
    /// The cgroup to put it in; removed when the sandbox is gone. A first process that was born ahead has one already.
    pub cgroup: Option<Cgroup>,
}

/// The running helper. Dropping it ends every sandbox.
#[derive(Debug)]
pub struct Zygote {
    socket: Option<OwnedFd>,
    process: Mutex<Child>,
    skeleton: PathBuf,
    namespaces: u64,
}

/// To be called first thing in `main` with the program's arguments: in the helper process it does the helper's work
/// and returns its exit code, everywhere else it returns `None` at once.
#[must_use]
pub fn serve_if_zygote(first_argument: Option<&OsStr>) -> Option<std::process::ExitCode> {
    if first_argument != Some(OsStr::new(NAME)) {
        return None;
    }
    // Whatever a careless caller let us inherit ends here.
    if Guard::ClosedDescriptors.holds() {
        sys::close_from(3);
    }
    // The socket leaves descriptor 0, so that no sandbox inherits it there.
    let served = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)
        .and_then(|socket| rustix::stdio::dup2_stdin(rustix::stdio::stdout()).map(|()| socket))
        .map_err(io::Error::from)
        .and_then(|socket| server::serve(&socket));
    Some(if served.is_ok() { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE })
}

/// Ends this process without running anything that its ancestors meant to run at their end.
pub(crate) fn leave(code: i32) -> ! {
    sys::exit_at_once(code)
}

impl Zygote {
    /// Starts the helper. `skeleton` is a directory of forge's own, best on the file system of the layers, in which
    /// the empty mount points common to all sandboxes are made once.
    ///
    /// # Errors
    /// [`ZygoteError::Skeleton`], [`ZygoteError::Start`].
    pub fn start(skeleton: &Path) -> Result<Zygote, ZygoteError> {
        let skeleton = make_skeleton(skeleton)
            .map_err(|error| ZygoteError::Skeleton { path: skeleton.to_owned(), error })?;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(|error| ZygoteError::Start(error.into()))?;
        let process = execute(theirs).map_err(ZygoteError::Start)?;
        let time = if Path::new("/proc/self/ns/time").exists() { libc::CLONE_NEWTIME } else { 0 };
        let namespaces =
            libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | time;
        Ok(Zygote {
            socket: Some(ours),
            process: Mutex::new(process),
            skeleton,
            namespaces: u64::from(namespaces.cast_unsigned()),
        })
    }

    /// Starts a sandbox. Returns when its first process exists; what goes wrong later, up to the program's start,
    /// is told by [`Running::wait`]. Any number of threads may call this at once.
    ///
    /// # Errors
    /// [`ZygoteError`]: the helper is gone, or the kernel refuses the namespaces.
    pub fn spawn(&self, mut job: Job<'_>) -> Result<Running, ZygoteError> {
        let cgroup = job.cgroup.take();
        self.bear(Cradle::of(job.spec), cgroup)?.start(job)
    }

    /// Has a first process made that gets ready and then waits for its work. Returns at once; what goes wrong is told
    /// when it is given some.
    pub(crate) fn bear(&self, cradle: Cradle, cgroup: Option<Cgroup>) -> Result<Newborn, ZygoteError> {
        let Some(socket) = &self.socket else {
            return Err(ZygoteError::Send(io::ErrorKind::NotConnected.into()));
        };
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(|error| ZygoteError::Send(error.into()))?;
        let into = cgroup.as_ref().and_then(Cgroup::directory);
        let tasks = cgroup.as_ref().map_or(&[][..], Cgroup::tasks);
        wire::send_cradle(&ours, &cradle, tasks)
            .and_then(|()| wire::send_request(socket, self.namespaces_for(&cradle), theirs.as_fd(), into))
            .map_err(ZygoteError::Send)?;
        Ok(Newborn::new(ours, cradle, cgroup, self.skeleton.clone()))
    }

    fn namespaces_for(&self, cradle: &Cradle) -> u64 {
        if !cradle.has_namespaces {
            return 0;
        }
        let network = if cradle.has_loopback { libc::CLONE_NEWNET } else { 0 };
        self.namespaces | u64::from(network.cast_unsigned())
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        drop(self.socket.take());
        // It has nothing to finish; waiting only keeps it from staying behind as a zombie.
        let _ = self.process.get_mut().unwrap_or_else(PoisonError::into_inner).wait();
    }
}

/// Starts the helper with `socket` as its standard input.
fn execute(socket: OwnedFd) -> io::Result<Child> {
    let binary = sealed_binary()?;
    let mut command = Command::new(format!("/proc/self/fd/{}", binary.as_raw_fd()));
    command.arg0(NAME).env_clear();
    guard::hand_on(&mut command);
    command
        .current_dir("/")
        .stdin(socket)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
}

/// Our own program, opened so that nobody who reaches it by `/proc/PID/exe` can write to it.
fn sealed_binary() -> io::Result<OwnedFd> {
    if !Guard::SealedProgram.holds() {
        return Ok(File::open("/proc/self/exe")?.into());
    }
    read_only_mount().or_else(|_| memory_copy())
}

fn read_only_mount() -> io::Result<OwnedFd> {
    let path = std::env::current_exe()?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = open_tree(CWD, &path, flags)?;
    sys::set_mount_attributes(&mount, MountAttrFlags::MOUNT_ATTR_RDONLY, false)?;
    // The path is where our program was when it started; it may be another one by now.
    let found = rustix::fs::fstat(&mount)?;
    let running = std::fs::metadata("/proc/self/exe")?;
    if (found.st_dev, found.st_ino) == (running.dev(), running.ino()) {
        Ok(mount)
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

fn memory_copy() -> io::Result<OwnedFd> {
    let mut copy =
        File::from(memfd_create(NAME, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::EXEC)?);
    io::copy(&mut File::open("/proc/self/exe")?, &mut copy)?;
    fcntl_add_seals(&copy, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(copy.into())
}

/// Makes what every sandbox mounts on, once, and says where it is for a process with another working directory.
fn make_skeleton(skeleton: &Path) -> io::Result<PathBuf> {
    for directory in ["proc", "sys", "dev", "etc"] {
        std::fs::create_dir_all(skeleton.join(directory))?;
    }
    for file in ["etc/resolv.conf", "etc/hosts"] {
        File::options().append(true).create(true).open(skeleton.join(file))?;
    }
    std::path::absolute(skeleton)
}
