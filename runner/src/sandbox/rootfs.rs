//! The tree that becomes `/`.
//!
//! ```text
//! upper           what the step writes                                  (becomes the layer)
//! shadow          missing mount points, under copies of their parents   (only if some are missing)
//! lowers          the image's layers, topmost first
//! skeleton        /proc /sys /dev /etc/resolv.conf /etc/hosts, empty    (forge's own, the same for all)
//! ```
//!
//! Other builders make missing mount points in the upper directory and remove them after the step, which leaves
//! traces and has been attacked. Here they come from read-only lower layers, so the upper directory never has them:
//! `RUN true` leaves it empty, whatever the image lacks. A mount point hidden by a whiteout, or one named by
//! `RUN --mount`, comes from `shadow`, where its parents carry the image's own owner, mode, times and attributes; a
//! copy-up from there is the same as one from the image.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, Timestamps, Uid, XattrFlags, chmodat, chownat, fgetxattr,
    flistxattr, fsetxattr, fstat, mkdirat, openat, readlinkat, unlinkat, utimensat,
};
use rustix::mount::{FsOpenFlags, MountAttrFlags, fsconfig_set_flag, fsconfig_set_string, fsopen};
use rustix::process::fchdir;

use super::mountpoints::{self, Kind};
use super::mounts;
use super::overlay_page;
use super::report::{At, Failure, Phase};
use super::spec::{OverlayXattrs, Rootfs, Upper};
use super::workshop::Workshop;

/// A mount point that the tree must have.
pub(super) struct Wanted {
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    /// A symbolic link in its place is not to be covered up, so that mounting refuses it.
    may_be_link: bool,
}

impl Wanted {
    pub(super) fn new(path: impl Into<PathBuf>, kind: Kind) -> Wanted {
        Wanted { path: path.into(), kind, may_be_link: true }
    }

    pub(super) fn ordinary_directory(path: &str) -> Wanted {
        Wanted { path: path.into(), kind: Kind::Directory, may_be_link: false }
    }
}

/// The mounted, not yet attached tree.
pub(super) struct Root {
    pub(super) mount: OwnedFd,
    shadow: Option<Shadow>,
}

impl Root {
    /// Mounts what `rootfs` describes, with every `wanted` mount point in it if it is an overlay.
    pub(super) fn mount(
        rootfs: &Rootfs,
        workshop: &Workshop,
        skeleton: &Path,
        wanted: &[Wanted],
        attributes: MountAttrFlags,
    ) -> Result<Root, Failure> {
        match rootfs {
            Rootfs::Directory { path, read_only } => {
                let read_only =
                    if *read_only { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
                let mount = mounts::copy_path(path, false).at(Phase::Rootfs, path.display().to_string())?;
                crate::sys::set_mount_attributes(&mount, attributes | read_only, false)
                    .at(Phase::Rootfs, path.display().to_string())?;
                Ok(Root { mount, shadow: None })
            }
            Rootfs::Mounted { path, .. } => {
                let mount = mounts::copy_path(path, false).at(Phase::Rootfs, path.display().to_string())?;
                crate::sys::set_mount_attributes(&mount, attributes, false)
                    .at(Phase::Rootfs, path.display().to_string())?;
                Ok(Root { mount, shadow: None })
            }
            // Nothing is ever mounted for it; see `bare`.
            Rootfs::Chroot { path, .. } => Err(Failure {
                phase: Phase::Internal,
                object: format!("{} is no root to mount", path.display()),
                errno: 0,
            }),
            Rootfs::Overlay { lowers, upper, xattrs } => {
                let overlay =
                    Overlay { lowers, upper: upper.as_ref(), xattrs: *xattrs, skeleton, attributes };
                overlay.mount_with(workshop, wanted)
            }
        }
    }

    /// Whether missing mount points have to be made in the tree itself and taken back.
    pub(super) fn remove_shadow(self) {
        if let Some(shadow) = self.shadow {
            shadow.remove();
        }
    }
}

struct Overlay<'a> {
    lowers: &'a [PathBuf],
    upper: Option<&'a Upper>,
    xattrs: OverlayXattrs,
    skeleton: &'a Path,
    attributes: MountAttrFlags,
}

