//! RUN, carried out: a sandbox over a draft, its output, its end.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use forge_solver::event::Event;
use forge_solver::op::{RunOp, Ulimit, types};
use forge_solver::{Job, StepId, TroubleKind, WorldError};
use forge_store::{Draft, Snapshot, Store};

use crate::files::LocalContext;
use crate::isolation::{Climbed, Rung};
use crate::mounts::{self, Mounted, Placing};
use crate::network::resolv_conf::hosts;
use crate::network::{Backend, Chosen, Lease, Networks, Options};
use crate::roots::{Attempt, Roots};
use crate::sandbox::spec::{
    Limits, Mount, MountSource, Network, Rlimit, Rootfs, SandboxSpec, Security, User,
};
use crate::secrets::Secrets;
use crate::zygote::{self, Running, Zygote};
use crate::{Cgroup, Exit, devices, output, trouble};

/// How long a step that does not end by SIGTERM may take to tidy up before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// What all steps of a build have in common.
pub struct Settings {
    /// Small files of the running system: network leases.
    pub runtime_dir: PathBuf,
    /// `PATH`, to find network helpers in.
    pub search_path: String,
    /// What `--secret` and `--ssh` gave.
    pub secrets: Secrets,
    /// What a step may use, and whom it knows.
    pub bounds: Bounds,
    /// How far steps are set apart from this machine.
    pub isolation: Climbed,
    /// Whether steps get fewer rights than other builders give them.
    pub hardened: bool,
}

/// What the user grants every step; no part of any key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Memory, processor time, processes.
    pub limits: Limits,
    /// The cgroup to make those of steps under.
    pub cgroup_parent: Option<String>,
    /// Lines of /etc/hosts.
    pub hosts: Vec<(String, HostAddress)>,
}

/// Whom a line of /etc/hosts means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostAddress {
    /// This address.
    Ip(IpAddr),
    /// The machine that forge runs on: `host-gateway`.
    Host,
}

impl Bounds {
    /// Whether steps must be able to reach the host.
    pub(crate) fn reach_host(&self) -> bool {
        self.hosts.iter().any(|(_, address)| *address == HostAddress::Host)
    }

    /// Lines for /etc/hosts of a step with this network.
    pub(crate) fn hosts_for(&self, lease: Option<&Lease<'_>>) -> Result<Vec<(String, IpAddr)>, WorldError> {
        let address = |name: &str, address: HostAddress| match address {
            HostAddress::Ip(ip) => Ok(ip),
            HostAddress::Host => {
                lease.map_or(Some(Ipv4Addr::LOCALHOST), Lease::gateway).map(IpAddr::V4).ok_or_else(|| {
                    let message =
                        format!("--add-host {name}:host-gateway: the network of a user hides the host");
                    WorldError::new(TroubleKind::Input, message)
                        .hint("give the address of another interface of the host, or use --network=host")
                })
            }
        };
        self.hosts.iter().map(|(name, host)| Ok((name.clone(), address(name, *host)?))).collect()
    }
}

/// The steps of a build: one zygote, one set of networks, what runs now.
pub struct Steps<'a> {
    store: &'a Store,
    zygote: Mutex<Option<Arc<Zygote>>>,
    secrets: Secrets,
    bounds: Bounds,
    networks: Networks,
    roots: Roots<'a>,
    isolation: Climbed,
    hardened: bool,
    /// What the networks are was said.
    told: AtomicBool,
    /// What the rung lacks was said.
    told_rung: AtomicBool,
    running: Mutex<HashMap<StepId, Arc<Running>>>,
    cancelled: AtomicBool,
}

