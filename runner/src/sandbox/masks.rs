//! Files of /proc and /sys that a step must not see or write: the union of what BuildKit, Docker and podman hide.
//!
//! Directories are hidden behind an empty one, files behind /dev/null. Each mask is looked up from the descriptor of
//! the file system itself, so no name of the image is involved.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Dir, Mode, OFlags, ResolveFlags, openat2};
use rustix::mount::MountAttrFlags;

use super::filesystems::is_directory;
use super::mounts;
use super::report::{At, Failure, Phase};
use super::workshop::Workshop;

const PROC_MASKED: [&str; 10] = [
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
];
const SYS_MASKED: [&str; 3] = ["firmware", "devices/virtual/powercap", "dev"];
const PROC_READ_ONLY: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];
const CPUS: &str = "devices/system/cpu";
const THERMAL: &str = "thermal_throttle";

/// Lays those of /proc. `image_dev` is the image's /dev where no other is, see [`crate::guard::Guard::OwnDev`].
pub(super) fn lay_on_proc(
    proc: &OwnedFd,
    workshop: &Workshop,
    image_dev: Option<&OwnedFd>,
) -> Result<(), Failure> {
    for name in PROC_READ_ONLY {
        make_read_only(proc, name).at(Phase::Mount, format!("/proc/{name} read-only"))?;
    }
    for name in PROC_MASKED {
        hide(proc, name, workshop, image_dev).at(Phase::Mount, format!("mask over /proc/{name}"))?;
    }
    Ok(())
}

/// Lays those of /sys.
pub(super) fn lay_on_sys(
    sys: &OwnedFd,
    workshop: &Workshop,
    image_dev: Option<&OwnedFd>,
) -> Result<(), Failure> {
    for name in SYS_MASKED {
        hide(sys, name, workshop, image_dev).at(Phase::Mount, format!("mask over /sys/{name}"))?;
    }
    for name in thermal_directories(sys).at(Phase::Mount, format!("masks in /sys/{CPUS}"))? {
        hide(sys, &name, workshop, image_dev).at(Phase::Mount, format!("mask over /sys/{name}"))?;
    }
    Ok(())
}

/// Opens a file of a kernel tree; `None` if this kernel does not have it.
fn open(tree: &OwnedFd, name: &str, flags: OFlags) -> io::Result<Option<OwnedFd>> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    match openat2(tree, Path::new(name), flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
        Ok(file) => Ok(Some(file)),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn hide(tree: &OwnedFd, name: &str, workshop: &Workshop, image_dev: Option<&OwnedFd>) -> io::Result<()> {
    let Some(target) = open(tree, name, OFlags::PATH)? else { return Ok(()) };
    let mask = if is_directory(&target)? { workshop.empty()? } else { null(workshop, image_dev)? };
    mounts::attach(&mask, target)
}

/// The machine's /dev/null, whatever the image has under that name.
fn null(workshop: &Workshop, image_dev: Option<&OwnedFd>) -> io::Result<OwnedFd> {
    image_dev.map_or_else(|| workshop.null(), |dev| mounts::copy(dev, "null", false))
}

fn make_read_only(tree: &OwnedFd, name: &str) -> io::Result<()> {
    let Some(target) = open(tree, name, OFlags::PATH)? else { return Ok(()) };
    let attributes = mounts::INERT | MountAttrFlags::MOUNT_ATTR_RDONLY;
    mounts::attach(&mounts::copy_with(&target, "", false, attributes)?, target)
}

/// `devices/system/cpu/cpu*/thermal_throttle`, on machines that have them.
fn thermal_directories(sys: &OwnedFd) -> io::Result<Vec<String>> {
    if open(sys, &format!("{CPUS}/cpu0/{THERMAL}"), OFlags::PATH)?.is_none() {
        return Ok(Vec::new());
    }
    let Some(cpus) = open(sys, CPUS, OFlags::RDONLY | OFlags::DIRECTORY)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in Dir::new(cpus)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy();
        let is_cpu =
            name.strip_prefix("cpu").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        if is_cpu {
            found.push(format!("{CPUS}/{name}/{THERMAL}"));
        }
    }
    Ok(found)
}
