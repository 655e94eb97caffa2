//! The network of root: one veth pair and /30 subnet per namespace, and one nftables table for all.
//!
//! Traffic from a sandbox may leave the machine, and answers come back; it may not reach other sandboxes, nor the
//! host itself except for DNS, unless `--add-host NAME:host-gateway` asks for it. The host may connect to a sandbox, to
//! try a server that runs in it. A forge that finds forwarding off turns it on, lets only its own traffic through, and
//! turns it off again when the last one ends. Who uses the table is known by locks, which a killed process cannot
//! keep: the next one finds the rest and tidies up at its own end.
//!
//! Nobody removes a pair: it goes with its namespace, and that with the last descriptor, whoever held it and however
//! that ended. The kernel does this aside; to ask for it and wait would take a build tens of milliseconds.

use std::fs::{self, File, TryLockError};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::NetworkError;
use super::namespace::{Bare, Namespace};
use super::nftables;
use super::rtnetlink::Rtnetlink;
use crate::userns;

pub(super) const INTERFACE_PREFIX: &str = "forge";
/// Interfaces of steps that may reach the host: they have names of their own, so that no rule has to be added and
/// taken back for each.
pub(super) const REACHING_PREFIX: &str = "forgehost";
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
/// First two octets of the networks that subnets are cut from; the first that the host does not route is taken.
const NETWORKS: [[u8; 2]; 5] = [[10, 206], [10, 173], [172, 29], [10, 43], [192, 168]];
/// /30 subnets in a /16.
const SUBNETS: u16 = 1 << 14;
const DEFAULT_MTU: u32 = 1500;

/// The installed table. Dropping the last one of all forge processes removes it.
#[derive(Debug)]
pub(super) struct Nat {
    directory: PathBuf,
    /// Shared by all forge processes that use the table.
    users: File,
    network: [u8; 2],
    mtu: u32,
}

impl Nat {
    pub(super) fn install(runtime_dir: &Path) -> Result<Nat, NetworkError> {
        // Root of a namespace of a user's: the host's network is not its own to change, and no lock is needed to know it.
        if !userns::is_first() {
            File::options().write(true).open(FORWARDING).map_err(unusable)?;
        }
        let directory = runtime_dir.join("network");
        fs::create_dir_all(&directory).map_err(NetworkError::kernel("create network runtime directory"))?;
        let (setup, users) =
            lock_for_setup(&directory).map_err(NetworkError::kernel("lock build network"))?;
        let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
        let mtu = uplink_mtu(&routes);
        let nat = Nat { directory, users, network: free_network(&routes), mtu };
        let installed = turn_on_forwarding(&nat.directory).and_then(write_rules);
        // Unlocked before `nat` can be dropped, which takes the same lock to undo what was done.
        drop(setup);
        installed.map(|()| nat)
    }

    /// Connects a namespace to the outside.
    pub(super) fn connect(&self, bare: Bare, reach_host: bool) -> Result<Namespace, NetworkError> {
        let host = Rtnetlink::open().map_err(NetworkError::kernel("open netlink socket"))?;
        for number in 0..SUBNETS {
            let path = self.directory.join(format!("subnet.{number}"));
            let lock = File::create(&path).map_err(NetworkError::kernel("create subnet lock"))?;
            // A pair may also be another runtime directory's, or one that the kernel is still taking down.
            let names = [INTERFACE_PREFIX, REACHING_PREFIX].map(|prefix| format!("{prefix}{number}"));
            if lock.try_lock().is_err() || names.iter().any(|name| host.index(name).is_ok()) {
                continue;
            }
            match self.add_pair(&host, &bare, &names[usize::from(reach_host)], number, lock) {
                Err(NetworkError::Kernel { error, .. }) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => return other.map(|subnet| Namespace::with_subnet(bare, subnet)),
            }
        }
        Err(NetworkError::NoSubnet)
    }

    fn add_pair(
        &self,
        host: &Rtnetlink,
        bare: &Bare,
        name: &str,
        number: u16,
        lock: File,
    ) -> Result<Subnet, NetworkError> {
        let [outer, inner] = addresses(self.network, number);
        host.add_veth(name, "eth0", bare.descriptor.as_fd(), self.mtu)
            .map_err(NetworkError::kernel("create veth pair"))?;
        let configure = || -> io::Result<()> {
            host.add_address(host.index(name)?, outer, 30)?;
            let there = bare.rtnetlink.index("eth0")?;
            bare.rtnetlink.add_address(there, inner, 30)?;
            bare.rtnetlink.set_up(there)?;
            bare.rtnetlink.add_default_route(outer)
        };
        configure().map_err(NetworkError::kernel("configure veth pair"))?;
        Ok(Subnet { gateway: outer, _lock: lock })
    }
}

impl Drop for Nat {
    fn drop(&mut self) {
        // Best effort: what cannot be taken down now is found by the next forge.
        let Ok(setup) = File::create(self.directory.join("setup.lock")) else { return };
        if setup.lock().is_err() || self.users.unlock().is_err() {
            return;
        }
        if matches!(self.users.try_lock(), Err(TryLockError::WouldBlock)) {
            return;
        }
        let _ = nftables::remove();
        let before = self.directory.join("ip_forward");
        if fs::read_to_string(&before).is_ok_and(|value| value.trim() == "0") {
            let _ = fs::write(FORWARDING, "0");
        }
        let _ = fs::remove_file(before);
    }
}

