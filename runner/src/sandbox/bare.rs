//! A step without a namespace and without a mount: the lowest rung on which anything runs (a pod without privileges).
//!
//! The tree is a copy made for this step alone, so what others mount is laid into it and taken out again: the
//! directory or file that has the name is put aside, ours stands in its place, and afterwards it is the other way
//! round, whatever the step did there. Names are looked up by `openat2` in the root and kept as open parents, as
//! everywhere. The supervisor stays outside of the root and adopts whatever the step leaves running.
//!
//! What no sandbox of this kind can hide: the network, other processes of the same user, the kernel's version. A step
//! runs without CAP_SYS_CHROOT (the way out of a root directory), CAP_MKNOD (device nodes would be alive) and
//! CAP_NET_RAW.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timestamps, Uid, chownat, fchmod, fstat,
    makedev, mkdirat, mknodat, openat, readlinkat, renameat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

use super::capabilities::Capabilities;
use super::filesystems::{LINKS, NODES};
use super::mountpoints::{self, Kind, Made};
use super::report::{At, Failure, Phase};
use super::spec::{Mount, MountSource, SandboxSpec};

/// CAP_NET_RAW, CAP_SYS_CHROOT, CAP_MKNOD.
const NEVER: u64 = 1 << 13 | 1 << 18 | 1 << 27;

/// The capabilities of a step here. One that was let do everything keeps them.
pub(super) fn narrow(spec: &mut SandboxSpec) {
    if spec.security.confined {
        let bits = spec.security.capabilities.bits() & !NEVER;
        spec.security.capabilities = Capabilities::from_bits(bits);
    }
}

/// Everything that was laid into the tree.
pub(super) struct Laid {
    root: OwnedFd,
    aside: OwnedFd,
    covers: Vec<Cover>,
    made: Vec<Made>,
}

/// One name of the tree that stands for something else while the step runs.
struct Cover {
    parent: OwnedFd,
    name: PathBuf,
    /// What had the name, under this one in the directory for things put aside.
    original: Option<PathBuf>,
    /// Where what stands there now came from, and goes back to.
    home: Option<PathBuf>,
    parent_times: Timestamps,
}

