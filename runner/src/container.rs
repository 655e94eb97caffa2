//! `forge run` and `forge shell`: one command in a new container of an image, on the same sandbox that RUN steps have.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use forge_solver::op::Ulimit;
use forge_solver::{TroubleKind, WorldError};
use forge_store::{Platform, Snapshot, Store};
use rustix::fs::{Mode, OFlags};

use crate::cgroup::{Cgroup, Granted};
use crate::emulation::{Emulators, is_foreign};
use crate::isolation::Rung;
use crate::network::resolv_conf::hosts;
use crate::network::{Lease, Networks, Options};
use crate::roots::Roots;
use crate::sandbox::spec::{Mount, MountSource, Network, Rlimit, Rootfs, SandboxSpec, Security, User};
use crate::step::Settings;
use crate::zygote::{Job, Running, Stdio, Zygote, ZygoteError};
use crate::{Exit, detach, terminal, trouble};

/// What to run, and how.
#[derive(Clone, Debug)]
pub struct Container {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// The environment, as `NAME=value`.
    pub env: Vec<String>,
    /// The working directory, absolute.
    pub cwd: String,
    /// `user[:group]`; empty is root.
    pub user: String,
    /// The host name.
    pub hostname: String,
    /// The machine that its programs are for.
    pub platform: Platform,
    /// The network.
    pub network: Network,
    /// Resource limits.
    pub ulimits: Vec<Ulimit>,
    /// Bytes of /dev/shm.
    pub shm_size: Option<u64>,
    /// Files of the host, and memory.
    pub volumes: Vec<Volume>,
    /// Nothing of the image may be written.
    pub read_only: bool,
    /// Our standard input is the container's.
    pub interactive: bool,
    /// It has a terminal of its own, which ours is connected with.
    pub terminal: bool,
}

impl Container {
    /// Whether files of the host are to be seen in it.
    fn shows_host(&self) -> bool {
        self.volumes.iter().any(|volume| matches!(volume.source, VolumeSource::Host(_)))
    }
}

/// A mount of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// What.
    pub source: VolumeSource,
    /// Where, absolute.
    pub target: String,
    /// May not be written.
    pub read_only: bool,
}

/// What a [`Volume`] shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeSource {
    /// A file or directory of the host, with what is mounted below it.
    Host(PathBuf),
    /// Memory.
    Tmpfs {
        /// Its size in bytes; `None` is half of the machine's memory.
        size_bytes: Option<u64>,
        /// Permission bits.
        mode: u32,
    },
}

/// Runs a container in the foreground and says how it ended; its files are gone then.
///
/// `started` gets the running container, to send signals to. Output goes to this process's own streams.
pub fn run_container(
    store: &Store,
    snapshot: &Snapshot,
    container: &Container,
    settings: Settings,
    mut started: impl FnMut(Arc<Running>),
) -> Result<Exit, WorldError> {
    let rung = settings.isolation.rung;
    if rung == Rung::None {
        let (reason, remedy) = settings.isolation.refusal_of_steps();
        return Err(trouble::of_sandbox(reason).hint(remedy));
    }
    if rung == Rung::Chroot && container.network == Network::None {
        return Err(trouble::of_sandbox(
            "--network=none needs a network namespace, which isolation `chroot` lacks",
        )
        .hint("see `forge doctor` for how to have one"));
    }
    if rung == Rung::Chroot && (container.read_only || container.shows_host()) {
        return Err(trouble::of_sandbox(
            "--volume and --read-only need mounts, which isolation `chroot` lacks",
        )
        .hint("see `forge doctor` for how to have them"));
    }
    let draft = store.draft().map_err(trouble::of_store)?;
    let roots = Roots::new(store, &settings.isolation, &settings.search_path);
    let emulators = Emulators::new(rung, &settings.search_path);
    let networks = Networks::new(Options {
        runtime_dir: settings.runtime_dir,
        search_path: settings.search_path,
        backend: None,
        reach_host: settings.bounds.reach_host(),
    });
    let lease = match container.network {
        Network::Default if rung.has_namespaces() => Some(networks.lease().map_err(trouble::of_sandbox)?),
        _ => None,
    };
    let nowhere = Rootfs::Directory { path: PathBuf::new(), read_only: true };
    let mut spec = SandboxSpec::new(nowhere, container.args.clone());
    if settings.hardened {
        spec.security = Security::hardened();
    }
    spec.env.clone_from(&container.env);
    spec.cwd.clone_from(&container.cwd);
    spec.user = User::Named(container.user.clone());
    spec.hostname.clone_from(&container.hostname);
    spec.network = match rung {
        Rung::Chroot => Network::Host,
        _ => lease.as_ref().map_or(container.network, Lease::network),
    };
    spec.resolv_conf =
        Some(lease.as_ref().map_or_else(crate::network::resolv_conf::for_host, Lease::resolv_conf));
    spec.hosts = Some(hosts(&spec.hostname, &settings.bounds.hosts_for(lease.as_ref())?));
    spec.limits = settings.bounds.limits.clone();
    let rlimit =
        |Ulimit { name, soft, hard }: &Ulimit| Rlimit { name: name.clone(), soft: *soft, hard: *hard };
    spec.rlimits = container.ulimits.iter().map(rlimit).collect();
    spec.shm_size_bytes = container.shm_size.unwrap_or(spec.shm_size_bytes);
    spec.cgroup_parent.clone_from(&settings.bounds.cgroup_parent);
    spec.terminal = container.terminal;
    let zygote = Zygote::start(&store.state_dir().join("skeleton")).map_err(trouble::of_sandbox)?;
    let ended = roots.run_only(snapshot, &draft, &mut |rootfs| {
        spec.rootfs = if container.read_only { read_only(rootfs)? } else { rootfs };
        spec.mounts.clear();
        let mut handles = mount_volumes(&container.volumes, &mut spec)?;
        let foreign = emulators.provide(&container.platform, &mut spec, &mut handles);
        let Granted { cgroup, .. } = Cgroup::create(&spec.limits, spec.cgroup_parent.as_deref())
            .map_err(|error| trouble::of_cgroup(&error))?;
        let (stdio, ends) =
            streams(container.interactive && !container.terminal).map_err(trouble::of_sandbox)?;
        let netns = lease.as_ref().and_then(Lease::netns);
        let job = Job { spec: &spec, stdio, handles, netns, cgroup };
        let running = match zygote.spawn(job) {
            Err(ZygoteError::Sandbox(failure)) => return Ok(Err(failure)),
            other => Arc::new(other.map_err(trouble::of_zygote)?),
        };
        started(running.clone());
        if container.terminal {
            // What our own streams refuse ends the conversation, and with it the container.
            if terminal::converse(&running, container.interactive).is_err() {
                running.kill();
            }
        } else {
            pass_on(ends);
        }
        match (running.wait(), foreign) {
            (Err(failure), Some(error)) if is_foreign(&failure) => Err(error),
            (end, _) => Ok(end.map(|exit| (exit, ()))),
        }
    });
    ended.map(|(exit, ())| exit)
}

