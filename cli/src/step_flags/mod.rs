//! What steps and containers may use: the flags for it, and what they mean.

mod limits;
mod words;

use clap::Args;
use forge_runner::spec::Limits;
use forge_runner::step::Bounds;
use forge_solver::op::Ulimit;

use crate::failure::{Failure, Kind};
use limits::{agree, set, size};
use words::{host, ulimit};

/// Bounds of RUN steps, and of containers.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Limits of steps")]
pub struct StepFlags {
    /// Another line for /etc/hosts; host-gateway as IP is the machine itself (repeatable)
    #[arg(long = "add-host", value_name = "HOST:IP")]
    pub add_hosts: Vec<String>,

    /// A resource limit: nofile, core, nproc, … (repeatable)
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]")]
    pub ulimits: Vec<String>,

    /// The size of /dev/shm
    #[arg(long, value_name = "SIZE")]
    pub shm_size: Option<String>,

    /// The cgroup to put steps under: absolute, or below forge's own
    #[arg(long, value_name = "PATH")]
    pub cgroup_parent: Option<String>,

    /// Limits of each step: memory, memory-swap, cpus, pids, cpu-shares, cpu-period, cpu-quota, cpuset-cpus, cpuset-mems (comma-separated, repeatable)
    #[arg(long = "resource", value_name = "KEY=VALUE")]
    pub resources: Vec<String>,

    /// The same as --resource memory=
    #[arg(short = 'm', long, value_name = "SIZE")]
    pub memory: Option<String>,

    /// Memory and swap together; -1 is unlimited swap
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,

    /// Processors' worth of time, such as 1.5
    #[arg(long, value_name = "N")]
    pub cpus: Option<String>,

    /// Weight against other work; 1024 is what others have
    #[arg(short = 'c', long, value_name = "N")]
    pub cpu_shares: Option<String>,

    /// The period that --cpu-quota is for, in microseconds
    #[arg(long, value_name = "US")]
    pub cpu_period: Option<String>,

    /// Processor time in each period, in microseconds
    #[arg(long, value_name = "US")]
    pub cpu_quota: Option<String>,

    /// The processors, such as 0-2
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,

    /// The memory nodes
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,

    /// Processes and threads [default: 16384]; -1 is unlimited
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub pids_limit: Option<String>,
}

impl StepFlags {
    /// Everything that is no part of a step's meaning.
    pub fn bounds(&self) -> Result<Bounds, Failure> {
        let hosts = self.add_hosts.iter().map(|text| host(text)).collect::<Result<_, _>>()?;
        Ok(Bounds { limits: self.limits()?, cgroup_parent: self.cgroup_parent.clone(), hosts })
    }

    /// `--ulimit`; the last of a name counts.
    pub fn ulimits(&self) -> Result<Vec<Ulimit>, Failure> {
        let mut ulimits: Vec<Ulimit> = Vec::new();
        for text in &self.ulimits {
            let ulimit = ulimit(text)?;
            ulimits.retain(|known| known.name != ulimit.name);
            ulimits.push(ulimit);
        }
        ulimits.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(ulimits)
    }

    /// `--shm-size` in bytes.
    pub fn shm_size(&self) -> Result<Option<u64>, Failure> {
        self.shm_size.as_deref().map(|text| size("--shm-size", text)).transpose()
    }