impl Laid {
    /// Lays /dev, resolv.conf, hosts and the spec's mounts into the tree at `root`; what they cover goes to `aside`,
    /// an empty directory of the same file system.
    pub(super) fn lay(root: &Path, aside: &Path, spec: &SandboxSpec) -> Result<Laid, Failure> {
        let open = |path: &Path| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            openat(CWD, path, flags, Mode::empty()).at(Phase::Rootfs, path.display().to_string())
        };
        let mut laid = Laid { root: open(root)?, aside: open(aside)?, covers: Vec::new(), made: Vec::new() };
        match laid.fill(spec) {
            Ok(()) => Ok(laid),
            Err(failure) => {
                laid.lift();
                Err(failure)
            }
        }
    }

    /// The tree's root directory.
    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    fn fill(&mut self, spec: &SandboxSpec) -> Result<(), Failure> {
        self.devices().at(Phase::Mount, "/dev")?;
        for (path, text) in [("/etc/resolv.conf", &spec.resolv_conf), ("/etc/hosts", &spec.hosts)] {
            let Some(text) = text else { continue };
            let (parent, name) = self.leaf(Path::new(path)).at(Phase::Mount, path)?;
            self.file(parent, &name, text.as_bytes(), 0o644, (0, 0)).at(Phase::Mount, path)?;
        }
        spec.mounts.iter().try_for_each(|mount| self.mount(mount).at(Phase::Mount, mount.target.as_str()))
    }

    /// The nodes that every sandbox has, as far as this process may make them: a plain file takes what is written to
    /// a `/dev/null` that could not be made, and reads as nothing at first.
    fn devices(&mut self) -> io::Result<()> {
        let (parent, name) = self.leaf(Path::new("/dev"))?;
        let dev = self.directory(parent, &name, 0o755)?;
        for (name, (major, minor)) in NODES {
            let mode = Mode::from_raw_mode(0o666);
            match mknodat(&dev, name, FileType::CharacterDevice, mode, makedev(major, minor)) {
                Ok(()) => {}
                Err(_) if name == "null" => drop(mountpoints::make(&dev, Path::new(name), Kind::File)?),
                Err(_) => continue,
            }
            rustix::fs::chmodat(&dev, name, mode, AtFlags::empty())?;
        }
        for (name, target) in LINKS.iter().filter(|(name, _)| *name != "ptmx") {
            symlinkat(*target, &dev, *name)?;
        }
        mkdirat(&dev, "shm", Mode::from_raw_mode(0o1777))?;
        rustix::fs::chmodat(&dev, "shm", Mode::from_raw_mode(0o1777), AtFlags::empty())?;
        Ok(())
    }

    fn mount(&mut self, mount: &Mount) -> io::Result<()> {
        let (parent, name) = self.place(Path::new(&mount.target))?;
        match &mount.source {
            MountSource::Tmpfs { mode, .. } => self.directory(parent, &name, *mode).map(drop),
            MountSource::File { bytes, mode, uid, gid } => {
                self.file(parent, &name, bytes, *mode, (*uid, *gid))
            }
            MountSource::Path(path) => self.borrow(parent, &name, path),
            MountSource::Handle(_) => Err(rustix::io::Errno::NOTSUP.into()),
        }
    }

    /// The parent of a name that is covered itself, even if it is a symbolic link.
    fn leaf(&mut self, path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(rustix::io::Errno::INVAL.into());
        };
        let parent = match parent == Path::new("/") {
            true => self.root.try_clone()?,
            false => mountpoints::open_or_make(&self.root, parent, Kind::Directory, &mut self.made)?,
        };
        Ok((parent, name.into()))
    }

    /// The parent of what a path leads to, symbolic links followed in the tree.
    fn place(&mut self, path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
        let Some(found) = mountpoints::find(&self.root, path)? else { return self.leaf_behind_links(path) };
        let inside = self.inner(&found)?;
        let (Some(parent), Some(name)) = (inside.parent(), inside.file_name()) else {
            return Err(rustix::io::Errno::BUSY.into());
        };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        Ok((mountpoints::open(&self.root, parent, flags, ResolveFlags::NO_SYMLINKS)?, name.into()))
    }

    fn leaf_behind_links(&mut self, path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
        let (deepest, missing) = mountpoints::deepest(&self.root, path)?;
        let mut inside = self.inner(&deepest)?;
        inside.extend(&missing);
        self.leaf(&Path::new("/").join(inside))
    }

    /// Where in the tree an open file lies.
    fn inner(&self, file: &OwnedFd) -> io::Result<PathBuf> {
        let (root, path) = (host_path(&self.root)?, host_path(file)?);
        path.strip_prefix(root).map(Path::to_owned).map_err(|_| rustix::io::Errno::XDEV.into())
    }

    fn directory(&mut self, parent: OwnedFd, name: &Path, mode: u32) -> io::Result<OwnedFd> {
        let times = self.clear(&parent, name)?;
        mkdirat(&parent, name, Mode::from_raw_mode(0o700))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(&parent, name, flags, Mode::empty())?;
        fchmod(&directory, Mode::from_raw_mode(mode))?;
        self.settle(parent, name, None, times)?;
        Ok(directory)
    }

    fn file(
        &mut self,
        parent: OwnedFd,
        name: &Path,
        bytes: &[u8],
        mode: u32,
        owner: (u32, u32),
    ) -> io::Result<()> {
        let times = self.clear(&parent, name)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::File::from(openat(&parent, name, flags, Mode::from_raw_mode(0o600))?);
        io::Write::write_all(&mut &file, bytes)?;
        let ids = (Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)));
        if owner != (0, 0) {
            chownat(&parent, name, ids.0, ids.1, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        fchmod(&file, Mode::from_raw_mode(mode))?;
        self.settle(parent, name, None, times)
    }

    /// Moves a directory or file of ours into the tree, until the step is over.
    fn borrow(&mut self, parent: OwnedFd, name: &Path, home: &Path) -> io::Result<()> {
        let times = self.clear(&parent, name)?;
        let moved = renameat(CWD, home, &parent, name);
        self.settle(parent, name, moved.is_ok().then(|| home.to_owned()), times)?;
        Ok(moved?)
    }

    /// Puts aside what has a name. Gives the times that its directory had before.
    fn clear(&mut self, parent: &OwnedFd, name: &Path) -> io::Result<(Option<PathBuf>, Timestamps)> {
        let times = mountpoints::times(&fstat(parent)?);
        let aside = PathBuf::from(self.covers.len().to_string());
        match renameat(parent, name, &self.aside, &aside) {
            Ok(()) => Ok((Some(aside), times)),
            Err(rustix::io::Errno::NOENT) => Ok((None, times)),
            Err(error) => Err(error.into()),
        }
    }

    fn settle(
        &mut self,
        parent: OwnedFd,
        name: &Path,
        home: Option<PathBuf>,
        (original, parent_times): (Option<PathBuf>, Timestamps),
    ) -> io::Result<()> {
        utimensat(&parent, ".", &parent_times, AtFlags::SYMLINK_NOFOLLOW)?;
        self.covers.push(Cover { parent, name: name.to_owned(), original, home, parent_times });
        Ok(())
    }

    /// Takes everything out again, the last first. All processes of the step are gone.
    pub(super) fn lift(mut self) {
        while let Some(cover) = self.covers.pop() {
            // What fails here stays in a tree that is thrown away, and shows up as a change of the step at worst.
            let _ = cover.lift(&self.aside);
        }
        mountpoints::take_back(self.made);
    }
}

