//! An own cgroup for each sandbox, so that what a step may use is bounded: on v1, hybrid and v2 hosts.
//!
//! ```text
//! <controller's mount>/<forge's own cgroup>/forge/<pid>.<n>.<pid namespace>
//! ```
//!
//! On v2 a cgroup that has processes of its own can hand no controller down. There the family stands below the root
//! of the hierarchy instead, or, where forge is alone in its cgroup (a delegated scope), forge moves into a leaf.
//!
//! The name tells whose it is: a forge that was killed leaves empty cgroups behind, and the next one removes those
//! of processes that no longer exist. Only the controllers that are asked for are touched. Ending a sandbox does not
//! depend on cgroups (its PID namespace does that), so a host without writable ones is fine unless a limit was asked
//! for.

mod demand;
mod hierarchy;

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::sandbox::spec::Limits;
use demand::{Demand, demands};
use hierarchy::Version;
use hierarchy::{Hierarchies, Hierarchy};

pub(crate) use hierarchy::{describe, is_unified};

/// The directory below forge's own cgroup that holds those of its sandboxes.
const FAMILY: &str = "forge";
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
        /// `memory`, `cpu`, `cpuset` or `pids`.
        controller: &'static str,
        /// What is there instead.
        reason: String,
    },
    /// The kernel did not take the value.
    #[error("limit {controller} of a step: the kernel does not take {value} for {file}: {error}")]
    Refused {
        /// `memory`, `cpu`, `cpuset` or `pids`.
        controller: &'static str,
        /// The file.
        file: &'static str,
        /// What it was given.
        value: String,
        /// The kernel's error.
        error: io::Error,
    },
    /// The parent that was asked for is not a cgroup below the root.
    #[error("use cgroup parent {0}: not a path of plain names")]
    Parent(String),
}

/// One sandbox's cgroup; removed when dropped.
#[derive(Debug, Default)]
pub struct Cgroup {
    directories: Vec<PathBuf>,
    /// Parents that were made for it, the outermost first.
    parents: Vec<PathBuf>,
    procs: Vec<OwnedFd>,
    born_in: Option<OwnedFd>,
    memory: Option<(PathBuf, u64)>,
    pids: Option<(PathBuf, u64)>,
}

impl Cgroup {
    /// Makes a cgroup with `limits`, below `parent` if given. `None` if the host has no writable one and no limit
    /// but the default was asked for.
    ///
    /// # Errors
    /// [`CgroupError`] if a limit was asked for that cannot be enforced, or `parent` is no path of plain names.
    pub fn create(limits: &Limits, parent: Option<&str>) -> Result<Option<Cgroup>, CgroupError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let place = Place::new(parent, NEXT.fetch_add(1, Ordering::Relaxed))?;
        let mut cgroup = Cgroup::default();
        for demand in demands(limits, parent.is_some()) {
            match cgroup.add(Hierarchies::of_this_process(), &place, &demand) {
                Ok(()) => {}
                Err(error) if demand.asked => return Err(error),
                Err(_) => {}
            }
        }
        Ok(if cgroup.directories.is_empty() { None } else { Some(cgroup) })
    }

    fn add(&mut self, hierarchies: &Hierarchies, place: &Place, demand: &Demand) -> Result<(), CgroupError> {
        let controller = demand.controller;
        let unavailable =
            |error: io::Error| CgroupError::Unavailable { controller, reason: error.to_string() };
        let hierarchy =
            hierarchies.find(controller).ok_or_else(|| unavailable(no_controller(hierarchies)))?;
        let directory = self.directory_in(hierarchy, place, controller).map_err(unavailable)?;
        let settings = if hierarchy.version == Version::V2 { &demand.v2 } else { &demand.v1 };
        for setting in settings {
            match fs::write(directory.join(setting.file), &setting.value) {
                Err(error) if setting.optional && error.kind() != io::ErrorKind::PermissionDenied => {}
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(unavailable(error));
                }
                Err(error) => {
                    let value = setting.value.clone();
                    return Err(CgroupError::Refused { controller, file: setting.file, value, error });
                }
                Ok(()) => {}
            }
        }
        match (controller, demand.bound) {
            ("memory", Some(bound)) => self.memory = Some((directory, bound)),
            ("pids", Some(bound)) => self.pids = Some((directory, bound)),
            _ => {}
        }
        Ok(())
    }

    /// The sandbox's directory in one hierarchy, made on first use. All controllers of v2 share one.
    fn directory_in(
        &mut self,
        hierarchy: &Hierarchy,
        place: &Place,
        controller: &str,
    ) -> io::Result<PathBuf> {
        let family = match hierarchy.version {
            Version::V1 => place.family_in(hierarchy),
            Version::V2 => place.enabled_family_in(hierarchy, controller)?,
        };
        let directory = family.join(&place.name);
        if self.directories.contains(&directory) {
            return Ok(directory);
        }
        let missing = family.ancestors().take_while(|path| !path.exists()).map(Path::to_owned);
        let missing: Vec<PathBuf> = missing.collect();
        make(&family, &directory)?;
        self.parents.extend(missing.into_iter().rev());
        self.directories.push(directory.clone());
        if hierarchy.version == Version::V2 {
            self.born_in = Some(fs::File::open(&directory)?.into());
            return Ok(directory);
        }
        if controller == "cpuset" {
            inherit_cpuset(&hierarchy.root, &directory)?;
        }
        self.procs.push(fs::File::options().write(true).open(directory.join("cgroup.procs"))?.into());
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
        for parent in self.parents.iter().rev() {
            let _ = fs::remove_dir(parent);
        }
    }
}