impl<'a> Steps<'a> {
    /// Nothing is started before the first step runs.
    pub fn new(store: &'a Store, settings: Settings) -> Self {
        Self {
            store,
            zygote: Mutex::new(None),
            secrets: settings.secrets,
            roots: Roots::new(store, &settings.isolation, &settings.search_path),
            isolation: settings.isolation,
            hardened: settings.hardened,
            networks: Networks::new(Options {
                runtime_dir: settings.runtime_dir,
                search_path: settings.search_path,
                backend: None,
                reach_host: settings.bounds.reach_host(),
            }),
            bounds: settings.bounds,
            told: AtomicBool::new(false),
            told_rung: AtomicBool::new(false),
            running: Mutex::new(HashMap::new()),
            cancelled: AtomicBool::new(false),
        }
    }

    /// Ends what runs, politely at first; what starts later does not start.
    pub fn cancel(&self) {
        if self.cancelled.swap(true, Ordering::SeqCst) {
            return;
        }
        let running: Vec<_> = lock(&self.running).values().cloned().collect();
        for step in &running {
            let _ = step.signal(libc::SIGTERM);
        }
        // Held weakly: a sandbox that obeys is gone at once, and its cgroup with it.
        let running: Vec<Weak<Running>> = running.iter().map(Arc::downgrade).collect();
        std::thread::spawn(move || {
            std::thread::sleep(GRACE);
            running.iter().filter_map(Weak::upgrade).for_each(|step| step.kill());
        });
    }

    /// Runs one RUN on `below`, into `draft`.
    pub fn run(
        &self,
        op: &RunOp,
        job: &Job<'_>,
        below: &Snapshot,
        draft: &Draft,
        contexts: &HashMap<String, Arc<LocalContext>>,
    ) -> Result<(), WorldError> {
        self.check_rung(op, job)?;
        let mounted = mounts::prepare(self.store, op, job, contexts, &self.secrets, self.placing())?;
        let mut lease = self.network(op, job)?;
        if let (Some(lease), types::Security::Insecure) = (&mut lease, op.security) {
            lease.taint();
        }
        let nowhere = Rootfs::Directory { path: PathBuf::new(), read_only: true };
        let mut spec = SandboxSpec::new(nowhere, op.args.clone());
        spec.env = environment(op);
        spec.cwd.clone_from(&op.cwd);
        spec.network = match self.isolation.rung {
            Rung::Chroot => Network::Host,
            _ => lease.as_ref().map_or(plain_network(op), Lease::network),
        };
        spec.resolv_conf =
            Some(lease.as_ref().map_or_else(crate::network::resolv_conf::for_host, Lease::resolv_conf));
        if let Some(hostname) = &op.hostname {
            spec.hostname.clone_from(hostname);
        }
        spec.hosts = Some(hosts(&spec.hostname, &self.bounds.hosts_for(lease.as_ref())?));
        spec.limits = self.bounds.limits.clone();
        spec.cgroup_parent.clone_from(&self.bounds.cgroup_parent);
        spec.rlimits = rlimits(&op.ulimits, job);
        spec.shm_size_bytes = op.shm_size.unwrap_or(spec.shm_size_bytes);
        spec.security = match op.security {
            types::Security::Sandbox if self.hardened => Security::hardened(),
            types::Security::Sandbox => Security::sandbox(),
            types::Security::Insecure => Security::insecure(),
        };
        spec.security.entry_386 = op.platform.architecture == "386";
        spec.user = User::Named(op.user.clone());
        spec.mounts.extend(script(op));
        let Mounted { mounts, mut handles, env, keep: _keep, .. } = mounted;
        spec.env.extend(env);
        spec.mounts.extend(mounts);
        devices::add(&op.devices, &mut spec, &mut handles, job)?;
        let note = |text| job.events.emit(Event::Note { step: job.step, text });
        let (exit, said) = self.roots.run(below, draft, &note, &mut |rootfs| {
            spec.rootfs = rootfs;
            let handles = handles.iter().map(OwnedFd::try_clone).collect::<Result<_, _>>();
            self.start(&spec, handles.map_err(trouble::of_sandbox)?, lease.as_ref(), job)
        })?;
        judge(exit, said, op)
    }

