//! RUN, carried out: a sandbox over a draft, its output, its end.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use forge_solver::event::{Event, Events, Stream};
use forge_solver::op::{RunOp, types};
use forge_solver::{Job, StepId, TroubleKind, WorldError};
use forge_store::{Draft, Snapshot, Store};

use crate::files::{LocalContext, StackView, Upper};
use crate::mounts::{self, Mounted};
use crate::network::resolv_conf::hosts;
use crate::network::{Backend, Chosen, Lease, Networks, Options};
use crate::sandbox::spec::{
    self, Mount, MountSource, Network, Rootfs, SandboxSpec, Security, Upper as UpperDirs, User,
};
use crate::secrets::Secrets;
use crate::zygote::{self, Running, Stdio, Zygote};
use crate::{Cgroup, Exit, trouble};

/// How much of a step's output is kept for the message if it fails, in bytes.
const TAIL_BYTES: usize = 16 << 10;

/// How long a step may take to obey SIGTERM before it is killed.
const GRACE: Duration = Duration::from_millis(1500);

/// What all steps of a build have in common.
pub struct Settings {
    /// Small files of the running system: network leases.
    pub runtime_dir: PathBuf,
    /// `PATH`, to find network helpers in.
    pub search_path: String,
    /// What `--secret` and `--ssh` gave.
    pub secrets: Secrets,
}

