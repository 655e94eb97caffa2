//! An own cgroup for each sandbox, so that what a step may use is bounded: on v1, hybrid and v2 hosts.
//!
//! ```text
//! <controller's mount>/<forge's own cgroup>/forge/<pid>.<n>
//! ```
//!
//! The name tells whose it is: a forge that was killed leaves empty cgroups behind, and the next one removes those
//! of processes that no longer exist. Only the controllers that are asked for are touched. Ending a sandbox does not
//! depend on cgroups (its PID namespace does that), so a host without writable ones is fine unless a limit was asked
//! for.

mod hierarchy;

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::sandbox::spec::{DEFAULT_PIDS_MAX, Limits};
use hierarchy::Version;
use hierarchy::{Hierarchies, Hierarchy};

pub(crate) use hierarchy::is_unified;

/// The directory below forge's own cgroup that holds those of its sandboxes.
const FAMILY: &str = "forge";
/// The kernel's default period of the CPU controller, in microseconds.
const CPU_PERIOD_US: u64 = 100_000;
/// A cgroup is busy for a moment after its last process has ended.
const REMOVAL_ATTEMPTS: u32 = 100;
const REMOVAL_PAUSE: Duration = Duration::from_millis(1);

/// Why a limit cannot be enforced.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No hierarchy with this controller can be written.
    #[error(
        "limit {controller} of a step: no writable cgroup with the {controller} controller ({reason}); \
         run as root, or delegate the controller to this user"
    )]
    Unavailable {
        /// `memory`, `cpu` or `pids`.
        controller: &'static str,
        /// What is there instead.
        reason: String,
    },
    /// The parent that was asked for is not a cgroup below the root.
    #[error("use cgroup parent {0}: not a relative path of plain names")]
    Parent(String),
}

/// One sandbox's cgroup; removed when dropped.
#[derive(Debug)]
pub struct Cgroup {
    directories: Vec<PathBuf>,
    procs: Vec<OwnedFd>,
    born_in: Option<OwnedFd>,
    memory: Option<(PathBuf, u64)>,
    pids: Option<(PathBuf, u64)>,
}

/// One controller with the settings it is wanted for.
struct Demand {
    controller: &'static str,
    /// Whether the user asked for it, so that doing without is an error.
    asked: bool,
    /// File and value; files that do not exist are passed over when optional.
    settings: Vec<Setting>,
}

struct Setting {
    v1: &'static str,
    v2: &'static str,
    value: String,
    optional: bool,
}

impl Cgroup {
    /// Makes a cgroup with `limits`, below `parent` if given. `None` if the host has no writable one and no limit
    /// but the default was asked for.
    ///
    /// # Errors
    /// [`CgroupError`] if a limit was asked for that cannot be enforced, or `parent` is no path of plain names.
    pub fn create(limits: &Limits, parent: Option<&str>) -> Result<Option<Cgroup>, CgroupError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let hierarchies = Hierarchies::of_this_process();
        let name = format!("{}.{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let family = family(parent)?;
        let mut cgroup =
            Cgroup { directories: Vec::new(), procs: Vec::new(), born_in: None, memory: None, pids: None };
        for demand in demands(limits, parent.is_some()) {
            match cgroup.add(&hierarchies, &family, &name, &demand) {
                Ok(()) => {}
                Err(error) if demand.asked => {
                    return Err(CgroupError::Unavailable {
                        controller: demand.controller,
                        reason: error.to_string(),
                    });
                }
                Err(_) => {}
            }
        }
        Ok(if cgroup.directories.is_empty() { None } else { Some(cgroup) })
    }

    fn add(
        &mut self,
        hierarchies: &Hierarchies,
        family: &Path,
        name: &str,
        demand: &Demand,
    ) -> io::Result<()> {
        let hierarchy = hierarchies.find(demand.controller).ok_or_else(|| no_controller(hierarchies))?;
        let directory = self.directory_in(hierarchy, family, name, demand.controller)?;
        for setting in &demand.settings {
            let file = directory.join(if hierarchy.version == Version::V2 { setting.v2 } else { setting.v1 });
            match fs::write(&file, &setting.value) {
                Err(error) if setting.optional && error.kind() != io::ErrorKind::PermissionDenied => {}
                other => other?,
            }
        }
        let limit = demand.settings.first().and_then(|setting| setting.value.parse().ok());
        match (demand.controller, limit) {
            ("memory", Some(limit)) => self.memory = Some((directory, limit)),
            ("pids", Some(limit)) => self.pids = Some((directory, limit)),
            _ => {}
        }
        Ok(())
    }

    /// The sandbox's directory in one hierarchy, made on first use. All controllers of v2 share one.
    fn directory_in(
        &mut self,
        hierarchy: &Hierarchy,
        family: &Path,
        name: &str,
        controller: &str,
    ) -> io::Result<PathBuf> {
        let family = hierarchy.own.join(family);
        let directory = family.join(name);
        if hierarchy.version == Version::V2 {
            hierarchy.enable(&family, controller)?;
        }
        if self.directories.contains(&directory) {
            return Ok(directory);
        }
        make(&family, &directory)?;
        self.directories.push(directory.clone());
        if hierarchy.version == Version::V2 {
            self.born_in = Some(fs::File::open(&directory)?.into());
        } else {
            self.procs.push(fs::File::options().write(true).open(directory.join("cgroup.procs"))?.into());
        }
        Ok(directory)
    }

