//! What /etc/resolv.conf and /etc/hosts say in a sandbox.
//!
//! The host's resolvers are taken over, except for those on loopback, which mean something else in another network
//! namespace. systemd-resolved (127.0.0.53) names the real ones in a file of its own. Where nothing remains, public
//! resolvers take their place, as BuildKit does. A network helper (pasta, slirp4netns) forwards queries to whatever
//! the host uses, at an address of its own; then that is the only server.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

const HOST_FILE: &str = "/etc/resolv.conf";
/// The real resolvers behind systemd-resolved's stub.
const SYSTEMD_FILE: &str = "/run/systemd/resolve/resolv.conf";
const SYSTEMD_STUB: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53));
/// BuildKit's fallback.
const PUBLIC: [Ipv4Addr; 2] = [Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::new(8, 8, 4, 4)];

/// The address at which a helper takes queries for the host's resolver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forwarder(pub Ipv4Addr);

/// For a step on the host's network: the host's file as it is.
#[must_use]
pub fn for_host() -> String {
    fs::read_to_string(HOST_FILE).unwrap_or_default()
}

/// For a step in a namespace.
#[must_use]
pub fn for_namespace(forwarder: Option<Forwarder>) -> String {
    let mut text = fs::read_to_string(HOST_FILE).unwrap_or_default();
    if servers(&text).collect::<Vec<_>>() == [SYSTEMD_STUB] {
        text = fs::read_to_string(SYSTEMD_FILE).unwrap_or(text);
    }
    rewrite(&text, forwarder)
}

/// /etc/hosts of a sandbox: localhost, its own name, and what `--add-host` adds as (name, address).
#[must_use]
pub fn hosts(hostname: &str, added: &[(String, IpAddr)]) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         ff00::0\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n",
    );
    text.push_str(&format!("127.0.0.1\t{hostname}\n"));
    for (name, address) in added {
        text.push_str(&format!("{address}\t{name}\n"));
    }
    text
}

/// Keeps search domains and options, and the servers that can be reached.
fn rewrite(text: &str, forwarder: Option<Forwarder>) -> String {
    let mut result: String = text
        .lines()
        .filter(|line| {
            matches!(line.split_whitespace().next(), Some("search" | "domain" | "options" | "sortlist"))
        })
        .map(|line| format!("{line}\n"))
        .collect();
    // IPv6 servers too are unreachable where the namespace only has IPv4.
    let reachable: Vec<IpAddr> =
        servers(text).filter(|server| server.is_ipv4() && !server.is_loopback()).collect();
    let servers = match (forwarder, reachable.is_empty()) {
        (Some(Forwarder(address)), _) => vec![address.into()],
        (None, false) => reachable,
        (None, true) => PUBLIC.map(IpAddr::V4).to_vec(),
    };
    for server in servers {
        result.push_str(&format!("nameserver {server}\n"));
    }
    result
}

fn servers(text: &str) -> impl Iterator<Item = IpAddr> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_servers_go_and_the_rest_stays() {
        let text =
            "# made by x\nsearch example.org\nnameserver 127.0.0.1\nnameserver 192.0.2.53\noptions ndots:2\n";
        assert_eq!(rewrite(text, None), "search example.org\noptions ndots:2\nnameserver 192.0.2.53\n");
    }

    #[test]
    fn a_forwarder_answers_for_all_and_public_servers_where_none_is_reachable() {
        let text = "nameserver 127.0.0.1\nnameserver ::1\n";
        assert_eq!(rewrite(text, Some(Forwarder(Ipv4Addr::new(10, 0, 2, 3)))), "nameserver 10.0.2.3\n");
        assert_eq!(rewrite(text, None), "nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
    }

    #[test]
    fn added_hosts_come_last() {
        let text = hosts("box", &[("db".into(), "192.0.2.7".parse().unwrap())]);
        assert!(text.ends_with("127.0.0.1\tbox\n192.0.2.7\tdb\n"));
    }
}