/// The subnet of one connected pair.
#[derive(Debug)]
pub(super) struct Subnet {
    gateway: Ipv4Addr,
    _lock: File,
}

impl Subnet {
    /// The host's address in it.
    pub(super) fn gateway(&self) -> Ipv4Addr {
        self.gateway
    }
}

/// One forge at a time sets up or takes down; any number may use.
fn lock_for_setup(directory: &Path) -> io::Result<(File, File)> {
    let setup = File::create(directory.join("setup.lock"))?;
    setup.lock()?;
    let users = File::create(directory.join("users.lock"))?;
    users.lock_shared()?;
    Ok((setup, users))
}

fn unusable(error: io::Error) -> NetworkError {
    NetworkError::Unusable {
        path: FORWARDING.into(),
        error,
        remedy: "forwarding must be allowed for a build network of its own",
    }
}

/// Says whether the host forwarded before any forge came, and makes it forward.
fn turn_on_forwarding(directory: &Path) -> Result<bool, NetworkError> {
    let note = directory.join("ip_forward");
    if fs::read_to_string(&note).is_ok_and(|value| value.trim() == "0") {
        fs::write(FORWARDING, "1").map_err(unusable)?;
        return Ok(false);
    }
    if fs::read_to_string(FORWARDING).map_err(unusable)?.trim() != "0" {
        return Ok(true);
    }
    fs::write(&note, "0").map_err(NetworkError::kernel("note the state of ip_forward"))?;
    fs::write(FORWARDING, "1").map_err(unusable)?;
    Ok(false)
}

fn write_rules(was_forwarding: bool) -> Result<(), NetworkError> {
    nftables::install(was_forwarding)
        .map_err(|nftables::Refused { part, error }| NetworkError::Rules { part, error })
}

/// The host's and the sandbox's address in subnet `number`.
fn addresses([first, second]: [u8; 2], number: u16) -> [Ipv4Addr; 2] {
    let [third, fourth] = (number << 2).to_be_bytes();
    [1, 2].map(|host| Ipv4Addr::new(first, second, third, fourth | host))
}

/// The first network that no route of the host overlaps; with all taken, the first: a wrong guess only hides some
/// hosts from the step.
fn free_network(routes: &str) -> [u8; 2] {
    let taken = |[first, second]: [u8; 2]| {
        let network = u32::from_be_bytes([first, second, 0, 0]);
        parse_routes(routes).any(|route| {
            let common = route.mask & 0xffff_0000;
            route.mask != 0 && route.target & common == network & common
        })
    };
    NETWORKS.into_iter().find(|network| !taken(*network)).unwrap_or(NETWORKS[0])
}

/// The MTU of the interface with the default route: a larger one inside would lose packets on the way out.
fn uplink_mtu(routes: &str) -> u32 {
    parse_routes(routes)
        .find(|route| route.mask == 0)
        .and_then(|route| fs::read_to_string(format!("/sys/class/net/{}/mtu", route.interface)).ok())
        .and_then(|mtu| mtu.trim().parse().ok())
        .unwrap_or(DEFAULT_MTU)
}

struct Route<'a> {
    interface: &'a str,
    target: u32,
    mask: u32,
}

/// The lines of /proc/net/route, addresses in host order. Routes of our own do not count.
fn parse_routes(routes: &str) -> impl Iterator<Item = Route<'_>> {
    routes.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [interface, target, _, _, _, _, _, mask, ..] = fields[..] else { return None };
        let address = |text| u32::from_str_radix(text, 16).ok().map(u32::swap_bytes);
        let ours = [REACHING_PREFIX, INTERFACE_PREFIX]
            .iter()
            .any(|prefix| interface.strip_prefix(prefix).is_some_and(|rest| rest.parse::<u16>().is_ok()));
        (!ours).then_some(())?;
        Some(Route { interface, target: address(target)?, mask: address(mask)? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
        eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";

    #[test]
    fn subnets_do_not_overlap() {
        assert_eq!(addresses([10, 206], 0), [Ipv4Addr::new(10, 206, 0, 1), Ipv4Addr::new(10, 206, 0, 2)]);
        assert_eq!(addresses([10, 206], 1)[0], Ipv4Addr::new(10, 206, 0, 5));
        assert_eq!(addresses([10, 206], 64)[1], Ipv4Addr::new(10, 206, 1, 2));
        assert_eq!(addresses([10, 206], SUBNETS - 1)[1], Ipv4Addr::new(10, 206, 255, 254));
    }

    #[test]
    fn a_network_that_the_host_routes_is_left_alone() {
        assert_eq!(free_network(ROUTES), [10, 206]);
        let ten = "eth1\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n";
        assert_eq!(free_network(&format!("{ROUTES}{ten}")), [172, 29]);
        let ours = "forge3\t0C00CE0A\t00000000\t0001\t0\t0\t0\tFCFFFFFF\t0\t0\t0\n";
        assert_eq!(free_network(&format!("{ROUTES}{ours}")), [10, 206]);
    }
}
