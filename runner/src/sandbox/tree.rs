//! The whole tree of a sandbox, put together in order: rootfs, kernel file systems, generated files, the spec's own
//! mounts, masks; then made the root, with the host's tree detached.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat};
use rustix::mount::{MountAttrFlags, MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::process::{fchdir, pivot_root};

use super::cradle::Cradle;
use super::filesystems::{self, Staged};
use super::identity;
use super::masks;
use super::mountpoints::{self, Kind, Made};
use super::mounts;
use super::report::{At, Failure, Phase};
use super::rootfs::{Root, Wanted};
use super::spec::{Mount, MountSource, Rootfs, SandboxSpec};
use super::workshop::Workshop;
use crate::guard::Guard;
use crate::user::Ids;

const READ_ONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;

/// What has to be taken back when the step is over.
pub(super) struct Remains {
    root: Root,
    made: Vec<Made>,
    mounted_over: Vec<OwnedFd>,
}

impl Remains {
    /// Whether taking back needs unmounting, and so CAP_SYS_ADMIN until then.
    pub(super) fn need_unmounting(&self) -> bool {
        !self.made.is_empty()
    }

    /// Takes back every mount point that was made; all processes of the sandbox are gone.
    pub(super) fn take_back(self) {
        self.unmount();
        mountpoints::take_back(self.made);
        self.root.remove_shadow();
    }

    /// A mount point cannot be removed from the namespace it is used in. The mounts are named through our own
    /// descriptors, the first of which is /proc's: no path of the tree is believed.
    fn unmount(&self) {
        let Some((proc, others)) = self.mounted_over.split_first() else { return };
        if self.made.is_empty() || fchdir(proc).is_err() {
            return;
        }
        for mount in others.iter().rev() {
            let _ = unmount(format!("self/fd/{}", mount.as_raw_fd()), UnmountFlags::DETACH);
        }
        let _ = unmount(".", UnmountFlags::DETACH);
    }
}

/// What does not depend on the image.
pub(super) struct Ready {
    workshop: Workshop,
    staged: Staged,
}

impl Ready {
    pub(super) fn make(cradle: &Cradle) -> Result<Ready, Failure> {
        // As long as this waits for its step, what the host unmounts goes here, too.
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM)
            .at(Phase::Rootfs, "propagation from the host")?;
        let workshop = Workshop::open().at(Phase::Rootfs, "tmpfs for generated files")?;
        let staged = Staged::make(&workshop, cradle)?;
        if cradle.confined && Guard::Masks.holds() && Guard::OwnDev.holds() {
            masks::lay_on_proc(staged.proc(), &workshop, None)?;
        }
        Ok(Ready { workshop, staged })
    }
}

/// Builds the tree and makes it the root of this mount namespace. `handles` are the detached mounts that the spec
/// names by number; `ready` was made before anything was known of the spec.
pub(super) fn build(
    spec: &SandboxSpec,
    skeleton: &Path,
    handles: Vec<OwnedFd>,
    ready: Option<Ready>,
) -> Result<(Ids, Remains), Failure> {
    if let Rootfs::Mounted { program, .. } = &spec.rootfs {
        share_mounts(*program).at(Phase::Rootfs, "mounts of the program that stacks the layers")?;
    }
    let Ready { workshop, staged } = ready.map_or_else(|| Ready::make(&Cradle::of(spec)), Ok)?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .at(Phase::Rootfs, "private propagation")?;
    let nodev =
        if spec.security.confined { MountAttrFlags::MOUNT_ATTR_NODEV } else { MountAttrFlags::empty() };
    let wanted = wanted(spec, &handles)?;
    let root = Root::mount(&spec.rootfs, &workshop, skeleton, &wanted, nodev)?;
    let top = openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at(Phase::Rootfs, "/")?;
    mounts::attach(&root.mount, &top).at(Phase::Rootfs, "attach to the mount namespace")?;
    let ids = identity::of(&spec.user, root.mount.as_fd())?;

    let mut furnisher =
        Furnisher { root: &root.mount, workshop: &workshop, made: Vec::new(), over: Vec::new() };
    furnisher.prepare(spec, &wanted)?;
    let trees = filesystems::mount(&root.mount, staged, spec)?;
    furnisher.generated_files(spec)?;
    furnisher.extra_mounts(spec, handles)?;
    if spec.security.confined && Guard::Masks.holds() {
        let image_dev = if Guard::OwnDev.holds() {
            None
        } else {
            masks::lay_on_proc(&trees.proc, &workshop, Some(&trees.dev))?;
            Some(&trees.dev)
        };
        masks::lay_on_sys(&trees.sys, &workshop, image_dev)?;
    }
    let Furnisher { made, mut over, .. } = furnisher;
    over.splice(..0, [trees.proc, trees.sys, trees.dev]);
    enter(&root.mount)?;
    Ok((ids, Remains { root, made, mounted_over: over }))
}

