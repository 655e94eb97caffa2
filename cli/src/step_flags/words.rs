//! Words for hosts and ulimits.

use std::net::IpAddr;

use forge_runner::is_rlimit_name;
use forge_runner::step::HostAddress;
use forge_solver::op::Ulimit;

use super::usage;
use crate::failure::Failure;

/// `HOST:IP` or `HOST=IP`; an IPv6 address may stand in brackets.
pub(super) fn host(text: &str) -> Result<(String, HostAddress), Failure> {
    let fail = || usage(&format!("--add-host {text}: write HOST:IP, HOST=IP or HOST:host-gateway"));
    let cut = text.split_once('=').or_else(|| text.split_once(':'));
    let (name, address) = cut.filter(|(name, _)| !name.is_empty()).ok_or_else(fail)?;
    if name.contains(|c: char| c.is_whitespace() || c == '#') {
        return Err(fail());
    }
    if address == "host-gateway" {
        return Ok((name.to_owned(), HostAddress::Host));
    }
    let address = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    Ok((name.to_owned(), HostAddress::Ip(address.parse::<IpAddr>().map_err(|_| fail())?)))
}

/// `NAME=SOFT[:HARD]`; -1 and `unlimited` are no limit.
pub(super) fn ulimit(text: &str) -> Result<Ulimit, Failure> {
    let fail = |why: &str| usage(&format!("--ulimit {text}: {why}"));
    let (name, values) = text.split_once('=').ok_or_else(|| fail("write NAME=SOFT[:HARD]"))?;
    if !is_rlimit_name(name) {
        return Err(fail(&format!("there is no limit `{name}`")));
    }
    let value = |text: &str| match text {
        "-1" | "unlimited" => Ok(None),
        number => number.parse().map(Some).map_err(|_| fail(&format!("`{number}` is no number"))),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (value(soft)?, value(hard)?);
    if let Some(bound) = hard
        && soft.is_none_or(|soft| soft > bound)
    {
        return Err(fail("the soft limit must not be greater than the hard one"));
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}
