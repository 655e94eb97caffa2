//! A first process that has no work yet, and what is heard of it until its caller has it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::io::Errno;

use super::wire::{self, Envelope};
use super::{Job, Running, ZygoteError, running};
use crate::cgroup::Cgroup;
use crate::sandbox::cradle::Cradle;
use crate::sandbox::report::{Exit, Failure};
use crate::sandbox::spec::SandboxSpec;

/// It gets ready on its own and waits. Dropping it ends it.
pub(crate) struct Newborn {
    /// Gone once it has work.
    control: Option<OwnedFd>,
    cradle: Cradle,
    cgroup: Option<Cgroup>,
    skeleton: PathBuf,
}

impl Newborn {
    pub(super) fn new(
        control: OwnedFd,
        cradle: Cradle,
        cgroup: Option<Cgroup>,
        skeleton: PathBuf,
    ) -> Newborn {
        Newborn { control: Some(control), cradle, cgroup, skeleton }
    }

    /// Whether what it makes ready is what this sandbox needs.
    pub(crate) fn fits(&self, spec: &SandboxSpec) -> bool {
        self.cradle == Cradle::of(spec)
    }

    /// Gives it its work, for which it must fit.
    pub(crate) fn start(mut self, job: Job<'_>) -> Result<Running, ZygoteError> {
        let gone = || ZygoteError::Send(io::ErrorKind::NotConnected.into());
        let control = self.control.as_ref().ok_or_else(gone)?;
        match send(control, &self.skeleton, &job) {
            // It has ended before it got its work, and said why.
            Err(ZygoteError::Send(error))
                if [Errno::PIPE, Errno::CONNRESET]
                    .map(Errno::raw_os_error)
                    .map(Some)
                    .contains(&error.raw_os_error()) => {}
            other => other?,
        }
        let born = Born::hear(control, job.spec.terminal)?;
        let control = self.control.take().ok_or_else(gone)?;
        Ok(Running::new(control, born, self.cgroup.take(), self.cradle.has_namespaces))
    }
}

impl Drop for Newborn {
    fn drop(&mut self) {
        let Some(control) = self.control.take() else { return };
        // Its cgroup can be removed only once it is gone, which the other's drop waits for.
        if let Ok(born) = Born::hear(&control, false) {
            drop(Running::new(control, born, self.cgroup.take(), self.cradle.has_namespaces));
        }
    }
}

fn send(control: &OwnedFd, skeleton: &std::path::Path, job: &Job<'_>) -> Result<(), ZygoteError> {
    const ROOM_FOR_THE_OTHERS: usize = 53;
    if job.handles.len() > wire::MAX_DESCRIPTORS - ROOM_FOR_THE_OTHERS {
        return Err(ZygoteError::TooManyHandles(job.handles.len()));
    }
    let envelope =
        Envelope { spec: job.spec.clone(), skeleton: skeleton.to_owned(), has_netns: job.netns.is_some() };
    let envelope = envelope.write().map_err(ZygoteError::Send)?;
    let mut descriptors: Vec<BorrowedFd<'_>> =
        [&envelope, &job.stdio.stdin, &job.stdio.stdout, &job.stdio.stderr].map(AsFd::as_fd).into();
    descriptors.extend(job.netns);
    descriptors.extend(job.handles.iter().map(AsFd::as_fd));
    wire::send_with(control, wire::WORK, &descriptors).map_err(ZygoteError::Send)
}

/// What is said of a sandbox before its caller has it.
pub(super) struct Born {
    pub(super) init: OwnedFd,
    pub(super) terminal: Option<OwnedFd>,
    /// A report that came already.
    pub(super) end: Option<Result<Exit, Failure>>,
}

impl Born {
    /// Listens until all is known that a caller needs. The zygote and PID 1 speak on the same socket, in any order.
    fn hear(control: &OwnedFd, with_terminal: bool) -> Result<Born, ZygoteError> {
        let (mut init, mut terminal, mut end) = (None, None, None);
        while init.is_none() || (with_terminal && terminal.is_none() && end.is_none()) {
            let (bytes, descriptors) = wire::receive(control).map_err(ZygoteError::Send)?;
            match (bytes.as_slice(), descriptors.into_iter().next()) {
                (wire::BORN, Some(descriptor)) => init = Some(descriptor),
                (wire::TERMINAL, Some(descriptor)) => terminal = Some(descriptor),
                ([], _) if init.is_some() => break,
                // No process was made; if the zygote lives, it has said why.
                ([], _) => {
                    return Err(match end {
                        Some(Err(failure)) => ZygoteError::Sandbox(failure),
                        _ => ZygoteError::Send(io::ErrorKind::BrokenPipe.into()),
                    });
                }
                (report, _) => end = Some(running::parse(report)),
            }
        }
        let init = init.ok_or_else(|| ZygoteError::Send(io::ErrorKind::BrokenPipe.into()))?;
        Ok(Born { init, terminal, end })
    }
}
