//! `forge run`: one command in a new container of an image, on the same sandbox that RUN steps have.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use forge_solver::WorldError;
use forge_solver::op::Ulimit;
use forge_store::{Snapshot, Store};

use crate::isolation::Rung;
use crate::network::resolv_conf::hosts;
use crate::network::{Lease, Networks, Options};
use crate::roots::Roots;
use crate::sandbox::spec::{Network, Rlimit, Rootfs, SandboxSpec, Security, User};
use crate::step::Settings;
use crate::zygote::{Job, Running, Stdio, Zygote, ZygoteError};
use crate::{Cgroup, Exit, trouble};

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
    /// The network.
    pub network: Network,
    /// Resource limits.
    pub ulimits: Vec<Ulimit>,
    /// Bytes of /dev/shm.
    pub shm_size: Option<u64>,
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
    let draft = store.draft().map_err(trouble::of_store)?;
    let roots = Roots::new(store, &settings.isolation, &settings.search_path);
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
    let zygote = Zygote::start(&store.state_dir().join("skeleton")).map_err(trouble::of_sandbox)?;
    let ended = roots.run_only(snapshot, &draft, &mut |rootfs| {
        spec.rootfs = rootfs;
        let cgroup =
            Cgroup::create(&spec.limits, spec.cgroup_parent.as_deref()).map_err(trouble::of_sandbox)?;
        let (stdio, ends) = streams().map_err(trouble::of_sandbox)?;
        let netns = lease.as_ref().and_then(Lease::netns);
        let job = Job { spec: &spec, stdio, handles: Vec::new(), netns, cgroup };
        let running = match zygote.spawn(job) {
            Err(ZygoteError::Sandbox(failure)) => return Ok(Err(failure)),
            other => Arc::new(other.map_err(trouble::of_zygote)?),
        };
        started(running.clone());
        pass_on(ends);
        Ok(running.wait().map(|exit| (exit, ())))
    });
    ended.map(|(exit, ())| exit)
}

/// No input, and pipes for output: the container never holds this process's terminal.
fn streams() -> io::Result<(Stdio, [OwnedFd; 2])> {
    let (stdout, stdout_end) = io::pipe()?;
    let (stderr, stderr_end) = io::pipe()?;
    let stdin = File::open("/dev/null")?;
    let stdio = Stdio { stdin: stdin.into(), stdout: stdout_end.into(), stderr: stderr_end.into() };
    Ok((stdio, [stdout.into(), stderr.into()]))
}

/// Copies output to our own streams until the container has closed both.
fn pass_on([stdout, stderr]: [OwnedFd; 2]) {
    std::thread::scope(|scope| {
        scope.spawn(|| copy(stderr, io::stderr()));
        copy(stdout, io::stdout());
    });
}

fn copy(from: OwnedFd, mut to: impl Write) {
    let mut from = File::from(from);
    let mut buffer = vec![0; 32 << 10];
    while let Ok(n) = from.read(&mut buffer)
        && n > 0
    {
        // If nobody reads our output any more the container may still run on, as under a shell.
        let _ = to.write_all(&buffer[..n]).and_then(|()| to.flush());
    }
}