    /// The memory limit in bytes, if the kernel killed a process for it.
    #[must_use]
    pub fn out_of_memory(&self) -> Option<u64> {
        let (directory, limit) = self.memory.as_ref()?;
        let killed = counter(&directory.join("memory.events"), "oom_kill")
            .or_else(|| counter(&directory.join("memory.oom_control"), "oom_kill"))?;
        (killed > 0).then_some(*limit)
    }

    /// The limit on processes, if it ever refused one.
    #[must_use]
    pub fn out_of_pids(&self) -> Option<u64> {
        let (directory, limit) = self.pids.as_ref()?;
        let refused = counter(&directory.join("pids.events"), "max")?;
        (refused > 0).then_some(*limit)
    }

    /// Open `cgroup.procs` files of v1 hierarchies, for PID 1 to write itself into.
    pub(crate) fn procs(&self) -> &[OwnedFd] {
        &self.procs
    }

    /// The v2 directory for PID 1 to be born in.
    pub(crate) fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.born_in.as_ref().map(AsFd::as_fd)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for directory in &self.directories {
            remove(directory);
            // The last one out; with others still inside, or another parent than ours, this fails as it should.
            if let Some(family) = directory.parent().filter(|family| family.ends_with(FAMILY)) {
                let _ = fs::remove_dir(family);
            }
        }
    }
}

fn demands(limits: &Limits, placed: bool) -> Vec<Demand> {
    let setting = |v1, v2, value: String, optional| Setting { v1, v2, value, optional };
    let mut demands = Vec::new();
    if let Some(pids) = limits.pids {
        let settings = vec![setting("pids.max", "pids.max", pids.to_string(), false)];
        demands.push(Demand { controller: "pids", asked: placed || pids != DEFAULT_PIDS_MAX, settings });
    }
    if let Some(bytes) = limits.memory_bytes {
        let bytes = bytes.to_string();
        let settings = vec![
            setting("memory.limit_in_bytes", "memory.max", bytes.clone(), false),
            // Without this the limit only sends the step into swap.
            Setting {
                v1: "memory.memsw.limit_in_bytes",
                v2: "memory.swap.max",
                value: bytes,
                optional: true,
            },
        ];
        demands.push(Demand { controller: "memory", asked: true, settings });
    }
    if let Some(millis) = limits.cpu_millis {
        let quota = (millis * CPU_PERIOD_US / 1000).max(1000);
        let settings = vec![setting("cpu.cfs_quota_us", "cpu.max", quota.to_string(), false)];
        demands.push(Demand { controller: "cpu", asked: true, settings });
    }
    demands
}

fn family(parent: Option<&str>) -> Result<PathBuf, CgroupError> {
    let Some(parent) = parent else { return Ok(PathBuf::from(FAMILY)) };
    let path = Path::new(parent.trim_start_matches('/'));
    let plain = path.components().all(|component| matches!(component, std::path::Component::Normal(_)));
    if plain { Ok(path.to_owned()) } else { Err(CgroupError::Parent(parent.to_owned())) }
}

fn no_controller(hierarchies: &Hierarchies) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("the host has {}", hierarchies.describe()))
}

/// Reads `name value` from a file of such lines.
fn counter(file: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// Makes a sandbox's directory in the family's, which another forge may be removing just now.
fn make(family: &Path, directory: &Path) -> io::Result<()> {
    const ATTEMPTS: u32 = 10;
    for _ in 1..ATTEMPTS {
        fs::create_dir_all(family)?;
        sweep(family);
        match fs::create_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
    }
    fs::create_dir(directory)
}

/// Removes an empty cgroup, waiting out the kernel's own tidying.
fn remove(directory: &Path) {
    for _ in 0..REMOVAL_ATTEMPTS {
        match fs::remove_dir(directory) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => std::thread::sleep(REMOVAL_PAUSE),
            // Done, or not ours to do; what stays is empty and goes with the next sweep.
            _ => return,
        }
    }
}

/// Removes the cgroups of forge processes that are no more.
fn sweep(family: &Path) {
    let Ok(entries) = fs::read_dir(family) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner =
            name.to_str().and_then(|name| name.split_once('.')).and_then(|(pid, _)| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_may_not_climb() {
        assert!(family(Some("../x")).is_err());
        assert!(family(Some("a/../../x")).is_err());
        assert_eq!(family(Some("/system.slice/build")).unwrap(), Path::new("system.slice/build"));
        assert_eq!(family(None).unwrap(), Path::new("forge"));
    }

    #[test]
    fn only_what_was_asked_for_must_be_there() {
        let asked = |limits: &Limits| -> Vec<(&str, bool)> {
            demands(limits, false).iter().map(|demand| (demand.controller, demand.asked)).collect()
        };
        assert_eq!(asked(&Limits::default()), [("pids", false)]);
        let limits = Limits { memory_bytes: Some(1), cpu_millis: Some(500), pids: Some(10) };
        assert_eq!(asked(&limits), [("pids", true), ("memory", true), ("cpu", true)]);
    }
}
