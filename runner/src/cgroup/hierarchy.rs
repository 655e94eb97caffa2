//! Which cgroup hierarchies this host has, and where in them this process is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::place::{self, Refused};

/// The kind of a hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// One of several, each with its own controllers.
    V1,
    /// The unified one.
    V2,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) version: Version,
    /// What it controls; for v2 whatever its root offers.
    pub(super) controllers: Vec<String>,
    /// Where it is mounted.
    pub(super) root: PathBuf,
    /// The directory of this process's own cgroup.
    pub(super) own: PathBuf,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchies(Vec<Hierarchy>);

impl Hierarchies {
    /// As they were when they were first asked for: forge itself may move later, see [`Hierarchy::move_aside`].
    pub(super) fn of_this_process() -> &'static Hierarchies {
        static FOUND: OnceLock<Hierarchies> = OnceLock::new();
        FOUND.get_or_init(Hierarchies::look)
    }

    fn look() -> Hierarchies {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let offered = |root: &Path| fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        Hierarchies(parse(&mounts, &own, offered))
    }

    /// The hierarchy that has this controller.
    pub(super) fn find(&self, controller: &str) -> Option<&Hierarchy> {
        self.0.iter().find(|hierarchy| hierarchy.controllers.iter().any(|name| name == controller))
    }

    pub(super) fn describe(&self) -> String {
        if self.0.is_empty() {
            return "no cgroup mounted".into();
        }
        let names: Vec<&str> =
            self.0.iter().flat_map(|hierarchy| hierarchy.controllers.iter().map(String::as_str)).collect();
        // Of v1 they are read from mount options.
        let names: Vec<&str> = names.into_iter().filter(|name| !matches!(*name, "rw" | "ro")).collect();
        format!("the controllers {}", names.join(", "))
    }
}

impl Hierarchy {
    /// Lets controllers reach the children of `family`: v2 hands them down level by level, from `top`. What lies above
    /// that is not ours to say. Gives the directories that it had to make, the outermost first; none of them stays if
    /// it fails.
    pub(super) fn enable(
        &self,
        top: &Path,
        family: &Path,
        controllers: &[&'static str],
    ) -> Result<Vec<PathBuf>, Refused> {
        let mut made = Vec::new();
        let below: Vec<&Path> = family.ancestors().take_while(|path| path.starts_with(top)).collect();
        let enabled = below.into_iter().rev().try_for_each(|level| {
            let refused = |controller| move |error| Refused { controller, error };
            match fs::create_dir(level) {
                Ok(()) => made.push(level.to_owned()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(refused(controllers[0])(place::at(level, &error))),
            }
            let mut controllers = controllers.iter();
            controllers.try_for_each(|controller| hand_down(level, controller).map_err(refused(controller)))
        });
        if enabled.is_err() {
            made.iter().rev().for_each(|level| drop(fs::remove_dir(level)));
        }
        enabled.map(|()| made)
    }

    /// Moves forge and its helpers out of their own cgroup into a leaf below it, if nobody else is in there.
    pub(super) fn move_aside(&self, leaf: &str) -> io::Result<()> {
        let text = fs::read_to_string(self.own.join("cgroup.procs"))?;
        let processes: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        if !processes.iter().all(|process| is_ours(*process)) {
            let message = format!("{} has other processes than forge", self.own.display());
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
        }
        // Where `pids` was handed down by an earlier forge, our being here keeps everybody out of the leaf.
        let control = self.own.join("cgroup.subtree_control");
        for controller in fs::read_to_string(&control)?.split_whitespace() {
            let _ = fs::write(&control, format!("-{controller}"));
        }
        let leaf = self.own.join(leaf);
        fs::create_dir_all(&leaf)?;
        processes.iter().try_for_each(|process| fs::write(leaf.join("cgroup.procs"), process.to_string()))
    }
}

/// Lets the children of one cgroup have a controller. Processes are looked for first: the kernel lets a cgroup that has
/// some hand down `pids` and `cpu`, and then takes no process into its children. Only the first cgroup of all is free of
/// such rules, and has no type.
fn hand_down(level: &Path, controller: &str) -> io::Result<()> {
    let file = level.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&file)?;
    if enabled.split_whitespace().any(|name| name == controller) {
        return Ok(());
    }
    let is_first = !level.join("cgroup.type").exists();
    if !is_first && !fs::read_to_string(level.join("cgroup.procs"))?.is_empty() {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    fs::write(&file, format!("+{controller}")).map_err(|error| match error.raw_os_error() {
        // The caller tells by it that processes are in the way.
        Some(libc::EBUSY) => error,
        Some(libc::ENOENT) => io::Error::new(
            io::ErrorKind::NotFound,
            format!("{} itself has no {controller} controller", level.display()),
        ),
        _ => place::at(&file, &error),
    })
}

/// Whether a process is this one or comes from it.
fn is_ours(process: u32) -> bool {
    const MOST_GENERATIONS: usize = 64;
    let parent = |process: &u32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<u32>().ok()
    };
    let line = std::iter::successors(Some(process), parent);
    line.take(MOST_GENERATIONS).any(|ancestor| ancestor == std::process::id())
}

/// Puts the lines of mountinfo(5) and `/proc/self/cgroup` together. `offered` reads a v2 root's controllers.
fn parse(mounts: &str, own: &str, offered: impl Fn(&Path) -> String) -> Vec<Hierarchy> {
    let mut hierarchies = Vec::new();
    for line in mounts.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let before: Vec<&str> = before.split(' ').collect();
        let after: Vec<&str> = after.split(' ').collect();
        let ([_, _, _, root, point, ..], [kind, _, options, ..]) = (&before[..], &after[..]) else {
            continue;
        };
        let (version, controllers, cgroup) = match *kind {
            "cgroup2" => {
                let controllers = offered(Path::new(point)).split_whitespace().map(str::to_owned).collect();
                (Version::V2, controllers, own_cgroup(own, |names| names.is_empty()))
            }
            "cgroup" => {
                let names: Vec<String> = options.split(',').map(str::to_owned).collect();
                let cgroup =
                    own_cgroup(own, |theirs| theirs.split(',').any(|name| names.iter().any(|n| n == name)));
                (Version::V1, names, cgroup)
            }
            _ => continue,
        };
        // Outside of what is mounted, or of the cgroup namespace (`/../x`), the mount's root is the nearest.
        let below = cgroup.unwrap_or("/").strip_prefix(root.trim_end_matches('/')).unwrap_or("");
        let below = if below.split('/').any(|name| name == "..") { "" } else { below };
        let root = PathBuf::from(point);
        let own = root.join(below.trim_start_matches('/'));
        hierarchies.push(Hierarchy { version, controllers, root, own });
    }
    hierarchies
}