impl Overlay<'_> {
    fn mount_with(&self, workshop: &Workshop, wanted: &[Wanted]) -> Result<Root, Failure> {
        let mount = self.mount(workshop, None)?;
        let missing = missing(&mount, wanted)?;
        if missing.is_empty() {
            return Ok(Root { mount, shadow: None });
        }
        let shadow = Shadow::make(&mount, workshop, self.upper, &missing)
            .at(Phase::Rootfs, "mount points that the image lacks")?;
        drop(mount);
        shadow.enter().at(Phase::Rootfs, "mount points that the image lacks")?;
        let mount = self.mount(workshop, Some(&shadow))?;
        Ok(Root { mount, shadow: Some(shadow) })
    }

    /// One overlay mount. `lowerdir+` takes one layer a call, so that neither their number nor the length of their
    /// paths meets the page that `mount(2)` squeezes its options into. Older kernels know only the page.
    fn mount(&self, workshop: &Workshop, shadow: Option<&Shadow>) -> Result<OwnedFd, Failure> {
        if overlay_page::is_needed() {
            let object = format!("overlay of {} layers", self.lowers.len());
            return self.mount_by_page(workshop, shadow).at(Phase::Rootfs, object);
        }
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).at(Phase::Rootfs, "overlay")?;
        self.configure(&context, shadow.map(|shadow| shadow.name.as_path()))
            .and_then(|()| mounts::create(&context, self.attributes))
            .map_err(|error| Failure::new(Phase::Rootfs, self.explain(&context), &error))
    }

    fn mount_by_page(&self, workshop: &Workshop, shadow: Option<&Shadow>) -> io::Result<OwnedFd> {
        let shadow_path =
            shadow.map(|shadow| Ok::<_, io::Error>(inner_path(&shadow.home)?.join(&shadow.name)));
        let lowers = shadow_path.transpose()?.into_iter().chain(self.lowers.iter().cloned());
        let lowers = lowers.chain([self.skeleton.to_owned()]).collect();
        let upper = self.upper.map(|Upper { upper, work }| (upper.as_path(), work.as_path()));
        let options = match (self.xattrs, upper) {
            (OverlayXattrs::Trusted, Some(_)) => ",volatile,index=off,metacopy=off,redirect_dir=off",
            (OverlayXattrs::Trusted, None) => ",index=off,metacopy=off,redirect_dir=off",
            (OverlayXattrs::User, Some(_)) => ",volatile,index=off,userxattr",
            (OverlayXattrs::User, None) => ",index=off,userxattr",
        };
        if let Some(Upper { work, .. }) = self.upper {
            forget_volatile(work);
        }
        let name = if shadow.is_some() { "layers.shadow" } else { "layers" };
        overlay_page::Stack { lowers, upper, options }.mount(workshop, name, self.attributes)
    }

    fn configure(&self, context: &OwnedFd, shadow: Option<&Path>) -> io::Result<()> {
        let lowers =
            shadow.into_iter().chain(self.lowers.iter().map(PathBuf::as_path)).chain([self.skeleton]);
        for lower in lowers {
            fsconfig_set_string(context, "lowerdir+", lower)?;
        }
        if let Some(Upper { upper, work }) = self.upper {
            forget_volatile(work);
            fsconfig_set_string(context, "upperdir", upper.as_path())?;
            fsconfig_set_string(context, "workdir", work.as_path())?;
            fsconfig_set_flag(context, "volatile")?;
        }
        fsconfig_set_string(context, "index", "off")?;
        match self.xattrs {
            // Neither redirected directories nor metadata-only copies may get into a layer.
            OverlayXattrs::Trusted => {
                fsconfig_set_string(context, "metacopy", "off")?;
                fsconfig_set_string(context, "redirect_dir", "off")?;
            }
            // Both are off by themselves here; to say so is refused as a contradiction.
            OverlayXattrs::User => fsconfig_set_flag(context, "userxattr")?,
        }
        Ok(())
    }

    fn explain(&self, context: &OwnedFd) -> String {
        let layers = self.lowers.len();
        match mounts::explanation(context).as_str() {
            "" => format!("overlay of {layers} layers"),
            log => format!("overlay of {layers} layers ({log})"),
        }
    }
}

/// A marker left by our own first attempt (or a killed step's) would refuse the mount; the contents are either thrown
/// away or synced by the store before anyone relies on them.
fn forget_volatile(work: &Path) {
    let _ = unlinkat(CWD, work.join("work/incompat/volatile/dirty"), AtFlags::empty());
    let _ = unlinkat(CWD, work.join("work/incompat/volatile"), AtFlags::REMOVEDIR);
}

/// Which of the wanted mount points are not in the tree.
fn missing<'a>(root: &OwnedFd, wanted: &'a [Wanted]) -> Result<Vec<&'a Wanted>, Failure> {
    let mut missing = Vec::new();
    for point in wanted {
        let named =
            mountpoints::open(root, &point.path, OFlags::PATH | OFlags::NOFOLLOW, ResolveFlags::empty());
        let found =
            mountpoints::find(root, &point.path).at(Phase::Mount, point.path.display().to_string())?;
        // A file is mounted on the name itself, even on a dangling link; a directory on what the name leads to.
        let covers_link = point.kind == Kind::Directory && point.may_be_link;
        if found.is_none() && (named.is_err() || covers_link) {
            missing.push(point);
        }
    }
    Ok(missing)
}

/// A lower layer of mount points, on the upper's own file system: with a second file system below it, overlay would
/// report inode and device numbers that change when a file is copied up.
struct Shadow {
    /// The directory the layer lies in.
    home: OwnedFd,
    /// Its name in `home`, which is also the path to it from there.
    name: PathBuf,
    /// What was made in the layer, parents first.
    made: Vec<(PathBuf, Kind)>,
}

