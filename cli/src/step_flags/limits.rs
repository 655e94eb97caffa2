//! Words for limits, as `--resource` and Docker's own flags have them.

use forge_runner::spec::{Limits, Swap};

use super::usage;
use crate::failure::Failure;

/// Sets one limit; `flag` is how the user wrote it.
pub(super) fn set(limits: &mut Limits, flag: &str, key: &str, value: &str) -> Result<(), Failure> {
    let number = || -> Result<Option<u64>, Failure> {
        let number = value.parse::<u64>().map_err(|_| usage(&format!("{flag}{value} is no number")))?;
        // As with Docker, 0 says nothing.
        Ok((number > 0).then_some(number))
    };
    match key {
        "memory" => limits.memory_bytes = Some(size(flag, value)?).filter(|bytes| *bytes > 0),
        "memory-swap" if value == "-1" => limits.swap = Some(Swap::Unlimited),
        "memory-swap" => limits.swap = Some(size(flag, value)?).filter(|bytes| *bytes > 0).map(Swap::Total),
        "cpus" => limits.cpu_millis = Some(cpus(flag, value)?).filter(|millis| *millis > 0),
        "cpu-shares" => limits.cpu_shares = number()?,
        "cpu-period" => limits.cpu_period_us = number()?,
        "cpu-quota" if value == "-1" => limits.cpu_quota_us = None,
        "cpu-quota" => limits.cpu_quota_us = number()?,
        "cpuset-cpus" => limits.cpuset_cpus = Some(list(flag, value)?),
        "cpuset-mems" => limits.cpuset_mems = Some(list(flag, value)?),
        "pids" if value == "-1" => limits.pids = None,
        "pids" => limits.pids = number()?,
        _ => {
            return Err(usage(&format!(
                "there is no resource `{key}`; there are memory, memory-swap, cpus, pids, cpu-shares, cpu-period, \
                 cpu-quota, cpuset-cpus and cpuset-mems"
            )));
        }
    }
    Ok(())
}

/// What contradicts itself is refused, in Docker's words.
pub(super) fn agree(limits: &Limits) -> Result<(), Failure> {
    match (limits.memory_bytes, limits.swap) {
        (None, Some(_)) => return Err(usage("--memory-swap needs --memory")),
        (Some(memory), Some(Swap::Total(total))) if total < memory => {
            return Err(usage("--memory-swap counts memory too: it must not be less than --memory"));
        }
        _ => {}
    }
    if limits.cpu_millis.is_some() && limits.cpu_quota_us.is_some() {
        return Err(usage("--cpus and --cpu-quota contradict each other"));
    }
    Ok(())
}

pub(super) fn size(flag: &str, text: &str) -> Result<u64, Failure> {
    forge_parser::parse_size(text)
        .map_err(|error| usage(&format!("{}: {error}", flag.trim_end_matches([' ', '=']))))
}

/// Thousandths of a processor.
fn cpus(flag: &str, text: &str) -> Result<u64, Failure> {
    let cpus = text.parse::<f64>().ok().filter(|cpus| cpus.is_finite() && (0.0..1e6).contains(cpus));
    let cpus = cpus.ok_or_else(|| usage(&format!("{flag}{text} is no number of processors")))?;
    Ok((cpus * 1000.0).round() as u64)
}

/// `0-2,5`.
fn list(flag: &str, text: &str) -> Result<String, Failure> {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let range = |part: &str| match part.split_once('-') {
        Some((first, last)) => number(first) && number(last),
        None => number(part),
    };
    if text.split(',').all(range) {
        return Ok(text.to_owned());
    }
    Err(usage(&format!("{flag}{text} is no list such as 0-2,5")))
}