/// The same tree, in which nothing can be written.
fn read_only(rootfs: Rootfs) -> Result<Rootfs, WorldError> {
    match rootfs {
        Rootfs::Overlay { lowers, xattrs, .. } => Ok(Rootfs::Overlay { lowers, upper: None, xattrs }),
        Rootfs::Directory { path, .. } => Ok(Rootfs::Directory { path, read_only: true }),
        Rootfs::Mounted { .. } | Rootfs::Chroot { .. } => {
            Err(trouble::of_sandbox("--read-only cannot be had where fuse-overlayfs stacks the layers"))
        }
    }
}

fn mount_volumes(volumes: &[Volume], spec: &mut SandboxSpec) -> Result<Vec<OwnedFd>, WorldError> {
    let mut handles = Vec::new();
    for Volume { source, target, read_only } in volumes {
        let source = match source {
            VolumeSource::Tmpfs { size_bytes, mode } => {
                MountSource::Tmpfs { size_bytes: *size_bytes, mode: *mode }
            }
            VolumeSource::Host(path) => {
                let opened = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
                let opened = opened.map_err(io::Error::from).and_then(|file| detach(file.as_fd(), true));
                handles.push(opened.map_err(|error| {
                    let message = format!("cannot mount {}: {error}", path.display());
                    WorldError::new(TroubleKind::Input, message).hint("make it first, as a file or directory")
                })?);
                MountSource::Handle(handles.len() - 1)
            }
        };
        spec.mounts.push(Mount { target: target.clone(), source, read_only: *read_only });
    }
    Ok(handles)
}

/// Pipes for output, and for input if the container is to have ours: it never holds this process's own descriptors.
fn streams(interactive: bool) -> io::Result<(Stdio, [OwnedFd; 2])> {
    let (stdout, stdout_end) = io::pipe()?;
    let (stderr, stderr_end) = io::pipe()?;
    let stdin = if interactive { pass_input()? } else { File::open("/dev/null")?.into() };
    let stdio = Stdio { stdin, stdout: stdout_end.into(), stderr: stderr_end.into() };
    Ok((stdio, [stdout.into(), stderr.into()]))
}

/// Copies our standard input into a pipe, for as long as there is any. The thread may wait for input that never comes;
/// it ends with the process.
fn pass_input() -> io::Result<OwnedFd> {
    let (input, end) = io::pipe()?;
    std::thread::spawn(move || {
        let mut end = end;
        let _ = io::copy(&mut io::stdin(), &mut end);
    });
    Ok(input.into())
}

/// Copies output to our own streams until the container has closed both.
fn pass_on([stdout, stderr]: [OwnedFd; 2]) {
    std::thread::scope(|scope| {
        scope.spawn(|| copy(stderr, io::stderr()));
        copy(stdout, io::stdout());
    });
}

/// Once nobody reads our output, nobody reads the container's: its next write tells it so.
fn copy(from: OwnedFd, mut to: impl Write) {
    let mut from = File::from(from);
    let mut buffer = vec![0; 32 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(n) if to.write_all(&buffer[..n]).and_then(|()| to.flush()).is_err() => return,
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return,
            _ => {}
        }
    }
}
