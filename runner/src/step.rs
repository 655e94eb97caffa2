//! RUN, carried out: a sandbox over a draft, its output, its end.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use forge_solver::event::Event;
use forge_solver::op::{RunOp, Ulimit, types};
use forge_solver::{Job, StepId, TroubleKind, WorldError};
use forge_store::{Draft, Snapshot, Store};

pub use crate::bounds::{Bounds, HostAddress};
use crate::emulation::{Emulators, is_foreign};
use crate::end::{End, judge};
use crate::files::LocalContext;
use crate::isolation::{Climbed, Rung};
use crate::mounts::{self, Keep, Mounted, Placing};
use crate::network::resolv_conf::hosts;
use crate::network::{Backend, Chosen, Lease, Networks, Options};
use crate::roots::Roots;
use crate::sandbox::spec::{Mount, MountSource, Network, Rlimit, Rootfs, SandboxSpec, Security, User};
use crate::secrets::Secrets;
use crate::zygote::{self, Running, Stdio, Zygote};
use crate::{Cgroup, Exit, Failure, devices, output, terminal, trouble};

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
    /// Hears of RUNs that fail.
    pub on_failure: Option<Box<dyn OnFailure>>,
}

/// One RUN to carry out.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    /// What to do.
    pub op: &'a RunOp,
    /// Its inputs, and where it is shown.
    pub job: &'a Job<'a>,
    /// The files it stands on.
    pub below: &'a Snapshot,
    /// What it writes goes here.
    pub draft: &'a Draft,
    /// The contexts that its mounts may name.
    pub contexts: &'a HashMap<String, Arc<LocalContext>>,
}

/// Told of a RUN that failed, while its files are still there.
pub trait OnFailure: Send + Sync {
    /// Told; the build goes on, and ends, when this returns.
    fn failed(&self, step: &FailedStep<'_>);
}

/// A RUN that failed, with what it has written.
pub struct FailedStep<'a> {
    steps: &'a Steps<'a>,
    task: &'a Task<'a>,
    rootfs: &'a Rootfs,
    /// Why.
    pub error: &'a WorldError,
}

impl FailedStep<'_> {
    /// Its name.
    #[must_use]
    pub fn label(&self) -> &str {
        self.task.job.label
    }

    /// Opens a shell in it, on our own terminal.
    pub fn shell(&self, started: &dyn Fn(Arc<Running>)) -> Result<Exit, WorldError> {
        let program = shell_of(self.task.op);
        let ended = self.steps.converse(self.task, self.rootfs, &program, started)?;
        ended.map_err(|failure| trouble::of_start(&failure))
    }
}

/// A shell for looking around in a step: the one that it uses itself, or `/bin/sh`.
#[must_use]
pub fn shell_of(op: &RunOp) -> Vec<String> {
    const SHELLS: [&str; 7] = ["sh", "ash", "bash", "dash", "fish", "ksh", "zsh"];
    let own =
        op.args.first().filter(|program| SHELLS.contains(&program.rsplit('/').next().unwrap_or(program)));
    vec![own.map_or("/bin/sh", String::as_str).to_owned()]
}

/// A step's sandbox before its start, and what must outlive it.
struct Prepared<'a> {
    spec: SandboxSpec,
    handles: Vec<OwnedFd>,
    lease: Option<Lease<'a>>,
    /// What to say if its program turns out to be for another machine.
    foreign: Option<WorldError>,
    _keep: Vec<Box<dyn Keep>>,
}