    fn limits(&self) -> Result<Limits, Failure> {
        let mut limits = Limits::default();
        for resource in &self.resources {
            // A list of processors has commas of its own: what has no `=` goes on with the value before it.
            let mut pairs: Vec<String> = Vec::new();
            for part in resource.split(',') {
                match pairs.last_mut() {
                    Some(last) if !part.contains('=') => last.push_str(&format!(",{part}")),
                    _ => pairs.push(part.to_owned()),
                }
            }
            for pair in &pairs {
                let Some((key, value)) = pair.split_once('=') else {
                    return Err(usage(&format!("--resource {resource}: `{pair}` is not KEY=VALUE")));
                };
                set(&mut limits, &format!("--resource {key}="), key, value)?;
            }
        }
        for (key, value) in [
            ("memory", &self.memory),
            ("memory-swap", &self.memory_swap),
            ("cpus", &self.cpus),
            ("cpu-shares", &self.cpu_shares),
            ("cpu-period", &self.cpu_period),
            ("cpu-quota", &self.cpu_quota),
            ("cpuset-cpus", &self.cpuset_cpus),
            ("cpuset-mems", &self.cpuset_mems),
            ("pids", &self.pids_limit),
        ] {
            let flag = if key == "pids" { "pids-limit" } else { key };
            if let Some(value) = value {
                set(&mut limits, &format!("--{flag} "), key, value)?;
            }
        }
        agree(&limits)?;
        Ok(limits)
    }
}

fn usage(message: &str) -> Failure {
    Failure::new(Kind::Usage, message, Some("see forge help build".into()))
}

#[cfg(test)]
mod tests {
    use forge_runner::spec::Swap;
    use forge_runner::step::HostAddress;

    use super::*;

    fn limits(resources: &[&str]) -> Result<Limits, String> {
        let resources = resources.iter().map(|text| (*text).to_owned()).collect();
        StepFlags { resources, ..StepFlags::default() }.limits().map_err(|failure| failure.to_string())
    }

    #[test]
    fn resources_are_read() {
        let read = limits(&["memory=64m,memory-swap=-1", "cpus=1.5,cpuset-cpus=0-1,3,pids=100"]).unwrap();
        assert_eq!(
            read,
            Limits {
                memory_bytes: Some(64 << 20),
                swap: Some(Swap::Unlimited),
                cpu_millis: Some(1500),
                cpuset_cpus: Some("0-1,3".into()),
                pids: Some(100),
                ..Limits::none()
            }
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (text, complaint) in [
            ("memory", "--resource memory: `memory` is not KEY=VALUE"),
            ("memory=lots", "--resource memory: invalid size: 'lots'"),
            ("memory-swap=1g", "--memory-swap needs --memory"),
            (
                "memory=2g,memory-swap=1g",
                "--memory-swap counts memory too: it must not be less than --memory",
            ),
            ("cpus=two", "--resource cpus=two is no number of processors"),
            ("cpus=1,cpu-quota=5000", "--cpus and --cpu-quota contradict each other"),
            ("cpuset-cpus=a-b", "--resource cpuset-cpus=a-b is no list such as 0-2,5"),
            (
                "disk=1",
                "there is no resource `disk`; there are memory, memory-swap, cpus, pids, cpu-shares, cpu-period, cpu-quota, cpuset-cpus and cpuset-mems",
            ),
        ] {
            assert_eq!(limits(&[text]).unwrap_err(), complaint, "{text}");
        }
    }

    #[test]
    fn hosts_are_read_with_either_sign() {
        let ip = |text: &str| HostAddress::Ip(text.parse().unwrap());
        for (text, name, address) in [
            ("db:192.0.2.1", "db", ip("192.0.2.1")),
            ("db=192.0.2.1", "db", ip("192.0.2.1")),
            ("db:::1", "db", ip("::1")),
            ("db=[2001:db8::1]", "db", ip("2001:db8::1")),
            ("db:host-gateway", "db", HostAddress::Host),
        ] {
            assert_eq!(host(text).unwrap(), (name.to_owned(), address), "{text}");
        }
        for text in ["db", ":1.2.3.4", "db:1.2.3", "a b:1.2.3.4", "db:"] {
            assert!(host(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ulimits_are_read() {
        let read = |text: &str| ulimit(text).map(|u| (u.soft, u.hard)).map_err(|failure| failure.to_string());
        assert_eq!(read("nofile=10:20"), Ok((Some(10), Some(20))));
        assert_eq!(read("nofile=10"), Ok((Some(10), Some(10))));
        assert_eq!(read("core=-1"), Ok((None, None)));
        for text in ["nofile", "nofile=x", "files=1", "nofile=20:10", "nofile=-1:10"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
