//! PID 1 of a sandbox.
//!
//! Born from the single-threaded zygote with its namespaces already new, it may run ordinary Rust. It builds the
//! tree, starts the step's process, reaps what that leaves behind, passes on signals, and ends when the process does:
//! the kernel then kills whatever is left in the PID namespace. It cannot be dumped or traced by the step.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, set_dumpable_behavior,
    set_parent_process_death_signal, wait,
};

use super::capabilities::Capabilities;
use super::process::Shared;
use super::process::{self, Streams};
use super::report::{At, Exit, Failure, Phase, Report};
use super::spec::{Network, Rootfs, SandboxSpec};
use super::{bare, identity, privileges, tree};
use crate::guard::Guard;
use crate::seccomp::Program;
use crate::sys::{self, Cloned};
use crate::user::Ids;
use crate::zygote::wire::{self, Envelope};

/// CAP_SYS_ADMIN, kept only where mount points have to be unmounted at the end.
const INIT_WITH_MOUNTS: u64 = Capabilities::INIT.bits() | 1 << 21;

/// The life of PID 1. Returns when this process should exit.
pub(crate) fn run(control: &OwnedFd, filter: &Program) {
    let report = match live(control, filter) {
        Ok(exit) => Report::Exited(exit),
        Err(failure) => Report::Failed(failure),
    };
    tell(control, &report);
}

/// Says how it went. If nobody listens any more there is nobody to tell.
pub(crate) fn tell(control: &OwnedFd, report: &Report) {
    if let Ok(bytes) = serde_json::to_vec(report) {
        let _ = send(control, &bytes, SendFlags::NOSIGNAL);
    }
}

fn live(control: &OwnedFd, filter: &Program) -> Result<Exit, Failure> {
    if Guard::NotDumpable.holds() {
        set_dumpable_behavior(DumpableBehavior::NotDumpable).at(Phase::Internal, "dumpable flag")?;
    }
    // The zygote ignores it, to have its children reaped.
    sys::restore_default(libc::SIGCHLD).at(Phase::Internal, "signals")?;
    let signals = [libc::SIGCHLD];
    sys::block(&signals).at(Phase::Internal, "signal mask")?;
    let children = sys::signal_fd(&signals).at(Phase::Internal, "signalfd")?;

    let (cradle, cgroups) = wire::receive_cradle(control).at(Phase::Internal, "what to make ready")?;
    if !cradle.has_namespaces {
        let Opened { envelope: Envelope { spec, .. }, streams, .. } = Opened::receive(control)?;
        return live_in_a_directory(spec, streams, cgroups, filter, (control, &children));
    }
    set_parent_process_death_signal(Some(Signal::KILL)).at(Phase::Internal, "death signal")?;
    join_cgroups(cgroups)?;
    let ready = if cradle.has_mounts { Some(tree::Ready::make(&cradle)?) } else { None };
    // From here on it is a certain step's.
    let Opened { envelope, streams, netns, handles } = Opened::receive(control)?;
    let mut spec = envelope.spec;
    enter_network(netns, spec.network)?;
    rustix::system::sethostname(spec.hostname.as_bytes()).at(Phase::Namespaces, "host name")?;
    let (ids, remains) = tree::build(&spec, &envelope.skeleton, handles, ready)?;
    identity::add_home(&mut spec.env, &ids);
    let streams = if spec.terminal { own_terminal("/dev/pts/ptmx", &ids, control)? } else { streams };
    let process = start(&spec, &ids, streams, filter, control, None)?;
    let keep = if remains.need_unmounting() { INIT_WITH_MOUNTS } else { Capabilities::INIT.bits() };
    privileges::keep_only(Capabilities::from_bits(keep))?;
    let exit = supervise(control, &children, process, kill_all);
    kill_all();
    remains.take_back();
    exit
}

/// The same where nothing can be had but another root directory. This process is no PID 1: it adopts what the step
/// leaves, and it outlives a caller that was killed for as long as it takes to end that.
fn live_in_a_directory(
    mut spec: SandboxSpec,
    streams: Streams,
    cgroups: Vec<OwnedFd>,
    filter: &Program,
    (control, children): (&OwnedFd, &OwnedFd),
) -> Result<Exit, Failure> {
    let Rootfs::Chroot { path: root, aside } = spec.rootfs.clone() else {
        return Err(Failure { phase: Phase::Internal, object: "no directory to live in".into(), errno: 0 });
    };
    rustix::process::set_child_subreaper(Some(getpid())).at(Phase::Internal, "subreaper")?;
    for file in cgroups {
        rustix::io::write(&file, b"0").at(Phase::Cgroup, "tasks")?;
    }
    bare::narrow(&mut spec);
    let is_filtered = crate::isolation::is_filtered();
    let laid = bare::Laid::lay(&root, &aside, &spec)?;
    let ids = identity::of(&spec.user, laid.root().as_fd());
    let process = ids.and_then(|ids| {
        identity::add_home(&mut spec.env, &ids);
        // There is no other devpts than the host's.
        let streams = if spec.terminal { own_terminal("/dev/ptmx", &ids, control)? } else { streams };
        start(&spec, &ids, streams, filter, control, Some(Shared { root: laid.root(), is_filtered }))
    });
    let exit = process.and_then(|process| supervise(control, children, process, bare::kill_descendants));
    bare::kill_descendants();
    laid.lift();
    exit
}

