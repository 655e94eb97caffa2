//! What the first process of a sandbox can make ready before it knows its work.
//!
//! Most steps of a build agree in it, so the process of the next one is born while the last one still runs: its
//! namespaces, /proc and /dev are there when the step comes, and only its tree is to be mounted.

use serde::{Deserialize, Serialize};

use super::spec::{Network, Rootfs, SandboxSpec};

/// The part of a [`SandboxSpec`] that has nothing of the step in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cradle {
    /// Namespaces of its own are made.
    pub(crate) has_namespaces: bool,
    /// A network namespace is among them.
    pub(crate) has_loopback: bool,
    /// Whether its mount namespace is the one that the tree will be in.
    pub(crate) has_mounts: bool,
    /// See [`super::spec::Security::confined`].
    pub(crate) confined: bool,
    /// See [`SandboxSpec::shm_size_bytes`].
    pub(crate) shm_size_bytes: u64,
}

impl Cradle {
    /// The one that a sandbox needs.
    pub(crate) fn of(spec: &SandboxSpec) -> Cradle {
        let has_namespaces = spec.rootfs.has_namespaces();
        Cradle {
            has_namespaces,
            has_loopback: has_namespaces && spec.network == Network::None,
            has_mounts: has_namespaces && !matches!(spec.rootfs, Rootfs::Mounted { .. }),
            confined: spec.security.confined,
            shm_size_bytes: spec.shm_size_bytes,
        }
    }
}
