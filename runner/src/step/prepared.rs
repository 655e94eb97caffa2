//! Everything that a step's sandbox is to have, but for its tree: what the op says, put into the sandbox's terms.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use forge_solver::event::Event;
use forge_solver::op::{RunOp, Ulimit, types};
use forge_solver::{Job, WorldError};

use super::{Steps, Task};
use crate::isolation::Rung;
use crate::mounts::{self, Keep, Mounted, Placing};
use crate::network::resolv_conf::hosts;
use crate::network::{Backend, Chosen, Lease};
use crate::sandbox::spec::{Mount, MountSource, Network, Rlimit, Rootfs, SandboxSpec, Security, User};
use crate::{devices, trouble};

/// A step's sandbox before its start, and what must outlive it.
pub(super) struct Prepared<'a> {
    pub(super) spec: SandboxSpec,
    pub(super) handles: Vec<OwnedFd>,
    pub(super) lease: Option<Lease<'a>>,
    /// What to say if its program turns out to be for another machine.
    pub(super) foreign: Option<WorldError>,
    _keep: Vec<Box<dyn Keep>>,
}

impl Steps<'_> {
    /// Everything that a step's sandbox is to have, but for its tree.
    pub(super) fn prepare(&self, task: &Task<'_>) -> Result<Prepared<'_>, WorldError> {
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

    /// Whether mounts travel as descriptors or lie where they are found.
    fn placing(&self) -> Placing {
        if self.isolation.rung.has_namespaces() { Placing::Detached } else { Placing::Moved }
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
