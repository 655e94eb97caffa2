//! Networks for steps: an own network namespace with a way out.
//!
//! As root a veth pair with NAT by nftables ([`veth`]); as a user a process that carries the traffic ([`userspace`]:
//! pasta, else slirp4netns); the host's own network only when neither can work, and then [`Networks::chosen`] says
//! why. A namespace is handed out as a [`Lease`] and used again by the next step once its processes are gone: steps
//! cannot change it, for they lack CAP_NET_ADMIN, and one that did have it ([`Lease::taint`]) takes it to the grave.

mod namespace;
mod netlink;
pub mod resolv_conf;
mod userspace;
mod veth;

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use namespace::Namespace;
use userspace::{Helper, Program};
use veth::Nat;

use crate::sandbox::spec;

/// How many idle namespaces are kept for the next steps.
const POOL: usize = 4;

/// A way to give a namespace a network, in order of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// A veth pair, and NAT by nftables. Needs root.
    Veth,
    /// `pasta` carries the traffic.
    Pasta,
    /// `slirp4netns` carries the traffic.
    Slirp4netns,
    /// No namespace: the host's network.
    Host,
}

impl fmt::Display for Backend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Backend::Veth => "veth with nftables",
            Backend::Pasta => "pasta",
            Backend::Slirp4netns => "slirp4netns",
            Backend::Host => "the host's network",
        })
    }
}

/// Which backend is used, and what kept the better ones from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The one in use.
    pub backend: Backend,
    /// Those that were tried before, each with its reason.
    pub refused: Vec<(Backend, String)>,
}

/// Why a step has no network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A program is not installed.
    #[error("find {program} in {search_path}; install it ({package})")]
    NoProgram {
        /// The program.
        program: &'static str,
        /// Where it was looked for.
        search_path: String,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// A device or file cannot be used.
    #[error("open {path}: {error}; {remedy}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The kernel's error.
        error: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// A program failed.
    #[error("run {program}: {message}")]
    Program {
        /// The program.
        program: &'static str,
        /// What it said.
        message: String,
    },
    /// A call to the kernel failed.
    #[error("{what}: {error}")]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// Its error.
        error: io::Error,
    },
    /// All subnets that could be used are.
    #[error("find a free subnet for a build network: all are in use")]
    NoSubnet,
}

impl NetworkError {
    fn kernel(what: &'static str) -> impl Fn(io::Error) -> NetworkError {
        move |error| NetworkError::Kernel { what, error }
    }
}

/// What [`Networks`] needs to know.
#[derive(Debug, Clone)]
pub struct Options {
    /// A directory for lock files, the same for every forge process of this user; made if missing.
    pub runtime_dir: PathBuf,
    /// Where programs are looked for, in the form of `PATH`.
    pub search_path: String,
    /// Use just this one, instead of the first that works.
    pub backend: Option<Backend>,
    /// Steps may connect to services of the host by its address on their network (`host-gateway`).
    pub reach_host: bool,
}

/// The networks of one forge process. Dropping it removes what it made, and what forge processes that were killed
/// left behind, once nobody uses it any more.
#[derive(Debug)]
pub struct Networks {
    options: Options,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    chosen: Option<Chosen>,
    nat: Option<Nat>,
    idle: Vec<Namespace>,
}

impl Networks {
    /// Nothing is made before the first lease.
    #[must_use]
    pub fn new(options: Options) -> Networks {
        Networks { options, state: Mutex::new(State::default()) }
    }