struct Opened {
    envelope: Envelope,
    streams: Streams,
    netns: Option<OwnedFd>,
    handles: Vec<OwnedFd>,
}

impl Opened {
    /// Waits for the work, and sorts the descriptors out by what the envelope, the first of them, says about the others.
    fn receive(control: &OwnedFd) -> Result<Opened, Failure> {
        let (_, descriptors) = wire::receive(control).at(Phase::Internal, "sandbox specification")?;
        let mut descriptors = descriptors.into_iter();
        let mut next = || {
            descriptors.next().ok_or_else(|| Failure {
                phase: Phase::Internal,
                object: "a descriptor is missing from the message".into(),
                errno: 0,
            })
        };
        let envelope = Envelope::read(next()?).at(Phase::Internal, "sandbox specification")?;
        let streams = Streams { stdin: next()?, stdout: next()?, stderr: next()? };
        let netns = if envelope.has_netns { Some(next()?) } else { None };
        Ok(Opened { envelope, streams, netns, handles: descriptors.collect() })
    }
}

/// Joins the cgroups whose `tasks` were handed in, then hides everything above them.
fn join_cgroups(tasks: Vec<OwnedFd>) -> Result<(), Failure> {
    for file in tasks {
        rustix::io::write(&file, b"0").at(Phase::Cgroup, "tasks")?;
    }
    match sys::unshare(libc::CLONE_NEWCGROUP) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        other => other.at(Phase::Namespaces, "cgroup namespace"),
    }
}

fn enter_network(netns: Option<OwnedFd>, network: Network) -> Result<(), Failure> {
    match (netns, network) {
        (Some(namespace), _) => {
            let kind = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(namespace.as_fd(), kind)
                .at(Phase::Network, "join the prepared namespace")
        }
        (None, Network::None) => sys::bring_up_loopback().at(Phase::Network, "loopback interface"),
        (None, Network::Host) => Ok(()),
        (None, Network::Default) => {
            Err(Failure { phase: Phase::Network, object: "no network was prepared".into(), errno: 0 })
        }
    }
}

/// A terminal of the sandbox's own; its other end goes to the caller.
fn own_terminal(multiplexer: &str, ids: &Ids, control: &OwnedFd) -> Result<Streams, Failure> {
    use std::os::fd::AsFd;
    let make = || -> io::Result<Streams> {
        let (ours, theirs) = crate::terminal::open(multiplexer, ids.uid)?;
        wire::send_with(control, wire::TERMINAL, &[ours.as_fd()])?;
        Ok(Streams { stdin: theirs.try_clone()?, stdout: theirs.try_clone()?, stderr: theirs })
    };
    make().at(Phase::Mount, format!("a terminal of {multiplexer}"))
}

/// Forks the step's process.
fn start(
    spec: &SandboxSpec,
    ids: &Ids,
    streams: Streams,
    filter: &Program,
    control: &OwnedFd,
    shared: Option<Shared<'_>>,
) -> Result<Pid, Failure> {
    match sys::clone_process(0, None).at(Phase::Namespaces, "process of the step")? {
        Cloned::Parent { pid, .. } => Ok(pid),
        Cloned::Child => {
            let failure = process::run(spec, ids, &streams, filter, shared);
            tell(control, &Report::Failed(failure));
            crate::zygote::leave(127)
        }
    }
}

/// Reaps and forwards until the step's process ends. If the caller goes away first, `end` ends everything.
fn supervise(control: &OwnedFd, children: &OwnedFd, process: Pid, end: fn()) -> Result<Exit, Failure> {
    loop {
        if let Some(exit) = reap(process).at(Phase::Internal, "wait for processes")? {
            return Ok(exit);
        }
        let mut ready = [PollFd::new(control, PollFlags::IN), PollFd::new(children, PollFlags::IN)];
        match poll(&mut ready, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).at(Phase::Internal, "poll"),
        }
        if !ready[0].revents().is_empty() && !forward(control, process) {
            end();
        }
        let mut pending = [0_u8; 128];
        while rustix::io::read(children, &mut pending).is_ok() {}
    }
}

/// Passes one asked-for signal on. False if the caller is gone, and with it the reason to go on.
fn forward(control: &OwnedFd, process: Pid) -> bool {
    let mut request = [0_u8; 1];
    match recv(control, &mut request, RecvFlags::DONTWAIT) {
        Ok((1, _)) => {
            if let Some(signal) = Signal::from_named_raw(request[0].into()) {
                let _ = kill_process(process, signal);
            }
            true
        }
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => true,
        _ => false,
    }
}

/// Collects every ended child; the answer is the step's own end.
fn reap(process: Pid) -> io::Result<Option<Exit>> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == process => return Ok(exit_of(status)),
            Ok(Some(_)) => {}
            Ok(None) => return Ok(None),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn exit_of(status: WaitStatus) -> Option<Exit> {
    status.exit_status().map(Exit::Code).or_else(|| status.terminating_signal().map(Exit::Signal))
}

/// Ends every other process of the namespace and waits until all are gone.
fn kill_all() {
    // A process that forks while being killed is caught by the next round; -1 names all but ourselves.
    loop {
        crate::sys::kill_everyone();
        match wait(WaitOptions::empty()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
