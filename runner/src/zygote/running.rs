//! A sandbox as its caller holds it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{SendFlags, send};
use rustix::process::{Signal, pidfd_send_signal};

use super::newborn::Born;
use super::wire;
use crate::cgroup::Cgroup;
use crate::sandbox::report::{Exit, Failure, Phase, Report};

/// A started sandbox. Dropping it kills everything inside and returns when that is gone.
#[derive(Debug)]
pub struct Running {
    control: OwnedFd,
    init: OwnedFd,
    terminal: Option<OwnedFd>,
    cgroup: Option<Cgroup>,
    /// With the first process everything ends. Otherwise that one ends everything, and must be asked to.
    has_namespaces: bool,
    /// A report that came before anyone asked for it.
    early: Option<Result<Exit, Failure>>,
    end: Mutex<Option<Result<Exit, Failure>>>,
}

impl Running {
    pub(super) fn new(control: OwnedFd, born: Born, cgroup: Option<Cgroup>, has_namespaces: bool) -> Running {
        let Born { init, terminal, end: early } = born;
        Running { control, init, terminal, cgroup, has_namespaces, early, end: Mutex::new(None) }
    }

    /// Our end of the sandbox's terminal, if it has one.
    #[must_use]
    pub fn terminal(&self) -> Option<BorrowedFd<'_>> {
        self.terminal.as_ref().map(AsFd::as_fd)
    }

    /// Waits until the sandbox is gone: its processes, its mounts. Further calls give the same answer at once.
    ///
    /// # Errors
    /// [`Failure`] if the program could not be started, with the phase, the object and the kernel's error.
    pub fn wait(&self) -> Result<Exit, Failure> {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        end.get_or_insert_with(|| {
            let reported = self.reported();
            self.await_init();
            self.judge(reported)
        })
        .clone()
    }

    /// Sends a signal to the step's process.
    ///
    /// # Errors
    /// EPIPE if the sandbox has ended already.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let signal = u8::try_from(signal).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        send(&self.control, &[signal], SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Kills everything in the sandbox at once. [`Running::wait`] then says how it ended.
    pub fn kill(&self) {
        // Gone already is as good as killed.
        if !self.has_namespaces {
            let _ = self.signal(libc::SIGKILL);
            return;
        }
        let _ = pidfd_send_signal(&self.init, Signal::KILL);
    }

    /// A descriptor that becomes readable when the sandbox is gone, for an event loop.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.init.as_fd()
    }

    /// The first report decides: a process that could not start its program reports that before PID 1 sees it exit.
    fn reported(&self) -> Result<Exit, Failure> {
        if let Some(early) = &self.early {
            return early.clone();
        }
        match wire::receive(&self.control) {
            Ok((bytes, _)) if bytes.is_empty() => Ok(Exit::Signal(libc::SIGKILL)),
            Ok((bytes, _)) => parse(&bytes),
            Err(error) => Err(Failure::new(Phase::Internal, "control socket", &error)),
        }
    }

    fn await_init(&self) {
        let mut ready = [PollFd::new(&self.init, PollFlags::IN)];
        while poll(&mut ready, None) == Err(rustix::io::Errno::INTR) {}
    }

    /// A step that failed although nobody asked for it may have met its memory limit.
    fn judge(&self, reported: Result<Exit, Failure>) -> Result<Exit, Failure> {
        match (&reported, self.cgroup.as_ref().and_then(Cgroup::out_of_memory)) {
            (Ok(Exit::Code(0)) | Err(_), _) | (_, None) => reported,
            (Ok(exit), Some(limit_bytes)) => Ok(Exit::OutOfMemory { limit_bytes, code: exit.code() }),
        }
    }

    /// The limit on processes, if the kernel refused one for it.
    #[must_use]
    pub fn out_of_pids(&self) -> Option<u64> {
        self.cgroup.as_ref().and_then(Cgroup::out_of_pids)
    }
}

pub(super) fn parse(bytes: &[u8]) -> Result<Exit, Failure> {
    match serde_json::from_slice(bytes) {
        Ok(Report::Exited(exit)) => Ok(exit),
        Ok(Report::Failed(failure)) => Err(failure),
        Err(error) => Err(Failure { phase: Phase::Internal, object: error.to_string(), errno: 0 }),
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let end = self.end.get_mut().unwrap_or_else(PoisonError::into_inner);
        if end.is_none() {
            self.kill();
            self.await_init();
        }
    }
}
