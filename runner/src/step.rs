//! RUN, carried out: a sandbox over a draft, its output, its end.

mod failed;
mod nursery;
mod prepared;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use forge_solver::event::Event;
use forge_solver::op::{RunOp, types};
use forge_solver::{Job, Outlook, StepId, TroubleKind, WorldError};
use forge_store::{Draft, Snapshot, Store};

pub use crate::bounds::{Bounds, HostAddress};
use crate::emulation::{Emulators, is_foreign};
use crate::end::{End, judge};
use crate::files::LocalContext;
use crate::isolation::{Climbed, Rung};
use crate::network::{Lease, Networks, Options};
use crate::roots::Roots;
use crate::sandbox::spec::{Rootfs, SandboxSpec};
use crate::secrets::Secrets;
use crate::zygote::{self, Running, Stdio};
use crate::{Cgroup, Exit, Failure, output, terminal, trouble};
pub use failed::{FailedStep, OnFailure, shell_of};
use nursery::Nursery;
use prepared::Prepared;

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

/// The steps of a build: one zygote, one set of networks, what runs now.
pub struct Steps<'a> {
    store: &'a Store,
    nursery: Nursery,
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
    /// Nothing is started before a step runs, or is expected.
    pub fn new(store: &'a Store, settings: Settings) -> Self {
        Self {
            store,
            nursery: Nursery::new(store.state_dir().join("skeleton")),
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

    /// Makes ready what steps that are to come will need, while other work is done.
    pub fn expect(&self, outlook: &Outlook<'_>) {
        if outlook.steps.is_empty() || self.isolation.rung == Rung::None {
            return;
        }
        self.nursery.open(outlook.steps.len());
        if self.isolation.rung != Rung::Chroot {
            let has_own = |op: &&&RunOp| op.network == types::Network::Default;
            self.networks.prepare(outlook.first.iter().filter(has_own).count());
        }
    }

    /// Ends what waits for steps that do not come.
    pub fn expect_no_more(&self) {
        self.nursery.close();
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
            if self.hardened && rung == Rung::Chroot && !crate::sys::knows_scopes() {
                let text = "warning: --hardened cannot keep steps from signalling other processes of this user here: \
                            that takes Landlock, of Linux 6.12 or newer"
                    .to_owned();
                job.events.emit(Event::Note { step: job.step, text });
            }
        }
        Ok(())
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
        let handles = std::mem::take(handles);
        let netns = lease.as_ref().and_then(Lease::netns);
        let newborn = self.nursery.first_process(spec, || self.cgroup(spec, job))?;
        let running = match newborn.start(zygote::Job { spec, stdio, handles, netns, cgroup: None }) {
            Err(zygote::ZygoteError::Sandbox(failure)) => return Ok(Err(failure)),
            other => Arc::new(other.map_err(trouble::of_zygote)?),
        };
        lock(&self.running).insert(job.step, running.clone());
        if self.cancelled.load(Ordering::SeqCst) {
            running.kill();
        } else {
            self.nursery.prepare_next(spec, || self.cgroup(spec, job));
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
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
