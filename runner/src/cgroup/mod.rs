//! An own cgroup for each sandbox, so that what a step may use is bounded: on v1, hybrid and v2 hosts.
//!
//! ```text
//! <controller's mount>/<forge's own cgroup>/forge/<pid>.<n>.<pid namespace>
//! ```
//!
//! On v2 a cgroup that has processes of its own can hand no controller down. Where forge is alone in its cgroup (a
//! delegated scope) it moves into a leaf; otherwise the family stands beside that cgroup, as low as it can.
//!
//! The name tells whose it is: a forge that was killed leaves empty cgroups behind, and the next one removes those
//! of processes that no longer exist. Only the controllers that are asked for are touched. Ending a sandbox does not
//! depend on cgroups (its PID namespace does that), so a host without writable ones is fine unless a limit was asked
//! for.

mod demand;
mod hierarchy;
mod place;
mod remedy;

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::sandbox::spec::Limits;
use demand::{Demand, Setting, demands};
use hierarchy::{Hierarchies, Hierarchy, Version};
use place::{FAMILY, Place, Refused};

pub(crate) use hierarchy::{describe, is_unified};

/// Why a limit cannot be enforced.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No hierarchy with this controller can be written.
    #[error("limit {controller} of a step: no writable cgroup with the {controller} controller ({reason})")]
    Unavailable {
        /// `memory`, `cpu`, `cpuset` or `pids`.
        controller: &'static str,
        /// What stands in the way.
        reason: String,
        /// What to do, as a command where there is one.
        remedy: String,
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

impl CgroupError {
    /// What to do, as a command where there is one; empty if the message says it.
    #[must_use]
    pub fn remedy(&self) -> &str {
        match self {
            CgroupError::Unavailable { remedy, .. } => remedy,
            _ => "",
        }
    }
}

/// What a sandbox gets.
#[derive(Debug, Default)]
pub struct Granted {
    /// Its cgroup; `None` if the host has no writable one and nothing was asked for.
    pub cgroup: Option<Cgroup>,
    /// Why it has no limit on processes, although every sandbox should.
    pub missing: Option<CgroupError>,
}

/// One sandbox's cgroup; removed when dropped.
#[derive(Debug, Default)]
pub struct Cgroup {
    directories: Vec<PathBuf>,
    /// Parents that were made for it, the outermost first.
    parents: Vec<PathBuf>,
    tasks: Vec<OwnedFd>,
    born_in: Option<OwnedFd>,
    memory: Option<(PathBuf, u64)>,
    pids: Option<(PathBuf, u64)>,
}

impl Cgroup {
    /// Makes a cgroup with `limits`, below `parent` if given.
    ///
    /// # Errors
    /// [`CgroupError`] if a limit was asked for that cannot be enforced, or `parent` is no path of plain names.
    pub fn create(limits: &Limits, parent: Option<&str>) -> Result<Granted, CgroupError> {
        let place = Place::new(parent)?;
        let hierarchies = Hierarchies::of_this_process();
        let mut cgroup = Cgroup::default();
        let (mut unified, mut separate) = (Vec::new(), Vec::new());
        for demand in demands(limits, parent.is_some()) {
            let is_v2 = |found: &Hierarchy| found.version == Version::V2;
            let list = if hierarchies.find(demand.controller).is_some_and(is_v2) {
                &mut unified
            } else {
                &mut separate
            };
            list.push(demand);
        }
        let mut missing = cgroup.add_unified(hierarchies, &place, &unified)?;
        for demand in &separate {
            match cgroup.add_separate(hierarchies, &place, demand) {
                Err(error) if !demand.asked => missing = Some(error),
                other => other?,
            }
        }
        let cgroup = if cgroup.directories.is_empty() { None } else { Some(cgroup) };
        Ok(Granted { cgroup, missing })
    }

    /// All controllers of v2 share one directory, which must have them all. What was not asked for may be missing.
    fn add_unified(
        &mut self,
        hierarchies: &Hierarchies,
        place: &Place,
        demands: &[Demand],
    ) -> Result<Option<CgroupError>, CgroupError> {
        let asked: Vec<&Demand> = demands.iter().filter(|demand| demand.asked).collect();
        let all: Vec<&Demand> = demands.iter().collect();
        match self.add_to_unified(hierarchies, place, &all) {
            Ok(()) => Ok(None),
            Err(error) if asked.len() == all.len() => Err(error),
            Err(error) => self.add_to_unified(hierarchies, place, &asked).map(|()| Some(error)),
        }
    }

    fn add_to_unified(
        &mut self,
        hierarchies: &Hierarchies,
        place: &Place,
        demands: &[&Demand],
    ) -> Result<(), CgroupError> {
        let controllers: Vec<&'static str> = demands.iter().map(|demand| demand.controller).collect();
        let Some(hierarchy) = controllers.first().and_then(|first| hierarchies.find(first)) else {
            return Ok(());
        };
        let (family, made) = place
            .enabled_family_in(hierarchy, &controllers)
            .map_err(|Refused { controller, error }| unavailable(controller, hierarchy, place, &error))?;
        self.parents.extend(made);
        let directory = family.join(&place.name);
        let opened = place::make(&family, &directory).and_then(|()| fs::File::open(&directory));
        let opened = opened
            .map_err(|error| unavailable(controllers[0], hierarchy, place, &place::at(&directory, &error)))?;
        self.directories.push(directory.clone());
        self.born_in = Some(opened.into());
        demands
            .iter()
            .try_for_each(|demand| self.bound(hierarchy, place, demand, &demand.v2, directory.clone()))
    }

    /// Every controller of v1 has a directory of its own.
    fn add_separate(
        &mut self,
        hierarchies: &Hierarchies,
        place: &Place,
        demand: &Demand,
    ) -> Result<(), CgroupError> {
        let controller = demand.controller;
        let Some(hierarchy) = hierarchies.find(controller) else {
            let reason = format!("the host has {}", hierarchies.describe());
            return Err(CgroupError::Unavailable { controller, reason, remedy: String::new() });
        };
        let directory = self
            .directory_in(hierarchy, place, controller)
            .map_err(|error| unavailable(controller, hierarchy, place, &error))?;
        self.bound(hierarchy, place, demand, &demand.v1, directory)
    }

    /// Writes the settings of one controller.
    fn bound(
        &mut self,
        hierarchy: &Hierarchy,
        place: &Place,
        demand: &Demand,
        settings: &[Setting],
        directory: PathBuf,
    ) -> Result<(), CgroupError> {
        let controller = demand.controller;
        for Setting { file, value, optional } in settings {
            match fs::write(directory.join(file), value) {
                Err(error) if *optional && error.kind() != io::ErrorKind::PermissionDenied => {}
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    let error = place::at(&directory.join(file), &error);
                    return Err(unavailable(controller, hierarchy, place, &error));
                }
                Err(error) => {
                    return Err(CgroupError::Refused { controller, file, value: value.clone(), error });
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

    /// The sandbox's directory in one hierarchy of v1, made on first use: some have two controllers.
    fn directory_in(
        &mut self,
        hierarchy: &Hierarchy,
        place: &Place,
        controller: &str,
    ) -> io::Result<PathBuf> {
        let family = place.family_in(hierarchy);
        let directory = family.join(&place.name);
        if self.directories.contains(&directory) {
            return Ok(directory);
        }
        let missing: Vec<PathBuf> =
            family.ancestors().take_while(|path| !path.exists()).map(Path::to_owned).collect();
        place::make(&family, &directory).map_err(|error| place::at(&directory, &error))?;
        self.parents.extend(missing.into_iter().rev());
        self.directories.push(directory.clone());
        if controller == "cpuset" {
            inherit_cpuset(&hierarchy.root, &directory)?;
        }
        // A process that has one thread and moves itself: then the kernel need not hold up every fork and exec of the
        // machine until a grace period is over, which `cgroup.procs` makes it do, often for ten milliseconds.
        self.tasks.push(fs::File::options().write(true).open(directory.join("tasks"))?.into());
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

    /// Open `tasks` files of v1 hierarchies, for PID 1 to write itself into.
    pub(crate) fn tasks(&self) -> &[OwnedFd] {
        &self.tasks
    }

    /// The v2 directory for PID 1 to be born in.
    pub(crate) fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.born_in.as_ref().map(AsFd::as_fd)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for directory in &self.directories {
            place::remove(directory);
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

fn unavailable(
    controller: &'static str,
    hierarchy: &Hierarchy,
    place: &Place,
    error: &io::Error,
) -> CgroupError {
    let remedy = remedy::of(error, hierarchy, &place.family_in(hierarchy));
    CgroupError::Unavailable { controller, reason: error.to_string(), remedy }
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

/// Reads `name value` from a file of such lines.
fn counter(file: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}
