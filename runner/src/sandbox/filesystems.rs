//! The kernel's file systems inside the tree: /proc, /sys, /dev and what lies below them, with BuildKit's flags (and
//! nodev, noexec on /dev itself). Each is a fresh instance for this sandbox; device nodes are bound one by one.

use std::fs::Metadata;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, mkdirat, symlinkat};
use rustix::mount::MountAttrFlags;

use super::cradle::Cradle;
use super::mountpoints::{self, Kind};
use super::mounts::{self, INERT};
use super::report::{At, Failure, Phase};
use super::spec::SandboxSpec;
use super::workshop::{Workshop, device};
use crate::guard::Guard;

/// Device nodes that every sandbox has: name, major, minor.
pub(super) const NODES: [(&str, (u32, u32)); 6] = [
    ("null", (1, 3)),
    ("zero", (1, 5)),
    ("full", (1, 7)),
    ("random", (1, 8)),
    ("urandom", (1, 9)),
    ("tty", (5, 0)),
];

/// Symbolic links in /dev.
pub(super) const LINKS: [(&str, &str); 5] = [
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

const READ_ONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;

/// What can be mounted before the tree is there: /proc and /dev. They lie in the workshop meanwhile.
pub(super) struct Staged {
    proc: OwnedFd,
    dev: OwnedFd,
    /// The directory that /dev is a mount of, to add to it.
    inside: OwnedFd,
}

impl Staged {
    pub(super) fn make(workshop: &Workshop, cradle: &Cradle) -> Result<Staged, Failure> {
        let proc = mounts::make("proc", &[], INERT).at(Phase::Mount, "proc on /proc")?;
        workshop.stage("proc", &proc).at(Phase::Mount, "proc on /proc")?;
        let (dev, inside) = make_dev(workshop, cradle)?;
        Ok(Staged { proc, dev, inside })
    }

    pub(super) fn proc(&self) -> &OwnedFd {
        &self.proc
    }
}

/// The kernel's trees, mounted; kept open so that masks can be laid without walking through the image.
pub(super) struct KernelTrees {
    pub(super) proc: OwnedFd,
    pub(super) sys: OwnedFd,
    pub(super) dev: OwnedFd,
}

/// Mounts them all below `root`, whose mount points exist.
pub(super) fn mount(root: &OwnedFd, staged: Staged, spec: &SandboxSpec) -> Result<KernelTrees, Failure> {
    let Staged { proc, dev, inside } = staged;
    put(&proc, root, "proc")?;
    let sys = sysfs(spec).at(Phase::Mount, "sysfs on /sys")?;
    put(&sys, root, "sys")?;
    mount_cgroups(&sys, spec);
    if !Guard::OwnDev.holds() {
        let dev = image_dev(root).at(Phase::Mount, "the image's /dev")?;
        return Ok(KernelTrees { proc, sys, dev });
    }
    put(&dev, root, "dev")?;
    for node in &spec.devices {
        let name = node.target.strip_prefix("/dev/").unwrap_or(&node.target);
        mountpoints::open_or_make(&inside, Path::new(name), Kind::File, &mut Vec::new())
            .at(Phase::Mount, format!("/dev/{name}"))?;
        bind_node(&dev, name, || extra_device(&node.host))?;
    }
    Ok(KernelTrees { proc, sys, dev })
}

/// Attaches `mount` to a directory that must be one: an image that makes /proc a symbolic link is refused, since
/// programs would be led to believe a file system that is not there.
fn put(mount: &OwnedFd, root: &OwnedFd, name: &str) -> Result<(), Failure> {
    let (flags, resolve) = if Guard::OrdinaryDirectories.holds() {
        (OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW, ResolveFlags::NO_SYMLINKS)
    } else {
        (OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::empty())
    };
    mountpoints::open(root, Path::new(name), flags, resolve)
        .and_then(|target| mounts::attach(mount, target))
        .at(Phase::Mount, format!("/{name} (it must be an ordinary directory in the image)"))
}

/// sysfs needs a network namespace of our own; with the host's, a user namespace only gets a copy of the host's
/// mount.
fn sysfs(spec: &SandboxSpec) -> io::Result<OwnedFd> {
    let attributes = if spec.security.confined { INERT | READ_ONLY } else { INERT };
    if !Guard::OwnSys.holds() {
        return mounts::copy_path("/sys", true);
    }
    match mounts::make("sysfs", &[], attributes) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            let copy = mounts::copy_path("/sys", true)?;
            crate::sys::set_mount_attributes(&copy, attributes, true)?;
            Ok(copy)
        }
        other => other,
    }
}

