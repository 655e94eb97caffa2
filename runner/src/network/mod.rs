//! Networks for steps: an own network namespace with a way out.
//!
//! As root a veth pair with NAT by nftables ([`veth`]); as a user a process that carries the traffic ([`userspace`]:
//! pasta, else slirp4netns); the host's own network only when neither can work, and then [`Networks::chosen`] says
//! why. A namespace is handed out as a [`Lease`] and used again by the next step once its processes are gone: steps
//! cannot change it, for they lack CAP_NET_ADMIN, and one that did have it ([`Lease::taint`]) takes it to the grave.

mod namespace;
mod netlink;
mod nftables;
mod pool;
pub mod resolv_conf;
mod rtnetlink;
mod userspace;
mod veth;
mod way;

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;

use namespace::Namespace;
use pool::Pool;

use crate::sandbox::spec;

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
    /// The rules that let traffic out were refused.
    #[error(
        "write the nftables rules of build networks ({part}): {error}; see that the kernel has nf_tables"
    )]
    Rules {
        /// The table, chain or socket.
        part: &'static str,
        /// The kernel's error.
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
    pool: Arc<Pool>,
}

impl Networks {
    /// Nothing is made before the first lease.
    #[must_use]
    pub fn new(options: Options) -> Networks {
        Networks { pool: Arc::new(Pool::new(options)) }
    }

    /// A namespace with a network, for one step. Any number of threads may ask at once.
    ///
    /// # Errors
    /// [`NetworkError`] if the backend that was asked for, or all but the host's network, failed for a reason that
    /// may pass. Without a wanted backend the host's network is what remains.
    pub fn lease(&self) -> Result<Lease<'_>, NetworkError> {
        Ok(Lease { networks: self, namespace: self.pool.take()?, tainted: false })
    }

    /// Makes `count` namespaces for later leases, in the background. What keeps it from that, the lease finds too.
    pub fn prepare(&self, count: usize) {
        Pool::prepare(&self.pool, count);
    }

    /// What is in use; `None` before the first lease.
    #[must_use]
    pub fn chosen(&self) -> Option<Chosen> {
        self.pool.chosen()
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        self.pool.empty();
    }
}

/// Whether the kernel has nftables for the network of root, and lets this process use it.
pub(crate) fn try_nftables() -> io::Result<()> {
    nftables::probe()
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
        if let Some(namespace) = self.namespace.take().filter(|_| !self.tainted) {
            self.networks.pool.give_back(namespace);
        }
    }
}
