//! What this machine allows: facts for `forge doctor`, and for messages that have to say what is missing.
//!
//! Every probe tries the thing itself where that is harmless and cheap, in a process or thread of its own; settings
//! are only read to explain a refusal. Nothing is changed.

mod facts;

use std::fmt;
use std::io;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::geteuid;

use crate::cgroup::{Cgroup, CgroupError};
use crate::isolation::in_a_child;
use crate::sandbox::spec::Limits;
use crate::sys;
use crate::userns::{self, Mapping, SubidError, Subids, find_program};

pub use facts::{Fact, facts};

/// One thing that forge can make use of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is for.
    pub feature: Feature,
    /// Whether it can be used.
    pub available: bool,
    /// What was found, or what stands in the way.
    pub detail: String,
    /// What to do about it, as a command where there is one; empty if nothing is to be done.
    pub remedy: String,
}

/// The features that are probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// Being root, or able to become it in a user namespace.
    Root,
    /// Creating user namespaces.
    UserNamespaces,
    /// Subordinate ids and the programs that map them.
    SubordinateIds,
    /// New mount, pid, ipc, uts and network namespaces.
    Namespaces,
    /// Overlay mounts by the new mount calls.
    Overlay,
    /// The program that stacks layers where the kernel does not.
    FuseOverlayfs,
    /// seccomp filters.
    Seccomp,
    /// Keeping steps from signalling others and from others' abstract sockets.
    Landlock,
    /// A writable cgroup with the pids controller.
    PidsLimit,
    /// A writable cgroup with the memory controller.
    MemoryLimit,
    /// nftables, for the network of root.
    Nftables,
    /// pasta, for the network of a user.
    Pasta,
    /// slirp4netns, for the network of a user.
    Slirp4netns,
    /// The device that pasta and slirp4netns need.
    TunDevice,
}

impl fmt::Display for Feature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Feature::Root => "root",
            Feature::UserNamespaces => "user namespaces",
            Feature::SubordinateIds => "subordinate ids",
            Feature::Namespaces => "namespaces",
            Feature::Overlay => "overlay file system",
            Feature::FuseOverlayfs => "fuse-overlayfs",
            Feature::Seccomp => "seccomp",
            Feature::Landlock => "landlock scopes",
            Feature::PidsLimit => "limit on processes",
            Feature::MemoryLimit => "limit on memory",
            Feature::Nftables => "nftables",
            Feature::Pasta => "pasta",
            Feature::Slirp4netns => "slirp4netns",
            Feature::TunDevice => "tun device",
        })
    }
}

/// Probes everything. The process must have one thread, since it is cloned to try things out; `search_path` is
/// where programs are looked for, in the form of `PATH`.
#[must_use]
pub fn probe(search_path: &str) -> Vec<Finding> {
    vec![
        root(),
        user_namespaces(),
        subordinate_ids(search_path),
        namespaces(),
        overlay(),
        fuse(search_path),
        seccomp(),
        landlock(),
        limit(Feature::PidsLimit, Limits { pids: Some(1), ..Limits::none() }),
        limit(Feature::MemoryLimit, Limits { memory_bytes: Some(1 << 30), ..Limits::none() }),
        nftables(),
        program(Feature::Pasta, "pasta", "passt", search_path),
        program(Feature::Slirp4netns, "slirp4netns", "slirp4netns", search_path),
        tun(),
    ]
}

fn found(feature: Feature, detail: impl Into<String>) -> Finding {
    Finding { feature, available: true, detail: detail.into(), remedy: String::new() }
}

fn lacking(feature: Feature, detail: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { feature, available: false, detail: detail.into(), remedy: remedy.into() }
}

fn nftables() -> Finding {
    match crate::network::try_nftables() {
        Ok(()) => found(Feature::Nftables, "rules can be written"),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => lacking(
            Feature::Nftables,
            error.to_string(),
            "only root needs it: a user has pasta or slirp4netns",
        ),
        Err(error) => lacking(Feature::Nftables, error.to_string(), "as root: modprobe nf_tables"),
    }
}

fn root() -> Finding {
    match geteuid().as_raw() {
        0 => found(Feature::Root, "uid 0"),
        uid => lacking(Feature::Root, format!("uid {uid}"), "sudo forge, or the user namespaces below"),
    }
}

fn user_namespaces() -> Finding {
    // Both steps: AppArmor lets the first pass and refuses the second.
    let tried =
        in_a_child(|| sys::unshare(libc::CLONE_NEWUSER).and_then(|()| sys::unshare(libc::CLONE_NEWNS)));
    match (tried, userns::forbidden()) {
        (Ok(()), _) => found(Feature::UserNamespaces, "can be created"),
        (Err(_), Some(userns::UsernsError::Forbidden { setting, value, remedy })) => {
            lacking(Feature::UserNamespaces, format!("{setting} is {value}"), remedy)
        }
        (Err(error), _) => lacking(
            Feature::UserNamespaces,
            error.to_string(),
            "in a container: docker run --security-opt seccomp=unconfined",
        ),
    }
}

