//! What limits mean in the files of cgroups, v1 and v2.

use crate::sandbox::spec::{DEFAULT_PIDS_MAX, Limits, Swap};

/// The kernel's default period of the CPU controller, in microseconds.
const CPU_PERIOD_US: u64 = 100_000;
/// The least quota that the kernel takes, in microseconds.
const CPU_QUOTA_MIN_US: u64 = 1000;

/// One controller with the settings it is wanted for.
pub(super) struct Demand {
    pub(super) controller: &'static str,
    /// Whether the user asked for it, so that doing without is an error.
    pub(super) asked: bool,
    /// The bound that a message may have to name.
    pub(super) bound: Option<u64>,
    pub(super) v1: Vec<Setting>,
    pub(super) v2: Vec<Setting>,
}

/// A file and what is written into it.
pub(super) struct Setting {
    pub(super) file: &'static str,
    pub(super) value: String,
    /// A kernel that does not have the file is fine.
    pub(super) optional: bool,
}

impl Demand {
    fn new(controller: &'static str) -> Demand {
        Demand { controller, asked: true, bound: None, v1: Vec::new(), v2: Vec::new() }
    }
}

fn set(file: &'static str, value: impl ToString) -> Setting {
    Setting { file, value: value.to_string(), optional: false }
}

/// What `limits` ask of which controllers; `placed` says that a cgroup is wanted in any case.
pub(super) fn demands(limits: &Limits, placed: bool) -> Vec<Demand> {
    let Limits {
        memory_bytes,
        swap,
        cpu_millis,
        cpu_shares,
        cpu_period_us,
        cpu_quota_us,
        cpuset_cpus,
        cpuset_mems,
        pids,
    } = limits;
    let mut demands = Vec::new();
    if let Some(pids) = *pids {
        let settings = || vec![set("pids.max", pids)];
        let asked = placed || pids != DEFAULT_PIDS_MAX;
        demands.push(Demand {
            asked,
            bound: Some(pids),
            v1: settings(),
            v2: settings(),
            ..Demand::new("pids")
        });
    }
    demands.extend(memory_bytes.map(|bytes| memory(bytes, *swap)));
    if cpu_millis.is_some() || cpu_shares.is_some() || cpu_period_us.is_some() || cpu_quota_us.is_some() {
        let period = cpu_period_us.unwrap_or(CPU_PERIOD_US);
        let quota = cpu_quota_us.or(cpu_millis.map(|millis| millis.saturating_mul(period) / 1000));
        demands.push(cpu(*cpu_shares, period, quota.map(|quota| quota.max(CPU_QUOTA_MIN_US))));
    }
    if cpuset_cpus.is_some() || cpuset_mems.is_some() {
        let named = [("cpuset.cpus", cpuset_cpus), ("cpuset.mems", cpuset_mems)];
        let settings =
            || named.iter().filter_map(|(file, value)| Some(set(file, value.as_ref()?))).collect::<Vec<_>>();
        demands.push(Demand { v1: settings(), v2: settings(), ..Demand::new("cpuset") });
    }
    demands
}

/// As with Docker, as much swap as memory where nothing is said; a bound on memory alone would only move the step
/// into swap. v1 counts both together, v2 counts swap.
fn memory(bytes: u64, swap: Option<Swap>) -> Demand {
    let (total, beside) = match swap {
        Some(Swap::Unlimited) => ("-1".to_owned(), "max".to_owned()),
        Some(Swap::Total(total)) => (total.to_string(), total.saturating_sub(bytes).to_string()),
        None => (bytes.saturating_mul(2).to_string(), bytes.to_string()),
    };
    // A kernel that counts no swap has none of these files.
    let optional = |file, value| Setting { file, value, optional: true };
    Demand {
        bound: Some(bytes),
        v1: vec![set("memory.limit_in_bytes", bytes), optional("memory.memsw.limit_in_bytes", total)],
        v2: vec![set("memory.max", bytes), optional("memory.swap.max", beside)],
        ..Demand::new("memory")
    }
}

fn cpu(shares: Option<u64>, period: u64, quota: Option<u64>) -> Demand {
    let mut demand = Demand::new("cpu");
    if let Some(shares) = shares {
        let shares = shares.clamp(2, 1 << 18);
        demand.v1.push(set("cpu.shares", shares));
        // 2..262144 to 1..10000, as runc and systemd do.
        demand.v2.push(set("cpu.weight", 1 + (shares - 2) * 9999 / 262_142));
    }
    if let Some(quota) = quota {
        demand.v1.extend([set("cpu.cfs_period_us", period), set("cpu.cfs_quota_us", quota)]);
        demand.v2.push(set("cpu.max", format!("{quota} {period}")));
    } else if period != CPU_PERIOD_US {
        demand.v1.push(set("cpu.cfs_period_us", period));
        demand.v2.push(set("cpu.max", format!("max {period}")));
    }
    demand
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(settings: &[Setting]) -> Vec<String> {
        settings.iter().map(|setting| format!("{}={}", setting.file, setting.value)).collect()
    }

    #[test]
    fn only_what_was_asked_for_must_be_there() {
        let asked = |limits: &Limits| -> Vec<(&str, bool)> {
            demands(limits, false).iter().map(|demand| (demand.controller, demand.asked)).collect()
        };
        assert_eq!(asked(&Limits::default()), [("pids", false)]);
        let limits = Limits {
            memory_bytes: Some(1),
            cpu_millis: Some(500),
            cpuset_cpus: Some("0".into()),
            pids: Some(10),
            ..Limits::default()
        };
        assert_eq!(asked(&limits), [("pids", true), ("memory", true), ("cpu", true), ("cpuset", true)]);
    }

    #[test]
    fn limits_are_written_as_each_version_spells_them() {
        let of = |limits: Limits| {
            let demand = demands(&Limits { pids: None, ..limits }, false).remove(0);
            (written(&demand.v1), written(&demand.v2))
        };
        let memory = |swap| of(Limits { memory_bytes: Some(100), swap, ..Limits::default() });
        let (v1, v2) = memory(None);
        assert_eq!(v1, ["memory.limit_in_bytes=100", "memory.memsw.limit_in_bytes=200"]);
        assert_eq!(v2, ["memory.max=100", "memory.swap.max=100"]);
        let (v1, v2) = memory(Some(Swap::Total(150)));
        assert_eq!(
            (v1[1].as_str(), v2[1].as_str()),
            ("memory.memsw.limit_in_bytes=150", "memory.swap.max=50")
        );
        let (v1, v2) = memory(Some(Swap::Unlimited));
        assert_eq!(
            (v1[1].as_str(), v2[1].as_str()),
            ("memory.memsw.limit_in_bytes=-1", "memory.swap.max=max")
        );
        let (v1, v2) = of(Limits { cpu_millis: Some(1500), cpu_shares: Some(1024), ..Limits::default() });
        assert_eq!(v1, ["cpu.shares=1024", "cpu.cfs_period_us=100000", "cpu.cfs_quota_us=150000"]);
        assert_eq!(v2, ["cpu.weight=39", "cpu.max=150000 100000"]);
    }
}