impl Shadow {
    fn make(
        image: &OwnedFd,
        workshop: &Workshop,
        upper: Option<&Upper>,
        missing: &[&Wanted],
    ) -> io::Result<Shadow> {
        let (home, name) = Shadow::place(workshop, upper)?;
        mkdirat(&home, &name, Mode::from_raw_mode(0o755))?;
        let layer =
            openat(&home, &name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let mut builder = Builder { image, layer, made: Vec::new(), times: Vec::new() };
        builder.imitate_root()?;
        for point in missing {
            builder.add(point)?;
        }
        Ok(Shadow { home, name, made: builder.finish()? })
    }

    fn place(workshop: &Workshop, upper: Option<&Upper>) -> io::Result<(OwnedFd, PathBuf)> {
        let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Some(Upper { work, .. }) = upper else {
            return Ok((openat(workshop.root(), ".", directory, Mode::empty())?, PathBuf::from("shadow")));
        };
        let (Some(parent), Some(name)) = (work.parent(), work.file_name()) else {
            return Err(rustix::io::Errno::INVAL.into());
        };
        let mut shadow = name.to_owned();
        shadow.push(".shadow");
        Ok((openat(CWD, parent, directory, Mode::empty())?, PathBuf::from(shadow)))
    }

    /// Makes `home` the working directory, so that the layer has a short path that nothing can shadow.
    fn enter(&self) -> io::Result<()> {
        Ok(fchdir(&self.home)?)
    }

    /// Removes the layer. A killed sandbox leaves it beside its work directory, whose owner removes both.
    fn remove(self) {
        for (path, kind) in self.made.iter().rev() {
            let flags = if *kind == Kind::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            let _ = unlinkat(&self.home, self.name.join(path), flags);
        }
        let _ = unlinkat(&self.home, &self.name, AtFlags::REMOVEDIR);
    }
}

struct Builder<'a> {
    image: &'a OwnedFd,
    layer: OwnedFd,
    made: Vec<(PathBuf, Kind)>,
    times: Vec<(PathBuf, Timestamps)>,
}

impl Builder<'_> {
    fn imitate_root(&mut self) -> io::Result<()> {
        self.imitate(Path::new("."))
    }

    fn add(&mut self, point: &Wanted) -> io::Result<()> {
        let (parent, missing) = mountpoints::deepest(self.image, &point.path)?;
        let mut path = PathBuf::new();
        for name in inner_path(&parent)?.components().skip(1) {
            path.push(name);
            if self.make(&path, Kind::Directory)? {
                self.imitate(&path)?;
            }
        }
        for (index, name) in missing.iter().enumerate() {
            path.push(name);
            let last = index + 1 == missing.len();
            self.make(&path, if last { point.kind } else { Kind::Directory })?;
        }
        Ok(())
    }

    /// Makes one entry; false if an earlier mount point already brought it.
    fn make(&mut self, path: &Path, kind: Kind) -> io::Result<bool> {
        match mountpoints::make(&self.layer, path, kind) {
            Ok(_) => {
                self.made.push((path.to_owned(), kind));
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives the layer's directory at `path` everything of the image's directory there, its times at the end.
    fn imitate(&mut self, path: &Path) -> io::Result<()> {
        let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let original = mountpoints::open(self.image, path, directory, ResolveFlags::empty())?;
        let copy = openat(&self.layer, path, directory | OFlags::CLOEXEC, Mode::empty())?;
        let stat = fstat(&original)?;
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        chownat(&self.layer, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        chmodat(&self.layer, path, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
        copy_attributes(&original, &copy)?;
        self.times.push((path.to_owned(), mountpoints::times(&stat)));
        Ok(())
    }

    fn finish(self) -> io::Result<Vec<(PathBuf, Kind)>> {
        for (path, times) in self.times.iter().rev() {
            utimensat(&self.layer, path, times, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(self.made)
    }
}

/// Copies extended attributes (ACLs among them) that the file system takes. Overlay hides its own ones from us.
fn copy_attributes(from: impl AsFd, to: impl AsFd) -> io::Result<()> {
    let mut names = vec![0_u8; 64 << 10];
    let mut value = vec![0_u8; 64 << 10];
    let length = match flistxattr(&from, &mut names) {
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(()),
        other => other?,
    };
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let length = fgetxattr(&from, name, &mut value)?;
        match fsetxattr(&to, name, &value[..length], XattrFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The path of an open directory inside the detached mount it belongs to, links resolved.
fn inner_path(directory: impl AsFd) -> io::Result<PathBuf> {
    use std::os::fd::AsRawFd;
    use std::os::unix::ffi::OsStringExt;
    let link = format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd());
    let target = readlinkat(CWD, link, Vec::new())?;
    Ok(PathBuf::from(std::ffi::OsString::from_vec(target.into_bytes())))
}