    /// A namespace with a network, for one step.
    ///
    /// # Errors
    /// [`NetworkError`] if the backend that was asked for, or all but the host's network, failed for a reason that
    /// may pass. Without a wanted backend the host's network is what remains.
    pub fn lease(&self) -> Result<Lease<'_>, NetworkError> {
        let mut state = self.lock();
        let namespace = match state.idle.pop() {
            Some(idle) => Some(idle),
            None => self.make(&mut state)?,
        };
        Ok(Lease { networks: self, namespace, tainted: false })
    }

    /// Makes a namespace for a later [`Networks::lease`], so that this one is immediate.
    ///
    /// # Errors
    /// Those of [`Networks::lease`].
    pub fn prepare(&self) -> Result<(), NetworkError> {
        let mut state = self.lock();
        if state.idle.is_empty() {
            let made = self.make(&mut state)?;
            state.idle.extend(made);
        }
        Ok(())
    }

    /// What is in use; `None` before the first lease.
    #[must_use]
    pub fn chosen(&self) -> Option<Chosen> {
        self.lock().chosen.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self, state: &mut State) -> Result<Option<Namespace>, NetworkError> {
        if let Some(chosen) = &state.chosen {
            return self.make_with(chosen.backend, &mut state.nat);
        }
        let wanted = self.options.backend;
        let mut refused = Vec::new();
        for backend in [Backend::Veth, Backend::Pasta, Backend::Slirp4netns, Backend::Host] {
            if wanted.is_some_and(|wanted| wanted != backend) {
                continue;
            }
            match self.make_with(backend, &mut state.nat) {
                Ok(namespace) => {
                    state.chosen = Some(Chosen { backend, refused });
                    return Ok(namespace);
                }
                Err(error) if wanted.is_some() => return Err(error),
                Err(error) => refused.push((backend, error.to_string())),
            }
        }
        Ok(None)
    }

    fn make_with(&self, backend: Backend, nat: &mut Option<Nat>) -> Result<Option<Namespace>, NetworkError> {
        let Options { runtime_dir, search_path, .. } = &self.options;
        let helper = |program| {
            let namespace = namespace::Bare::new()?;
            let helper = Helper::start(program, &namespace, search_path)?;
            Ok(Some(Namespace::with_helper(namespace, helper)))
        };
        match backend {
            Backend::Host => Ok(None),
            Backend::Pasta => helper(Program::Pasta),
            Backend::Slirp4netns => helper(Program::Slirp4netns),
            Backend::Veth => {
                let installed = match nat.take() {
                    Some(nat) => nat,
                    None => Nat::install(runtime_dir, search_path)?,
                };
                nat.insert(installed).connect(namespace::Bare::new()?, self.options.reach_host).map(Some)
            }
        }
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let (idle, nat) = (std::mem::take(&mut state.idle), state.nat.take());
        // The kernel waits for tens of milliseconds before an interface is gone, once for all that go together.
        std::thread::scope(|scope| {
            for namespace in idle {
                // Without a thread to be had, it is dropped here.
                let _ = std::thread::Builder::new().spawn_scoped(scope, move || drop(namespace));
            }
            drop(nat);
        });
    }
}

/// A network for one step, given back when dropped (after the step's sandbox is gone).
#[derive(Debug)]
pub struct Lease<'a> {
    networks: &'a Networks,
    namespace: Option<Namespace>,
    tainted: bool,
}

impl Lease<'_> {
    /// The namespace to join; `None` means the host's.
    #[must_use]
    pub fn netns(&self) -> Option<BorrowedFd<'_>> {
        self.namespace.as_ref().map(|namespace| namespace.descriptor().as_fd())
    }

    /// What the sandbox's specification has to say for this lease.
    #[must_use]
    pub fn network(&self) -> spec::Network {
        if self.namespace.is_some() { spec::Network::Default } else { spec::Network::Host }
    }

    /// What /etc/resolv.conf has to say in it, made from the host's.
    #[must_use]
    pub fn resolv_conf(&self) -> String {
        match &self.namespace {
            None => resolv_conf::for_host(),
            Some(namespace) => resolv_conf::for_namespace(namespace.forwarder()),
        }
    }

    /// The host's address as the step sees it; `None` where the host cannot be reached.
    #[must_use]
    pub fn gateway(&self) -> Option<Ipv4Addr> {
        match &self.namespace {
            None => Some(Ipv4Addr::LOCALHOST),
            Some(namespace) => namespace.gateway(),
        }
    }

    /// The step may have changed the namespace: nobody else gets it.
    pub fn taint(&mut self) {
        self.tainted = true;
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let Some(namespace) = self.namespace.take() else { return };
        let mut state = self.networks.lock();
        if !self.tainted && state.idle.len() < POOL {
            state.idle.push(namespace);
        }
    }
}