/// The steps of a build: one zygote, one set of networks, what runs now.
pub struct Steps<'a> {
    store: &'a Store,
    zygote: Mutex<Option<Arc<Zygote>>>,
    secrets: Secrets,
    bounds: Bounds,
    on_failure: Option<Box<dyn OnFailure>>,
    networks: Networks,
    roots: Roots<'a>,
    emulators: Emulators,
    isolation: Climbed,
    hardened: bool,
    /// What the networks are was said.
    told: AtomicBool,
    /// What the rung lacks was said.
    told_rung: AtomicBool,
    /// That steps have no limit on processes was said.
    told_limit: AtomicBool,
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
            emulators: Emulators::new(settings.isolation.rung, &settings.search_path),
            isolation: settings.isolation,
            hardened: settings.hardened,
            networks: Networks::new(Options {
                runtime_dir: settings.runtime_dir,
                search_path: settings.search_path,
                backend: None,
                reach_host: settings.bounds.reach_host(),
            }),
            bounds: settings.bounds,
            on_failure: settings.on_failure,
            told: AtomicBool::new(false),
            told_rung: AtomicBool::new(false),
            told_limit: AtomicBool::new(false),
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

    /// Runs one RUN.
    pub fn run(&self, task: &Task<'_>) -> Result<(), WorldError> {
        let Task { op, job, below, draft, .. } = *task;
        self.check_rung(op, job)?;
        let mut prepared = Some(self.prepare(task)?);
        let note = |text| job.events.emit(Event::Note { step: job.step, text });
        let (_, verdict) = self.roots.run(below, draft, &note, &mut |rootfs| {
            // Another way to make the tree is another try, with mounts of its own.
            let prepared = prepared.take().map_or_else(|| self.prepare(task), Ok)?;
            let attempt = self.start(prepared, &rootfs, job)?;
            Ok(attempt.map(|end| {
                let exit = end.exit;
                let verdict = judge(end, op);
                if let Err(error) = &verdict {
                    self.tell_of_failure(task, &rootfs, error);
                }
                (exit, verdict)
            }))
        })?;
        verdict
    }

    /// Whoever wants to look at a step that failed does so while its tree is there.
    fn tell_of_failure(&self, task: &Task<'_>, rootfs: &Rootfs, error: &WorldError) {
        if let Some(hook) = self.on_failure.as_ref().filter(|_| !self.cancelled.load(Ordering::SeqCst)) {
            hook.failed(&FailedStep { steps: self, task, rootfs, error });
        }
    }

    /// Runs an interactive program in place of the step's own: with its mounts, environment, user, directory and
    /// network, on our own terminal. `started` gets the running sandbox.
    pub fn enter(
        &self,
        task: &Task<'_>,
        program: &[String],
        started: &dyn Fn(Arc<Running>),
    ) -> Result<Exit, WorldError> {
        self.check_rung(task.op, task.job)?;
        let entered = self.roots.run_only(task.below, task.draft, &mut |rootfs| {
            Ok(self.converse(task, &rootfs, program, started)?.map(|exit| (exit, ())))
        });
        entered.map(|(exit, ())| exit)
    }

    fn converse(
        &self,
        task: &Task<'_>,
        rootfs: &Rootfs,
        program: &[String],
        started: &dyn Fn(Arc<Running>),
    ) -> Result<Result<Exit, Failure>, WorldError> {
        let mut prepared = self.prepare(task)?;
        prepared.spec.args = program.to_vec();
        prepared.spec.terminal = true;
        let (stdio, _) = output::pipe().map_err(trouble::of_sandbox)?;
        let running = match self.spawn(&mut prepared, rootfs, stdio, task.job)? {
            Ok(running) => running,
            Err(failure) => return Ok(Err(failure)),
        };
        started(running.clone());
        if terminal::converse(&running, true).is_err() {
            running.kill();
        }
        let end = running.wait();
        lock(&self.running).remove(&task.job.step);
        match (end, prepared.foreign) {
            (Err(failure), Some(error)) if is_foreign(&failure) => Err(error),
            (end, _) => Ok(end),
        }
    }

    /// Everything that a step's sandbox is to have, but for its tree.
    fn prepare(&self, task: &Task<'_>) -> Result<Prepared<'_>, WorldError> {
        let Task { op, job, contexts, .. } = *task;
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
        let Mounted { mounts, mut handles, env, keep, .. } = mounted;
        spec.env.extend(env);
        spec.mounts.extend(mounts);
        devices::add(&op.devices, &mut spec, &mut handles, job)?;
        let foreign = self.emulators.provide(&op.platform, &mut spec, &mut handles);
        Ok(Prepared { spec, handles, lease, foreign, _keep: keep })
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

    /// Runs what was prepared to its end, and passes on what it says.
    fn start(
        &self,
        mut prepared: Prepared<'_>,
        rootfs: &Rootfs,
        job: &Job<'_>,
    ) -> Result<Result<End, Failure>, WorldError> {
        let (stdio, output) = output::pipe().map_err(trouble::of_sandbox)?;
        let running = match self.spawn(&mut prepared, rootfs, stdio, job)? {
            Ok(running) => running,
            Err(failure) => return Ok(Err(failure)),
        };
        let output = output::pump(output, job.step, job.events, self.impatience());
        let end = running.wait();
        let out_of_pids = running.out_of_pids();
        lock(&self.running).remove(&job.step);
        if self.cancelled.load(Ordering::SeqCst) {
            return Err(WorldError::new(TroubleKind::Cancelled, "cancelled"));
        }
        match (end, prepared.foreign) {
            (Err(failure), Some(error)) if is_foreign(&failure) => Err(error),
            (end, _) => Ok(end.map(|exit| End { exit, out_of_pids, output })),
        }
    }

    fn spawn(
        &self,
        prepared: &mut Prepared<'_>,
        rootfs: &Rootfs,
        stdio: Stdio,
        job: &Job<'_>,
    ) -> Result<Result<Arc<Running>, Failure>, WorldError> {
        let Prepared { spec, handles, lease, .. } = prepared;
        spec.rootfs = rootfs.clone();
        let cgroup = self.cgroup(spec, job)?;
        let handles = std::mem::take(handles);
        let netns = lease.as_ref().and_then(Lease::netns);
        let zygote = self.zygote()?;
        let running = match zygote.spawn(zygote::Job { spec, stdio, handles, netns, cgroup }) {
            Err(zygote::ZygoteError::Sandbox(failure)) => return Ok(Err(failure)),
            other => Arc::new(other.map_err(trouble::of_zygote)?),
        };
        lock(&self.running).insert(job.step, running.clone());
        if self.cancelled.load(Ordering::SeqCst) {
            running.kill();
        }
        Ok(Ok(running))
    }

    /// The step's cgroup. That it has no limit on processes is said once.
    fn cgroup(&self, spec: &SandboxSpec, job: &Job<'_>) -> Result<Option<Cgroup>, WorldError> {
        let granted = Cgroup::create(&spec.limits, spec.cgroup_parent.as_deref())
            .map_err(|error| trouble::of_cgroup(&error))?;
        // Below, the rung has said so.
        if let Some(missing) = &granted.missing
            && self.isolation.rung.has_namespaces()
            && !self.told_limit.swap(true, Ordering::Relaxed)
        {
            let remedy = match missing.remedy() {
                "" => String::new(),
                remedy => format!("; to have one: {remedy}"),
            };
            let text = format!("warning: steps have no limit on processes: {missing}{remedy}");
            job.events.emit(Event::Note { step: job.step, text });
        }
        Ok(granted.cgroup)
    }

    /// What to say of a step that goes on although it was asked to end; once.
    fn impatience(&self) -> impl FnMut() -> Option<String> {
        let mut ticks = 0;
        move || {
            ticks += u32::from(self.cancelled.load(Ordering::SeqCst));
            let seconds = GRACE.as_secs();
            // The first tick may come right after the signal.
            (ticks == 2).then(|| {
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