/// Where a sandbox's cgroup goes in any hierarchy.
struct Place {
    /// `None` stands for the family below forge's own cgroup.
    parent: Option<PathBuf>,
    name: String,
}

impl Place {
    /// A parent that begins with a slash counts from the root of each hierarchy, others from forge's own cgroup.
    fn new(parent: Option<&str>, number: u64) -> Result<Place, CgroupError> {
        use std::path::Component::{Normal, RootDir};
        let name = format!("{}.{number}.{}", std::process::id(), pid_namespace());
        let Some(text) = parent else { return Ok(Place { parent: None, name }) };
        let path = PathBuf::from(text);
        let plain = path.components().all(|component| matches!(component, Normal(_) | RootDir));
        if !plain || text.is_empty() {
            return Err(CgroupError::Parent(text.to_owned()));
        }
        Ok(Place { parent: Some(path), name })
    }

    fn family_in(&self, hierarchy: &Hierarchy) -> PathBuf {
        match &self.parent {
            None => hierarchy.own.join(FAMILY),
            Some(parent) => match parent.strip_prefix("/") {
                Ok(from_root) => hierarchy.root.join(from_root),
                Err(_) => hierarchy.own.join(parent),
            },
        }
    }

    /// The family's directory with `controller` for its children: v2 gives none to a cgroup that has processes.
    fn enabled_family_in(&self, hierarchy: &Hierarchy, controller: &str) -> io::Result<PathBuf> {
        let family = self.family_in(hierarchy);
        match hierarchy.enable(&family, controller) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && self.parent.is_none() => {
                let of_root = hierarchy.root.join(FAMILY);
                if hierarchy.enable(&of_root, controller).is_ok() {
                    return Ok(of_root);
                }
                hierarchy.move_aside(&format!("{FAMILY}-main.{}", std::process::id()))?;
                hierarchy.enable(&family, controller).map(|()| family)
            }
            other => other.map(|()| family),
        }
    }
}

/// A new v1 cpuset allows nothing, and nobody may enter it, until it is told what its parent allows.
fn inherit_cpuset(root: &Path, directory: &Path) -> io::Result<()> {
    let levels: Vec<&Path> =
        directory.ancestors().take_while(|path| path.starts_with(root) && *path != root).collect();
    for level in levels.into_iter().rev() {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let above = level.parent().unwrap_or(root).join(file);
            if fs::read_to_string(level.join(file))?.trim().is_empty() {
                fs::write(level.join(file), fs::read_to_string(above)?.trim())?;
            }
        }
    }
    Ok(())
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

/// The number of this process's PID namespace: containers may share cgroups, and count their processes apart.
fn pid_namespace() -> u64 {
    use std::os::unix::fs::MetadataExt;
    static NUMBER: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *NUMBER.get_or_init(|| fs::metadata("/proc/self/ns/pid").map_or(0, |metadata| metadata.ino()))
}

/// Removes the cgroups of forge processes of this PID namespace that are no more.
fn sweep(family: &Path) {
    let Ok(entries) = fs::read_dir(family) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| owner_of(name, pid_namespace()));
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// The process that made a sandbox's cgroup, if its id means anything in this PID namespace.
fn owner_of(name: &str, namespace: u64) -> Option<u32> {
    let parts: Vec<&str> = name.split('.').collect();
    let [pid, _, of] = parts[..] else { return None };
    if of.parse() == Ok(namespace) { pid.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_another_container_is_nobodys_to_judge() {
        assert_eq!(owner_of("123.4.4026531836", 4_026_531_836), Some(123));
        assert_eq!(owner_of("123.4.4026531836", 4_026_532_000), None);
        assert_eq!(owner_of("123.4", 4_026_531_836), None);
        assert_eq!(owner_of("other", 0), None);
    }

    #[test]
    fn a_parent_may_not_climb() {
        for climbs in ["../x", "a/../../x", "", "./a/.."] {
            assert!(Place::new(Some(climbs), 0).is_err(), "{climbs}");
        }
        let hierarchy = Hierarchy {
            version: Version::V1,
            controllers: Vec::new(),
            root: "/cg".into(),
            own: "/cg/own".into(),
        };
        let family = |parent| Place::new(parent, 0).unwrap().family_in(&hierarchy);
        assert_eq!(family(Some("/system.slice/build")), Path::new("/cg/system.slice/build"));
        assert_eq!(family(Some("build")), Path::new("/cg/own/build"));
        assert_eq!(family(None), Path::new("/cg/own/forge"));
    }
}
