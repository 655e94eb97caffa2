//! The zygote's own side: receive, clone, hand the descriptor of the new process back. Nothing else, so that it
//! never waits and never grows.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{DumpableBehavior, set_dumpable_behavior, setsid};

use super::wire::{self, Parcel};
use crate::guard::Guard;
use crate::sandbox::init;
use crate::sandbox::report::{Failure, Phase, Report};
use crate::seccomp::Program;
use crate::sys::{self, Cloned};

/// Serves requests from `socket` until its other end is closed. PID 1 of every sandbox has this process's death as
/// its own, so closing the socket ends them all.
pub(super) fn serve(socket: &OwnedFd) -> io::Result<()> {
    if Guard::NotDumpable.holds() {
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    }
    let _ = rustix::thread::set_name(c"forge-zygote");
    // Out of the terminal's process group: Ctrl-C is for forge, which then ends its sandboxes in order.
    let _ = setsid();
    // What is ignored here would be ignored by every step; handlers go with exec.
    sys::reset_all()?;
    sys::ignore(libc::SIGCHLD)?;
    rustix::process::umask(rustix::fs::Mode::empty());
    let filter = Program::compile();
    while let Some(parcel) = wire::receive_request(socket)? {
        answer(parcel, socket, &filter);
    }
    Ok(())
}

fn answer(parcel: Parcel, socket: &OwnedFd, filter: &Program) {
    let cgroup = parcel.cgroup.as_ref().map(AsFd::as_fd);
    let mut cloned = sys::clone_process(parcel.namespaces, cgroup);
    let is_hidden = |error: &io::Error| error.raw_os_error() == Some(libc::ENOSYS);
    let joins = cgroup.is_some() && cloned.as_ref().err().is_some_and(is_hidden);
    if joins {
        cloned = sys::clone_process(parcel.namespaces, None);
    }
    match cloned {
        Ok(Cloned::Child) => {
            sys::close(socket);
            report_panics(&parcel.control);
            if joins && let Err(error) = join(parcel.cgroup.as_ref()) {
                let failure = Failure::new(Phase::Cgroup, "cgroup.procs", &error);
                init::tell(&parcel.control, &Report::Failed(failure));
                super::leave(0)
            }
            init::run(&parcel.control, filter);
            super::leave(0)
        }
        Ok(Cloned::Parent { pidfd, .. }) => {
            // A caller that went away meanwhile has closed the other end, which PID 1 sees too.
            let _ = wire::send_with(&parcel.control, wire::BORN, &[pidfd.as_fd()]);
        }
        Err(error) => {
            let failure = Failure::new(Phase::Namespaces, "clone3", &error);
            init::tell(&parcel.control, &Report::Failed(failure));
        }
    }
}

/// Moves this process into a cgroup v2 directory that it could not be born in.
fn join(cgroup: Option<&OwnedFd>) -> io::Result<()> {
    let Some(directory) = cgroup else { return Ok(()) };
    let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
    let procs = rustix::fs::openat(directory, "cgroup.procs", flags, rustix::fs::Mode::empty())?;
    rustix::io::write(procs, b"0")?;
    Ok(())
}

/// Standard error is closed here, so the caller has to carry the message of a bug in PID 1.
fn report_panics(control: &OwnedFd) {
    let Ok(control) = control.try_clone() else { return };
    std::panic::set_hook(Box::new(move |panic| {
        let failure = Failure { phase: Phase::Internal, object: panic.to_string(), errno: 0 };
        init::tell(&control, &Report::Failed(failure));
    }));
}