/// This process's cgroup in the hierarchy whose list of controllers satisfies `wanted`.
fn own_cgroup(own: &str, wanted: impl Fn(&str) -> bool) -> Option<&str> {
    own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        wanted(controllers).then_some(path)
    })
}

/// Which kind of hierarchies there is, for people.
pub(crate) fn describe() -> String {
    let hierarchies = Hierarchies::of_this_process();
    let has = |version| hierarchies.0.iter().any(|hierarchy| hierarchy.version == version);
    let kind = match (has(Version::V1), has(Version::V2)) {
        (true, true) => "hybrid",
        (true, false) => "v1",
        (false, true) => "v2",
        (false, false) => "none",
    };
    format!("{kind}, {}", hierarchies.describe())
}

/// Whether /sys/fs/cgroup is one v2 hierarchy.
pub(crate) fn is_unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_v1_controller_is_found_in_this_process_s_own_cgroup() {
        let mounts = "30 25 0:26 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n\
                      31 25 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let own = "4:memory:/user/x\n0::/\n";
        let found = parse(mounts, own, |_| String::new());
        assert_eq!(found[0].own, Path::new("/sys/fs/cgroup/memory/user/x"));
        assert_eq!(found[0].version, Version::V1);
        assert!(found[1].controllers.is_empty(), "an empty v2 tree controls nothing");
    }

    #[test]
    fn the_root_of_a_container_s_mount_is_taken_off() {
        let mounts = "30 25 0:26 /docker/abc /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
        let found = parse(mounts, "3:pids:/docker/abc/child\n", |_| String::new());
        assert_eq!(found[0].own, Path::new("/sys/fs/cgroup/pids/child"));
    }

    #[test]
    fn a_cgroup_outside_of_the_namespace_is_not_followed_out_of_the_mount() {
        let mounts = "30 25 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let found = parse(mounts, "0::/../../system.slice\n", |_| "pids".into());
        assert_eq!(found[0].own, Path::new("/sys/fs/cgroup"));
    }

    #[test]
    fn v2_controls_what_its_root_offers() {
        let mounts = "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = Hierarchies(parse(mounts, "0::/a.scope\n", |_| "cpu memory pids".into()));
        let memory = found.find("memory").unwrap();
        assert_eq!(
            (memory.version, memory.own.as_path()),
            (Version::V2, Path::new("/sys/fs/cgroup/a.scope"))
        );
        assert!(found.find("rdma").is_none());
    }
}