impl Cover {
    fn lift(&self, aside: &OwnedFd) -> io::Result<()> {
        let untouched =
            mountpoints::same_times(&mountpoints::times(&fstat(&self.parent)?), &self.parent_times);
        match &self.home {
            Some(home) => {
                let _ = renameat(&self.parent, &self.name, CWD, home);
            }
            None => remove(&self.parent, &self.name)?,
        }
        if let Some(original) = &self.original {
            // A step that removed our directory and made something else keeps neither.
            remove(&self.parent, &self.name)?;
            renameat(aside, original, &self.parent, &self.name)?;
        }
        if untouched {
            utimensat(&self.parent, ".", &self.parent_times, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }
}

/// Removes a name and all below it, by open directories.
fn remove(parent: &OwnedFd, name: &Path) -> io::Result<()> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Directory => {
            return Ok(unlinkat(parent, name, AtFlags::empty())?);
        }
        Ok(_) => {}
    }
    let path = host_path(parent)?.join(name);
    fs::remove_dir_all(path)
}

/// The path of an open file on this machine.
fn host_path(file: impl AsFd) -> io::Result<PathBuf> {
    use std::os::fd::AsRawFd;
    use std::os::unix::ffi::OsStringExt;
    let link = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    Ok(PathBuf::from(std::ffi::OsString::from_vec(readlinkat(CWD, link, Vec::new())?.into_bytes())))
}

/// Ends every process that comes from this one. Orphans come to us, so once nobody is our child nobody is left.
pub(super) fn kill_descendants() {
    loop {
        for child in children() {
            let _ = kill_process(child, Signal::KILL);
        }
        match wait(WaitOptions::empty()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

fn children() -> Vec<Pid> {
    let own = std::process::id();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers.filter(|number| parent_of(*number) == Some(own)).filter_map(Pid::from_raw).collect()
}

/// The fourth field of `/proc/PID/stat`; the second may hold anything but ends with the last parenthesis.
fn parent_of(number: i32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
