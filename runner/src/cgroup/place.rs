//! Where a sandbox's cgroup stands, and what has to be there before it can: directories and, on v2, controllers handed
//! down to them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::CgroupError;
use super::hierarchy::Hierarchy;

/// The directory below forge's own cgroup, or beside it, that holds those of its sandboxes.
pub(super) const FAMILY: &str = "forge";
/// Where forge itself goes if its own cgroup has to be empty.
const LEAF: &str = "forge-main";
/// A cgroup is busy for a moment after its last process has ended.
const REMOVAL_ATTEMPTS: u32 = 100;
const REMOVAL_PAUSE: Duration = Duration::from_millis(1);

/// Where a sandbox's cgroup goes in any hierarchy.
pub(super) struct Place {
    /// `None` stands for the family below forge's own cgroup.
    parent: Option<PathBuf>,
    pub(super) name: String,
}

impl Place {
    /// A parent that begins with a slash counts from the root of each hierarchy, others from forge's own cgroup.
    pub(super) fn new(parent: Option<&str>) -> Result<Place, CgroupError> {
        use std::path::Component::{Normal, RootDir};
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}.{number}.{}", std::process::id(), pid_namespace());
        let Some(text) = parent else { return Ok(Place { parent: None, name }) };
        let path = PathBuf::from(text);
        let plain = path.components().all(|component| matches!(component, Normal(_) | RootDir));
        if !plain || text.is_empty() {
            return Err(CgroupError::Parent(text.to_owned()));
        }
        Ok(Place { parent: Some(path), name })
    }

    pub(super) fn family_in(&self, hierarchy: &Hierarchy) -> PathBuf {
        match &self.parent {
            None => hierarchy.own.join(FAMILY),
            Some(parent) => match parent.strip_prefix("/") {
                Ok(from_root) => hierarchy.root.join(from_root),
                Err(_) => hierarchy.own.join(parent),
            },
        }
    }

    /// The family's directory with `controllers` for its children, and which directories were made for that. v2 gives
    /// no controller to children of a cgroup that has processes.
    pub(super) fn enabled_family_in(
        &self,
        hierarchy: &Hierarchy,
        controllers: &[&'static str],
    ) -> Result<(PathBuf, Vec<PathBuf>), Refused> {
        let family = self.family_in(hierarchy);
        let enable = |top: &Path, family: PathBuf| {
            hierarchy.enable(top, &family, controllers).map(|made| (family, made))
        };
        let top = if family.starts_with(&hierarchy.own) { &hierarchy.own } else { &hierarchy.root };
        let mut refusal = match enable(top, family.clone()) {
            Err(refused) if self.parent.is_none() => refused,
            other => return other,
        };
        if refusal.error.raw_os_error() == Some(libc::EBUSY) {
            match hierarchy.move_aside(LEAF) {
                Ok(()) => return enable(top, family),
                Err(error) => refusal.error = error,
            }
        }
        // Beside our own cgroup: no more limits are left behind than must be.
        let above = hierarchy.own.ancestors().skip(1).take_while(|path| path.starts_with(&hierarchy.root));
        let mut families = above.map(|top| enable(top, top.join(FAMILY)));
        families.find_map(Result::ok).ok_or(refusal)
    }
}

/// A controller that a directory does not get.
pub(super) struct Refused {
    pub(super) controller: &'static str,
    pub(super) error: io::Error,
}

/// An error with the directory that it is about.
pub(super) fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Makes a sandbox's directory in the family's, which another forge may be removing just now.
pub(super) fn make(family: &Path, directory: &Path) -> io::Result<()> {
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
pub(super) fn remove(directory: &Path) {
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
    static NUMBER: OnceLock<u64> = OnceLock::new();
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
    use super::super::hierarchy::Version;
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
            assert!(Place::new(Some(climbs)).is_err(), "{climbs}");
        }
        let hierarchy = Hierarchy {
            version: Version::V1,
            controllers: Vec::new(),
            root: "/cg".into(),
            own: "/cg/own".into(),
        };
        let family = |parent| Place::new(parent).unwrap().family_in(&hierarchy);
        assert_eq!(family(Some("/system.slice/build")), Path::new("/cg/system.slice/build"));
        assert_eq!(family(Some("build")), Path::new("/cg/own/build"));
        assert_eq!(family(None), Path::new("/cg/own/forge"));
    }
}