/// The sandbox's own part of the cgroup v2 tree, read-only. A v1 or hybrid host shows none: its hierarchies would
/// need a mount each, and nothing in an image build asks for them.
fn mount_cgroups(sys: &OwnedFd, spec: &SandboxSpec) {
    if !crate::cgroup::is_unified() {
        return;
    }
    let attributes = if spec.security.confined { INERT | READ_ONLY } else { INERT };
    let target = mountpoints::open(
        sys,
        Path::new("fs/cgroup"),
        OFlags::PATH | OFlags::DIRECTORY,
        ResolveFlags::NO_SYMLINKS,
    );
    // A kernel that refuses leaves the empty directory: less to see, and nothing writable.
    if let (Ok(target), Ok(mount)) = (target, mounts::make("cgroup2", &[], attributes)) {
        let _ = mounts::attach(&mount, target);
    }
}

/// /dev, and the directory that it is a mount of.
fn make_dev(workshop: &Workshop, cradle: &Cradle) -> Result<(OwnedFd, OwnedFd), Failure> {
    let inside = workshop.directory("dev").at(Phase::Mount, "tmpfs on /dev")?;
    fill_dev(&inside).at(Phase::Mount, "contents of /dev")?;
    let nodev = if cradle.confined { MountAttrFlags::MOUNT_ATTR_NODEV } else { MountAttrFlags::empty() };
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC | nodev;
    let dev = workshop.mount("dev", attributes).at(Phase::Mount, "tmpfs on /dev")?;
    mounts::attach(&dev, &inside).at(Phase::Mount, "tmpfs on /dev")?;
    for (name, number) in NODES {
        bind_node(&dev, name, || device(&format!("/dev/{name}"), number))?;
    }
    mount_below_dev(&dev, cradle)?;
    Ok((dev, inside))
}

/// What a builder without a /dev of its own does: the image's directory, with what is missing. See [`Guard::OwnDev`].
fn image_dev(root: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let dev = mountpoints::open(root, Path::new("dev"), flags, ResolveFlags::empty())?;
    for name in ["null", "console"] {
        let _ = mountpoints::make(&dev, Path::new(name), Kind::File);
    }
    Ok(dev)
}

fn fill_dev(dev: &OwnedFd) -> io::Result<()> {
    for (name, target) in LINKS {
        symlinkat(target, dev, name)?;
    }
    for name in ["pts", "shm", "mqueue"] {
        mkdirat(dev, name, Mode::from_raw_mode(0o755))?;
    }
    for (name, _) in NODES {
        mountpoints::make(dev, Path::new(name), Kind::File)?;
    }
    Ok(())
}

fn bind_node(dev: &OwnedFd, name: &str, node: impl FnOnce() -> io::Result<OwnedFd>) -> Result<(), Failure> {
    let place = || {
        let target = mountpoints::open(dev, Path::new(name), OFlags::PATH, ResolveFlags::NO_SYMLINKS)?;
        mounts::attach(&node()?, target)
    };
    place().at(Phase::Mount, format!("/dev/{name}"))
}

/// A device that was asked for: any node, but a node.
fn extra_device(path: &Path) -> io::Result<OwnedFd> {
    use std::os::unix::fs::FileTypeExt;
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = mounts::copy_with(CWD, path, false, flags)?;
    let kind = Metadata::file_type(&std::fs::symlink_metadata(path)?);
    if kind.is_char_device() || kind.is_block_device() {
        return Ok(mount);
    }
    Err(io::Error::from_raw_os_error(libc::ENODEV))
}

fn mount_below_dev(dev: &OwnedFd, cradle: &Cradle) -> Result<(), Failure> {
    let no_programs = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let terminals = devpts(no_programs).at(Phase::Mount, "devpts on /dev/pts")?;
    put_in_dev(&terminals, dev, "pts")?;
    let size = cradle.shm_size_bytes.to_string();
    let shm = mounts::make("tmpfs", &[("size", &size), ("mode", "1777")], INERT)
        .at(Phase::Mount, "tmpfs on /dev/shm")?;
    put_in_dev(&shm, dev, "shm")?;
    let queues = mounts::make("mqueue", &[], INERT).at(Phase::Mount, "mqueue on /dev/mqueue")?;
    put_in_dev(&queues, dev, "mqueue")
}

/// An own instance; terminals belong to the group tty (5) where that id exists in this user namespace.
fn devpts(attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let common = [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620")];
    let options = |group: &[(&'static str, &'static str)]| -> io::Result<OwnedFd> {
        let context = rustix::mount::fsopen("devpts", rustix::mount::FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (key, value) in common.iter().chain(group) {
            match *value {
                "" => rustix::mount::fsconfig_set_flag(&context, *key)?,
                value => rustix::mount::fsconfig_set_string(&context, *key, value)?,
            }
        }
        mounts::create(&context, attributes)
    };
    options(&[("gid", "5")]).or_else(|_| options(&[]))
}

fn put_in_dev(mount: &OwnedFd, dev: &OwnedFd, name: &str) -> Result<(), Failure> {
    mountpoints::open(dev, Path::new(name), OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::NO_SYMLINKS)
        .and_then(|target| mounts::attach(mount, target))
        .at(Phase::Mount, format!("/dev/{name}"))
}

/// Whether `file` is a directory.
pub(super) fn is_directory(file: impl AsFd) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode) == FileType::Directory)
}
