//! The network of root: one veth pair and /30 subnet per namespace, and one nftables table for all.
//!
//! Traffic from a sandbox may leave the machine, and answers come back; it may not reach other sandboxes, nor the
//! host itself except for DNS, unless `--add-host NAME:host-gateway` asks for it. The host may connect to a sandbox, to try a server that runs in it. A forge that finds forwarding off turns it on, lets only its own traffic through, and
//! turns it off again when the last one ends. Who uses the table is known by locks, which a killed process cannot
//! keep: the next one finds the rest and tidies up at its own end.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::NetworkError;
use super::namespace::{Bare, Namespace};
use super::netlink::Netlink;
use crate::userns::{self, find_program};

const TABLE: &str = "forge_build";
const INTERFACE_PREFIX: &str = "forge";
/// Interfaces of steps that may reach the host: they have names of their own, so that no rule has to be added and
/// taken back for each.
const REACHING_PREFIX: &str = "forgehost";
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
/// First two octets of the networks that subnets are cut from; the first that the host does not route is taken.
const NETWORKS: [[u8; 2]; 5] = [[10, 206], [10, 173], [172, 29], [10, 43], [192, 168]];
/// /30 subnets in a /16.
const SUBNETS: u16 = 1 << 14;
const DEFAULT_MTU: u32 = 1500;
/// The mark that tells traffic of sandboxes from other forwarded traffic: "forg".
const MARK: &str = "0x666f7267";

/// The installed table. Dropping the last one of all forge processes removes it.
#[derive(Debug)]
pub(super) struct Nat {
    nft: PathBuf,
    directory: PathBuf,
    /// Shared by all forge processes that use the table.
    users: File,
    netlink: Netlink,
    network: [u8; 2],
    mtu: u32,
}

impl Nat {
    pub(super) fn install(runtime_dir: &Path, search_path: &str) -> Result<Nat, NetworkError> {
        let nft = find_program("nft", search_path).ok_or_else(|| NetworkError::NoProgram {
            program: "nft",
            search_path: search_path.to_owned(),
            package: "nftables",
        })?;
        // Root of a namespace of a user's: the host's network is not its own to change, and no lock is needed to know it.
        if !userns::is_first() {
            File::options().write(true).open(FORWARDING).map_err(unusable)?;
        }
        let directory = runtime_dir.join("network");
        fs::create_dir_all(&directory).map_err(NetworkError::kernel("create network runtime directory"))?;
        let (setup, users) =
            lock_for_setup(&directory).map_err(NetworkError::kernel("lock build network"))?;
        let netlink = Netlink::open().map_err(NetworkError::kernel("open netlink socket"))?;
        let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
        let mtu = uplink_mtu(&routes);
        let nat = Nat { nft, directory, users, netlink, network: free_network(&routes), mtu };
        let installed =
            turn_on_forwarding(&nat.directory).and_then(|before| run_nft(&nat.nft, &table(before)));
        // Unlocked before `nat` can be dropped, which takes the same lock to undo what was done.
        drop(setup);
        installed.map(|()| nat)
    }

    /// Connects a namespace to the outside.
    pub(super) fn connect(&self, bare: Bare, reach_host: bool) -> Result<Namespace, NetworkError> {
        for number in 0..SUBNETS {
            let path = self.directory.join(format!("subnet.{number}"));
            let lock = File::create(&path).map_err(NetworkError::kernel("create subnet lock"))?;
            if lock.try_lock().is_err() {
                continue;
            }
            let prefix = if reach_host { REACHING_PREFIX } else { INTERFACE_PREFIX };
            match self.add_pair(&bare, prefix, number, lock) {
                // A pair of another runtime directory's forge, or one the kernel is still taking down.
                Err(NetworkError::Kernel { error, .. }) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => return other.map(|subnet| Namespace::with_subnet(bare, subnet)),
            }
        }
        Err(NetworkError::NoSubnet)
    }

    fn add_pair(&self, bare: &Bare, prefix: &str, number: u16, lock: File) -> Result<Subnet, NetworkError> {
        let name = format!("{prefix}{number}");
        let [outer, inner] = addresses(self.network, number);
        self.netlink
            .add_veth(&name, "eth0", bare.descriptor.as_fd(), self.mtu)
            .map_err(NetworkError::kernel("create veth pair"))?;
        let configure = || -> io::Result<u32> {
            let here = self.netlink.index(&name)?;
            self.netlink.add_address(here, outer, 30)?;
            let there = bare.netlink.index("eth0")?;
            bare.netlink.add_address(there, inner, 30)?;
            bare.netlink.set_up(there)?;
            bare.netlink.add_default_route(outer)?;
            Ok(here)
        };
        let index = configure().map_err(NetworkError::kernel("configure veth pair"))?;
        Ok(Subnet { index, gateway: outer, _lock: lock })
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
        let _ = run_nft(&self.nft, &format!("table inet {TABLE}\ndelete table inet {TABLE}\n"));
        let before = self.directory.join("ip_forward");
        if fs::read_to_string(&before).is_ok_and(|value| value.trim() == "0") {
            let _ = fs::write(FORWARDING, "0");
        }
        let _ = fs::remove_file(before);
    }
}

/// One connected pair; removed when dropped.
#[derive(Debug)]
pub(super) struct Subnet {
    index: u32,
    gateway: Ipv4Addr,
    _lock: File,
}

impl Subnet {
    /// The host's address in it.
    pub(super) fn gateway(&self) -> Ipv4Addr {
        self.gateway
    }
}

impl Drop for Subnet {
    fn drop(&mut self) {
        if let Ok(netlink) = Netlink::open() {
            let _ = netlink.delete(self.index);
        }
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

/// The whole ruleset, replaced in one transaction.
fn table(was_forwarding: bool) -> String {
    let [own, reaching] = [INTERFACE_PREFIX, REACHING_PREFIX].map(|prefix| format!("\"{prefix}*\""));
    let others = if was_forwarding { "" } else { "drop" };
    format!(
        "table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
  chain forward {{
    type filter hook forward priority filter - 5;
    iifname {own} oifname {own} drop
    iifname {own} meta nfproto ipv6 drop
    iifname {own} ct mark set {MARK} accept
    oifname {own} ct state established,related accept
    oifname {own} drop
    {others}
  }}
  chain input {{
    type filter hook input priority filter - 5;
    iifname {own} ct state established,related accept
    iifname {reaching} meta nfproto ipv4 accept
    iifname {own} meta nfproto ipv4 udp dport 53 accept
    iifname {own} meta nfproto ipv4 tcp dport 53 accept
    iifname {own} drop
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    ct mark {MARK} masquerade
  }}
}}
"
    )
}

fn run_nft(nft: &Path, script: &str) -> Result<(), NetworkError> {
    let failed = |message: String| NetworkError::Program { program: "nft", message };
    let mut child = Command::new(nft)
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(script.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("failed").to_owned()))
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