/// The steps of a build: one zygote, one set of networks, what runs now.
pub struct Steps<'a> {
    store: &'a Store,
    zygote: Mutex<Option<Arc<Zygote>>>,
    secrets: Secrets,
    networks: Networks,
    /// What the networks are was said.
    told: AtomicBool,
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
            networks: Networks::new(Options {
                runtime_dir: settings.runtime_dir,
                search_path: settings.search_path,
                backend: None,
            }),
            told: AtomicBool::new(false),
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
        let view = StackView::open(self.store, below).map_err(trouble::of_files)?;
        // The layer's root directory looks as the one below; overlayfs shows the upper one's metadata.
        let upper = Upper::new(draft, &view, self.store.layers().xattrs()).map_err(trouble::of_files)?;
        upper.finish().map_err(trouble::of_files)?;
        let mounted = mounts::prepare(self.store, op, job, contexts, &self.secrets)?;
        let mut lease = self.network(op, job)?;
        if let (Some(lease), types::Security::Insecure) = (&mut lease, op.security) {
            lease.taint();
        }
        let mut spec = SandboxSpec::new(self.rootfs(below, draft)?, op.args.clone());
        spec.env = environment(op);
        spec.cwd.clone_from(&op.cwd);
        spec.network = lease.as_ref().map_or(plain_network(op), Lease::network);
        spec.resolv_conf =
            Some(lease.as_ref().map_or_else(crate::network::resolv_conf::for_host, Lease::resolv_conf));
        spec.hosts = Some(hosts(&spec.hostname, &[]));
        spec.security = match op.security {
            types::Security::Sandbox => Security::sandbox(),
            types::Security::Insecure => Security::insecure(),
        };
        spec.user = User::Named(op.user.clone());
        spec.mounts.extend(script(op));
        let Mounted { mounts, handles, env, keep: _keep } = mounted;
        spec.env.extend(env);
        spec.mounts.extend(mounts);
        let exit = self.start(&spec, handles, lease.as_ref(), job)?;
        judge(exit, op)
    }

    fn start(
        &self,
        spec: &SandboxSpec,
        handles: Vec<OwnedFd>,
        lease: Option<&Lease<'_>>,
        job: &Job<'_>,
    ) -> Result<(Exit, Vec<u8>), WorldError> {
        let cgroup =
            Cgroup::create(&spec.limits, spec.cgroup_parent.as_deref()).map_err(trouble::of_sandbox)?;
        let (stdio, outputs) = pipes().map_err(trouble::of_sandbox)?;
        let zygote = self.zygote()?;
        let netns = lease.and_then(Lease::netns);
        let running =
            zygote.spawn(zygote::Job { spec, stdio, handles, netns, cgroup }).map_err(trouble::of_zygote)?;
        let running = Arc::new(running);
        lock(&self.running).insert(job.step, running.clone());
        if self.cancelled.load(Ordering::SeqCst) {
            running.kill();
        }
        let tail = pump(outputs, job.step, job.events);
        let end = running.wait();
        lock(&self.running).remove(&job.step);
        if self.cancelled.load(Ordering::SeqCst) {
            return Err(WorldError::new(TroubleKind::Cancelled, "cancelled"));
        }
        let exit = end.map_err(|failure| trouble::of_start(&failure))?;
        Ok((exit, tail))
    }

    fn zygote(&self) -> Result<Arc<Zygote>, WorldError> {
        let mut slot = lock(&self.zygote);
        if let Some(zygote) = &*slot {
            return Ok(zygote.clone());
        }
        let zygote = Zygote::start(&self.store.state_dir().join("skeleton")).map_err(trouble::of_sandbox)?;
        Ok(slot.insert(Arc::new(zygote)).clone())
    }

    fn rootfs(&self, below: &Snapshot, draft: &Draft) -> Result<Rootfs, WorldError> {
        let lowers = self.store.layers().stack(below).map_err(trouble::of_store)?;
        let xattrs = marks(self.store);
        let upper = UpperDirs { upper: draft.tree(), work: draft.work() };
        Ok(Rootfs::Overlay { lowers, upper: Some(upper), xattrs })
    }

    /// The way out for a step with the default network; none for the others.
    fn network(&self, op: &RunOp, job: &Job<'_>) -> Result<Option<Lease<'_>>, WorldError> {
        if op.network != types::Network::Default {
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

/// How overlayfs' marks are written in a store's trees, in the sandbox's terms.
pub(crate) fn marks(store: &Store) -> spec::OverlayXattrs {
    match store.layers().xattrs() {
        forge_store::tree::OverlayXattrs::Trusted => spec::OverlayXattrs::Trusted,
        forge_store::tree::OverlayXattrs::User => spec::OverlayXattrs::User,
    }
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

/// The ends that we read from a step.
struct Outputs {
    stdout: OwnedFd,
    stderr: OwnedFd,
}

fn pipes() -> io::Result<(Stdio, Outputs)> {
    let (stdout, stdout_end) = io::pipe()?;
    let (stderr, stderr_end) = io::pipe()?;
    let stdin = File::open(Path::new("/dev/null"))?;
    let stdio = Stdio { stdin: stdin.into(), stdout: stdout_end.into(), stderr: stderr_end.into() };
    Ok((stdio, Outputs { stdout: stdout.into(), stderr: stderr.into() }))
}

/// Passes on what a step says until it and all its children have closed their ends; gives the last of it.
fn pump(outputs: Outputs, step: StepId, events: &dyn Events) -> Vec<u8> {
    let tail = Mutex::new(Vec::new());
    let read = |end: OwnedFd, stream: Stream| {
        let mut end = File::from(end);
        let mut buffer = vec![0; 32 << 10];
        while let Ok(n) = end.read(&mut buffer)
            && n > 0
        {
            let bytes = buffer[..n].to_vec();
            let mut tail = lock(&tail);
            tail.extend_from_slice(&bytes);
            let surplus = tail.len().saturating_sub(TAIL_BYTES);
            tail.drain(..surplus);
            events.emit(Event::Output { step, stream, bytes });
        }
    };
    let Outputs { stdout, stderr } = outputs;
    std::thread::scope(|scope| {
        scope.spawn(|| read(stderr, Stream::Stderr));
        read(stdout, Stream::Stdout);
    });
    tail.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn judge((exit, output): (Exit, Vec<u8>), op: &RunOp) -> Result<(), WorldError> {
    let command = op.args.join(" ");
    let (code, how) = match exit {
        Exit::Code(0) => return Ok(()),
        Exit::Code(code) => (code, format!("exit code: {code}")),
        Exit::Signal(signal) => {
            (128 + signal, format!("exit code: {} (killed by signal {signal})", 128 + signal))
        }
        Exit::OutOfMemory { limit_bytes } => {
            (137, format!("exit code: 137 (out of memory: its limit is {limit_bytes} bytes)"))
        }
    };
    let message = format!("process {command:?} did not complete successfully: {how}");
    Err(WorldError { output, ..WorldError::new(TroubleKind::Command(code), message) })
}
