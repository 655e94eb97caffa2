//! Where a registry may send us: the rules for realms, redirects and upload locations, in one place.
//!
//! A registry names other addresses in its answers, and a hostile one names addresses that only this machine can
//! reach: the cloud's metadata service, a router, a daemon on loopback. So a hop may not leave TLS, may not carry
//! a user name, and may not be to a literal private address unless the registry itself is at one like it.
//! Host names that resolve to private addresses are not looked through: inside a company that is how registries
//! and their storage are named.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use reqwest::Url;

/// Scheme, host and port: what credentials are bound to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Origin {
    /// The origin of an http or https URL.
    pub fn of(url: &Url) -> Self {
        Self {
            scheme: url.scheme().to_owned(),
            host: url.host_str().unwrap_or_default().to_owned(),
            port: url.port_or_known_default().unwrap_or_default(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

/// Host and port as people write them: the port only where it is not the scheme's.
pub fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// From where an address can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// A name, or an address of the internet.
    Public,
    /// An address of a private network.
    Private,
    /// This machine.
    Loopback,
    /// Link-local, unspecified, multicast, broadcast: no registry is there, but metadata services are.
    Never,
}

/// True for `localhost`, `127.0.0.0/8` and `::1`, with or without a port. Nothing else counts: not a name that
/// resolves there, and not `localhost.example.com`.
pub fn is_loopback(host: &str) -> bool {
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| reach_of_ip(ip) == Reach::Loopback)
}

/// True for literal addresses where no server of files is: link-local, unspecified, multicast, broadcast.
pub fn is_never(url: &Url) -> bool {
    reach(url) == Reach::Never
}

fn reach(url: &Url) -> Reach {
    let host = url.host_str().unwrap_or_default().trim_end_matches('.');
    if host == "localhost" || host.ends_with(".localhost") {
        return Reach::Loopback;
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse().map_or(Reach::Public, reach_of_ip)
}

fn reach_of_ip(ip: IpAddr) -> Reach {
    match ip {
        IpAddr::V4(v4) if v4.is_loopback() => Reach::Loopback,
        IpAddr::V4(v4) if v4.is_link_local() || v4.is_broadcast() || v4.is_multicast() => Reach::Never,
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Reach::Never,
        // 100.64.0.0/10 is carrier-grade NAT: private in all but name.
        IpAddr::V4(v4) if v4.is_private() || (v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64) => {
            Reach::Private
        }
        IpAddr::V4(_) => Reach::Public,
        IpAddr::V6(v6) => reach_of_v6(v6),
    }
}

fn reach_of_v6(ip: Ipv6Addr) -> Reach {
    // Mapped, compatible, NAT64 and 6to4 addresses reach the IPv4 address inside.
    let [a, b, .., g, h] = ip.segments();
    let v4 = |high: u16, low: u16| {
        reach_of_ip(IpAddr::from((u32::from(high) << 16 | u32::from(low)).to_be_bytes()))
    };
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Loopback,
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => v4(g, h),
        [0x2002, _, c, ..] => v4(b, c),
        _ if ip.is_multicast() || a & 0xffc0 == 0xfe80 => Reach::Never,
        _ if a & 0xfe00 == 0xfc00 => Reach::Private,
        _ => Reach::Public,
    }
}

/// Checks an address that a registry, or someone whom it sent us to, sends us to.
///
/// `registry` is the configured address, `from` the one that answered, `trusted` says that the user vouches for
/// this registry's private addresses.
///
/// # Errors
/// The reason, to follow "an address ".
pub fn check_hop(registry: &Url, from: &Url, to: &Url, trusted: bool) -> Result<(), String> {
    let shown = format!("{}://{}", to.scheme(), host_of(to));
    match to.scheme() {
        "https" => {}
        "http" if from.scheme() == "http" => {}
        "http" => return Err(format!("without TLS ({shown})")),
        other => return Err(format!("of scheme `{}`", crate::text::clean(other))),
    }
    if !to.username().is_empty() || to.password().is_some() {
        return Err(format!("with a user name in it ({shown})"));
    }
    if to.host_str() == registry.host_str() {
        return Ok(());
    }
    match reach(to) {
        Reach::Public => Ok(()),
        Reach::Never => Err(format!("that no registry has ({shown})")),
        there if trusted || there == reach(registry) => Ok(()),
        _ => Err(format!("in a private network ({shown})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn only_literal_loopback_is_loopback() {
        for yes in
            ["localhost", "LOCALHOST:5000", "127.0.0.1", "127.9.9.9:1", "[::1]:5000", "[::ffff:127.0.0.1]"]
        {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in
            ["localhost.evil.com", "evil.localhost.com:80", "127.0.0.1.evil.com", "10.0.0.1", "[::2]", ""]
        {
            assert!(!is_loopback(no), "{no}");
        }
    }

    #[test]
    fn private_addresses_are_reached_only_from_private_registries() {
        let public = url("https://registry.example/v2/");
        for refused in [
            "http://cdn.example/x",
            "file:///etc/passwd",
            "ftp://cdn.example/x",
            "https://u:p@cdn.example/x",
            "https://u@cdn.example/x",
            "https://10.0.0.1/x",
            "https://192.168.1.1/x",
            "https://172.16.0.1/x",
            "https://100.64.0.1/x",
            "https://127.0.0.1/x",
            "https://localhost/x",
            "https://x.localhost/x",
            "https://2130706433/x",
            "https://0x7f.1/x",
            "https://0.0.0.0/x",
            "https://169.254.169.254/x",
            "https://[::1]/x",
            "https://[::]/x",
            "https://[fe80::1]/x",
            "https://[fd00::1]/x",
            "https://[::ffff:10.0.0.1]/x",
            "https://[64:ff9b::a9fe:a9fe]/x",
            "https://[2002:7f00:1::]/x",
            "https://224.0.0.1/x",
        ] {
            assert!(check_hop(&public, &public, &url(refused), false).is_err(), "{refused}");
        }
        for taken in ["https://cdn.example/x", "https://8.8.8.8/x", "https://registry.example:444/x"] {
            assert_eq!(check_hop(&public, &public, &url(taken), false), Ok(()), "{taken}");
        }
        let local = url("http://127.0.0.1:5000/v2/");
        assert_eq!(check_hop(&local, &local, &url("http://127.0.0.2:1/x"), false), Ok(()));
        assert!(check_hop(&local, &local, &url("http://10.0.0.1/x"), false).is_err());
        assert_eq!(check_hop(&local, &local, &url("http://10.0.0.1/x"), true), Ok(()));
        assert!(check_hop(&local, &local, &url("http://169.254.169.254/x"), true).is_err());
        // After a hop to TLS there is no way back.
        assert!(check_hop(&local, &url("https://127.0.0.1/"), &url("http://127.0.0.1/x"), true).is_err());
    }
}