    /// Refuses what the rung cannot give, and says once what it lacks.
    fn check_rung(&self, op: &RunOp, job: &Job<'_>) -> Result<(), WorldError> {
        let rung = self.isolation.rung;
        if rung == Rung::None {
            let (reason, remedy) = self.isolation.refusal_of_steps();
            let message = format!("RUN cannot be executed here, only files can be copied: {reason}");
            return Err(WorldError::new(TroubleKind::Sandbox, message).hint(remedy));
        }
        if rung == Rung::Chroot && op.network == types::Network::None {
            let message =
                "RUN --network=none needs a network namespace, which isolation `chroot` does not have";
            return Err(
                WorldError::new(TroubleKind::Sandbox, message).hint("see `forge doctor` for how to have one")
            );
        }
        if rung == Rung::Chroot && !op.devices.is_empty() {
            let message = "RUN --device needs mounts, which isolation `chroot` does not have";
            return Err(WorldError::new(TroubleKind::Sandbox, message)
                .hint("see `forge doctor` for how to have them"));
        }
        if !self.told_rung.swap(true, Ordering::Relaxed)
            && let Some(text) = self.isolation.remark()
        {
            job.events.emit(Event::Note { step: job.step, text });
        }
        Ok(())
    }

    /// Whether mounts travel as descriptors or lie where they are found.
    fn placing(&self) -> Placing {
        if self.isolation.rung.has_namespaces() { Placing::Detached } else { Placing::Moved }
    }

    fn start(
        &self,
        spec: &SandboxSpec,
        handles: Vec<OwnedFd>,
        lease: Option<&Lease<'_>>,
        job: &Job<'_>,
    ) -> Result<Attempt<Said>, WorldError> {
        let cgroup =
            Cgroup::create(&spec.limits, spec.cgroup_parent.as_deref()).map_err(trouble::of_sandbox)?;
        let (stdio, output) = output::pipe().map_err(trouble::of_sandbox)?;
        let zygote = self.zygote()?;
        let netns = lease.and_then(Lease::netns);
        let running = match zygote.spawn(zygote::Job { spec, stdio, handles, netns, cgroup }) {
            Err(zygote::ZygoteError::Sandbox(failure)) => return Ok(Err(failure)),
            other => other.map_err(trouble::of_zygote)?,
        };
        let running = Arc::new(running);
        lock(&self.running).insert(job.step, running.clone());
        if self.cancelled.load(Ordering::SeqCst) {
            running.kill();
        }
        let output = output::pump(output, job.step, job.events, self.impatience());
        let end = running.wait();
        let out_of_pids = running.out_of_pids();
        lock(&self.running).remove(&job.step);
        if self.cancelled.load(Ordering::SeqCst) {
            return Err(WorldError::new(TroubleKind::Cancelled, "cancelled"));
        }
        Ok(end.map(|exit| (exit, Said { out_of_pids, output })))
    }

    /// What to say of a step that goes on although it was asked to end; once.
    fn impatience(&self) -> impl FnMut() -> Option<String> {
        let mut said = false;
        move || {
            let say = self.cancelled.load(Ordering::SeqCst) && !std::mem::replace(&mut said, true);
            let seconds = GRACE.as_secs();
            say.then(|| {
                format!("the step does not obey SIGTERM: it has {seconds} s; a second Ctrl-C ends it now")
            })
        }
    }

    fn zygote(&self) -> Result<Arc<Zygote>, WorldError> {
        let mut slot = lock(&self.zygote);
        if let Some(zygote) = &*slot {
            return Ok(zygote.clone());
        }
        let zygote = Zygote::start(&self.store.state_dir().join("skeleton")).map_err(trouble::of_sandbox)?;
        Ok(slot.insert(Arc::new(zygote)).clone())
    }