fn subordinate_ids(search_path: &str) -> Finding {
    if geteuid().is_root() {
        return found(Feature::SubordinateIds, "root has all ids of this place");
    }
    match Subids::of_this_user(search_path) {
        Ok(subids) => {
            let count: u64 = subids.uids.iter().map(|range| u64::from(range.count)).sum();
            found(Feature::SubordinateIds, format!("{count} ids by {}", subids.newuidmap.display()))
        }
        Err(error @ SubidError::NoRange { .. }) => {
            lacking(Feature::SubordinateIds, "none for this user", error.remedy())
        }
        Err(error @ SubidError::NoProgram { .. }) => {
            lacking(Feature::SubordinateIds, "newuidmap and newgidmap are needed", error.remedy())
        }
    }
}

/// As root directly, as a user inside a user namespace.
fn namespaces() -> Finding {
    let all =
        libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWNET;
    match in_a_child(|| as_root_of_something().and_then(|()| sys::unshare(all))) {
        Ok(()) => found(Feature::Namespaces, "mnt, pid, ipc, uts, net"),
        Err(error) => lacking(
            Feature::Namespaces,
            error.to_string(),
            "give forge CAP_SYS_ADMIN (docker run --privileged), or allow user namespaces",
        ),
    }
}

/// Mounted, not only asked for: policies refuse the mount and not the question.
fn overlay() -> Finding {
    let mount = || -> io::Result<()> {
        if !geteuid().is_root() {
            userns::enter(&Mapping::Single).map_err(|_| io::Error::from_raw_os_error(libc::EPERM))?;
        }
        crate::sandbox::try_overlay()
    };
    match in_a_child(mount) {
        Ok(()) => found(Feature::Overlay, "can be mounted"),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
            lacking(Feature::Overlay, "the kernel does not know overlay", "as root: modprobe overlay")
        }
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => lacking(
            Feature::Overlay,
            error.to_string(),
            "allow one of the namespaces above (layers are copied or stacked by fuse-overlayfs meanwhile)",
        ),
        Err(error) => {
            lacking(Feature::Overlay, error.to_string(), "a kernel of version 5.12 or newer has all of it")
        }
    }
}

fn fuse(search_path: &str) -> Finding {
    const PATH: &str = "/dev/fuse";
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    match openat(CWD, Path::new(PATH), flags, Mode::empty()) {
        Ok(_) => program(Feature::FuseOverlayfs, "fuse-overlayfs", "fuse-overlayfs", search_path),
        Err(error) => lacking(
            Feature::FuseOverlayfs,
            format!("open {PATH}: {error}"),
            "as root: modprobe fuse; chmod 0666 /dev/fuse (docker run --device /dev/fuse)",
        ),
    }
}

fn landlock() -> Finding {
    match in_a_child(|| {
        rustix::thread::set_no_new_privs(true).map_err(Into::into).and_then(|()| sys::restrict_scope())
    }) {
        Ok(()) => found(Feature::Landlock, "signals and abstract unix sockets"),
        Err(error) => lacking(
            Feature::Landlock,
            error.to_string(),
            "a kernel of version 6.12 or newer, with `landlock` among its security modules",
        ),
    }
}

fn as_root_of_something() -> io::Result<()> {
    if geteuid().is_root() { Ok(()) } else { sys::unshare(libc::CLONE_NEWUSER) }
}

fn seccomp() -> Finding {
    let actions = std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    if actions.split_whitespace().any(|action| action == "errno") {
        return found(Feature::Seccomp, "filters with errno");
    }
    lacking(Feature::Seccomp, "the kernel has no seccomp filters", "a kernel with CONFIG_SECCOMP_FILTER")
}

fn limit(feature: Feature, limits: Limits) -> Finding {
    match Cgroup::create(&limits, None) {
        Ok(_) => found(feature, "by an own cgroup"),
        Err(CgroupError::Unavailable { reason, remedy, .. }) => lacking(feature, reason, remedy),
        Err(error) => lacking(feature, error.to_string(), "run as root"),
    }
}

fn program(feature: Feature, name: &str, package: &str, search_path: &str) -> Finding {
    match find_program(name, search_path) {
        Some(path) => found(feature, path.display().to_string()),
        None => lacking(
            feature,
            format!("{name} is not installed"),
            format!("as root: apt-get install {package}"),
        ),
    }
}

fn tun() -> Finding {
    const PATH: &str = "/dev/net/tun";
    match openat(CWD, Path::new(PATH), OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Ok(_) => found(Feature::TunDevice, PATH),
        Err(error) => lacking(
            Feature::TunDevice,
            format!("open {PATH}: {error}"),
            "as root: modprobe tun; chmod 0666 /dev/net/tun",
        ),
    }
}