/// `pivot_root(".", ".")` puts the old root over the new one, and over that lies the workshop still: two detachments
/// from the top, and only the new root is left.
fn enter(root: &OwnedFd) -> Result<(), Failure> {
    fchdir(root).at(Phase::Rootfs, "enter the new root")?;
    pivot_root(".", ".").at(Phase::Rootfs, "pivot_root")?;
    for mount in ["workshop", "host's tree"] {
        unmount(".", UnmountFlags::DETACH).at(Phase::Rootfs, format!("detach the {mount}"))?;
    }
    rustix::process::chdir("/").at(Phase::Rootfs, "enter the new root")
}

/// Makes this mount namespace a copy of another process's.
fn share_mounts(process: u32) -> std::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let namespace = openat(CWD, format!("/proc/{process}/ns/mnt"), flags, Mode::empty())?;
    let kind = Some(rustix::thread::LinkNameSpaceType::Mount);
    rustix::thread::move_into_link_name_space(namespace.as_fd(), kind)?;
    crate::sys::unshare(libc::CLONE_NEWNS)
}

/// The mount points that the rootfs itself must have. One that lies inside another mount is that mount's business.
fn wanted(spec: &SandboxSpec, handles: &[OwnedFd]) -> Result<Vec<Wanted>, Failure> {
    let mut wanted: Vec<Wanted> = ["/proc", "/sys", "/dev"].map(Wanted::ordinary_directory).into();
    for (path, contents) in [("/etc/resolv.conf", &spec.resolv_conf), ("/etc/hosts", &spec.hosts)] {
        if contents.is_some() {
            wanted.push(Wanted::new(path, Kind::File));
        }
    }
    for mount in &spec.mounts {
        let path = PathBuf::from(&mount.target);
        let covered = wanted.iter().any(|other: &Wanted| path.starts_with(&other.path));
        if !covered {
            wanted.push(Wanted::new(path, kind(mount, handles)?));
        }
    }
    Ok(wanted)
}

/// Whether a mount is a directory or a file.
fn kind(mount: &Mount, handles: &[OwnedFd]) -> Result<Kind, Failure> {
    let is_directory = match &mount.source {
        MountSource::Tmpfs { .. } => Ok(true),
        MountSource::File { .. } => Ok(false),
        MountSource::Path(path) => std::fs::metadata(path).map(|metadata| metadata.is_dir()),
        MountSource::Handle(index) => match handles.get(*index) {
            Some(handle) => filesystems::is_directory(handle),
            None => Err(std::io::Error::from_raw_os_error(libc::EBADF)),
        },
    };
    let is_directory = is_directory.at(Phase::Mount, format!("source of {}", mount.target))?;
    Ok(if is_directory { Kind::Directory } else { Kind::File })
}

struct Furnisher<'a> {
    root: &'a OwnedFd,
    workshop: &'a Workshop,
    made: Vec<Made>,
    over: Vec<OwnedFd>,
}