    /// The way out for a step with the default network; none for the others.
    fn network(&self, op: &RunOp, job: &Job<'_>) -> Result<Option<Lease<'_>>, WorldError> {
        if op.network != types::Network::Default || self.isolation.rung == Rung::Chroot {
            return Ok(None);
        }
        let lease = self.networks.lease().map_err(trouble::of_sandbox)?;
        if let Some(chosen) = self.networks.chosen()
            && chosen.backend == Backend::Host
            && !self.told.swap(true, Ordering::Relaxed)
        {
            job.events.emit(Event::Note { step: job.step, text: remark(&chosen) });
        }
        Ok(Some(lease))
    }
}

/// What there is to say of a step beside its exit code.
struct Said {
    /// Its limit on processes, if it met it.
    out_of_pids: Option<u64>,
    /// The last of its output.
    output: Vec<u8>,
}

/// Why steps see the host's network although nobody asked for it.
fn remark(chosen: &Chosen) -> String {
    let refused: Vec<String> =
        chosen.refused.iter().map(|(backend, why)| format!("{backend}: {why}")).collect();
    format!(
        "warning: steps use the host's network, because nothing better works here ({})",
        refused.join("; ")
    )
}

fn plain_network(op: &RunOp) -> Network {
    match op.network {
        types::Network::None => Network::None,
        types::Network::Host => Network::Host,
        types::Network::Default => Network::Default,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `--ulimit` for the sandbox. Without CAP_SYS_RESOURCE a hard limit cannot rise above forge's own: then that is what
/// the step gets, and is said.
fn rlimits(ulimits: &[Ulimit], job: &Job<'_>) -> Vec<Rlimit> {
    for ulimit in ulimits {
        if let Some(ceiling) = crate::sandbox::ceiling(&ulimit.name)
            && ulimit.hard.is_none_or(|hard| hard > ceiling)
        {
            let text =
                format!("warning: --ulimit {}: without CAP_SYS_RESOURCE no more than {ceiling}", ulimit.name);
            job.events.emit(Event::Note { step: job.step, text });
        }
    }
    let rlimit =
        |Ulimit { name, soft, hard }: &Ulimit| Rlimit { name: name.clone(), soft: *soft, hard: *hard };
    ulimits.iter().map(rlimit).collect()
}

/// The environment as `NAME=value`: the step's, and the proxies. HOME is added inside, from the image's passwd.
fn environment(op: &RunOp) -> Vec<String> {
    op.env.iter().chain(&op.proxy_env).map(|(name, value)| format!("{name}={value}")).collect()
}

/// A `#!` heredoc, as the file that the command names.
fn script(op: &RunOp) -> Option<Mount> {
    let (name, content) = op.script.as_ref()?;
    let source = MountSource::File { bytes: content.as_bytes().to_vec(), mode: 0o755, uid: 0, gid: 0 };
    Some(Mount { target: format!("/dev/pipes/{name}"), source, read_only: true })
}

/// What a step's end means for the build.
fn judge(exit: Exit, Said { out_of_pids, output }: Said, op: &RunOp) -> Result<(), WorldError> {
    if exit == Exit::Code(0) {
        return Ok(());
    }
    let code = exit.code();
    let mut how = format!("exit code: {code}");
    let mut hint = None;
    match exit {
        Exit::OutOfMemory { limit_bytes, .. } => {
            how.push_str(&format!(" (out of memory: its limit is {limit_bytes} bytes)"));
            hint = Some("give it more with --memory, or let it need less".to_owned());
        }
        Exit::Signal(signal) => how.push_str(&format!(" (killed by signal {signal})")),
        Exit::Code(_) => {}
    }
    if let Some(limit) = out_of_pids {
        how.push_str(&format!(" (it reached its limit of {limit} processes)"));
        hint = Some("give it more with --resource pids=N".to_owned());
    }
    if exit == Exit::Signal(libc::SIGKILL) {
        hint = Some("if nobody killed it, the machine ran out of memory: see dmesg".to_owned());
    }
    let message = format!("process {:?} did not complete successfully: {how}", op.args.join(" "));
    Err(WorldError { output, hint, ..WorldError::new(TroubleKind::Command(code), message) })
}
