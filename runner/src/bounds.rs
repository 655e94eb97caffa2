//! What the user grants every step and container: limits, a place among the cgroups, lines of /etc/hosts.

use std::net::{IpAddr, Ipv4Addr};

use forge_solver::{TroubleKind, WorldError};

use crate::network::Lease;
use crate::sandbox::spec::Limits;

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