impl Furnisher<'_> {
    /// In a plain directory the missing mount points are made on the spot. An overlay has them already.
    fn prepare(&mut self, spec: &SandboxSpec, wanted: &[Wanted]) -> Result<(), Failure> {
        if matches!(spec.rootfs, Rootfs::Overlay { .. }) {
            return Ok(());
        }
        for point in wanted {
            let is_link = point.kind == Kind::File && self.leaf(&point.path).is_ok();
            if !is_link {
                mountpoints::open_or_make(self.root, &point.path, point.kind, &mut self.made)
                    .at(Phase::Mount, format!("mount point {}", point.path.display()))?;
            }
        }
        Ok(())
    }

    /// Opens a name itself, not what it may point to.
    fn leaf(&self, path: &Path) -> std::io::Result<OwnedFd> {
        mountpoints::open(self.root, path, OFlags::PATH | OFlags::NOFOLLOW, ResolveFlags::empty())
    }

    fn generated_files(&mut self, spec: &SandboxSpec) -> Result<(), Failure> {
        let files =
            [("/etc/resolv.conf", "resolv.conf", &spec.resolv_conf), ("/etc/hosts", "hosts", &spec.hosts)];
        for (path, name, contents) in files {
            let Some(contents) = contents else { continue };
            let attributes = mounts::INERT | READ_ONLY;
            let mount = self
                .workshop
                .file(name, contents.as_bytes(), 0o644, (0, 0), attributes)
                .at(Phase::Mount, path)?;
            // Images make resolv.conf a link into /run, often a dangling one: the link itself is covered.
            let target = self.leaf(Path::new(path)).at(Phase::Mount, path)?;
            self.put(mount, &target, path)?;
        }
        Ok(())
    }

    fn extra_mounts(&mut self, spec: &SandboxSpec, handles: Vec<OwnedFd>) -> Result<(), Failure> {
        let kinds = spec.mounts.iter().map(|mount| kind(mount, &handles)).collect::<Result<Vec<_>, _>>()?;
        let mut handles: Vec<Option<OwnedFd>> = handles.into_iter().map(Some).collect();
        for (index, (mount, kind)) in spec.mounts.iter().zip(kinds).enumerate() {
            let source = self.source(index, mount, &mut handles).at(Phase::Mount, mount.target.as_str())?;
            let mut inside_another_mount = Vec::new();
            let target = mountpoints::open_or_make(
                self.root,
                Path::new(&mount.target),
                kind,
                &mut inside_another_mount,
            )
            .at(Phase::Mount, format!("mount point {}", mount.target))?;
            self.put(source, &target, &mount.target)?;
        }
        Ok(())
    }

    fn source(
        &self,
        index: usize,
        mount: &Mount,
        handles: &mut [Option<OwnedFd>],
    ) -> std::io::Result<OwnedFd> {
        let attributes = MountAttrFlags::MOUNT_ATTR_NODEV
            | if mount.read_only { READ_ONLY } else { MountAttrFlags::empty() };
        match &mount.source {
            MountSource::Handle(number) => {
                let taken = handles.get_mut(*number).and_then(Option::take);
                let source = taken.ok_or_else(|| std::io::Error::from_raw_os_error(libc::EBADF))?;
                crate::sys::set_mount_attributes(&source, attributes, true)?;
                Ok(source)
            }
            MountSource::Path(path) => {
                let source = mounts::copy_path(path, true)?;
                crate::sys::set_mount_attributes(&source, attributes, true)?;
                Ok(source)
            }
            MountSource::Tmpfs { size_bytes, mode } => tmpfs(*size_bytes, *mode, attributes),
            MountSource::File { bytes, mode, uid, gid } => {
                self.workshop.file(&format!("file{index}"), bytes, *mode, (*uid, *gid), attributes)
            }
        }
    }

    fn put(&mut self, mount: OwnedFd, target: &OwnedFd, name: &str) -> Result<(), Failure> {
        mounts::attach(&mount, target).at(Phase::Mount, name)?;
        self.over.push(mount);
        Ok(())
    }
}

fn tmpfs(size_bytes: Option<u64>, mode: u32, attributes: MountAttrFlags) -> std::io::Result<OwnedFd> {
    let mode = format!("{mode:o}");
    let size = size_bytes.map(|size| size.to_string());
    let mut options = vec![("mode", mode.as_str())];
    if let Some(size) = &size {
        options.push(("size", size));
    }
    mounts::make("tmpfs", &options, attributes | MountAttrFlags::MOUNT_ATTR_NOSUID)
}
