//! Layers stacked by `fuse-overlayfs`, where the kernel does not stack them for us (in a user namespace of a kernel
//! before 5.11, on a file system that overlayfs takes no upper directory on).
//!
//! The program runs in a mount namespace of its own, which the sandbox joins before it makes its own of it: so the
//! mount is gone with the program, and the program with the thread that started it. Its marks are translated afterwards
//! into those of the store's trees.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use forge_store::rootdir::{Dir, FileKind};
use forge_store::tree::{OverlayXattrs, create_whiteout, is_whiteout};
use forge_store::{Draft, RootDir};

use crate::files::{FilesError, TreeView};
use crate::sandbox::spec::Rootfs;
use crate::userns::find_program;
use crate::{Failure, Phase, sys};

/// The longest that the program may take until it serves.
const START: Duration = Duration::from_secs(10);

/// The program, if it is there and may be used.
pub(super) fn find(search_path: &str) -> Option<PathBuf> {
    let usable = rustix::fs::access("/dev/fuse", rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK);
    usable.ok().and_then(|()| find_program("fuse-overlayfs", search_path))
}

/// A mounted stack; unmounted with the value.
pub(super) struct Stack {
    program: Child,
    place: Draft,
}

impl Stack {
    /// Mounts `lowers` (the topmost first) and below them `skeleton`, with `draft` on top, in a directory of `place`.
    pub(super) fn mount(
        program: &Path,
        lowers: &[PathBuf],
        skeleton: &Path,
        draft: &Draft,
        place: Draft,
    ) -> Result<Stack, Failure> {
        let parts_options =
            |path: &Path| path.as_os_str().as_bytes().iter().any(|byte| b":,\\".contains(byte));
        let tree = draft.tree();
        if parts_options(&tree) || parts_options(skeleton) {
            let error = std::io::Error::from_raw_os_error(libc::EINVAL);
            return Err(refused(format!("a `:`, `,` or `\\` in {}", tree.display()), &error));
        }
        let lowers = lowers.iter().map(PathBuf::as_path).chain([skeleton]);
        let mut options = OsString::from("lowerdir=");
        for (index, lower) in lowers.enumerate() {
            if index > 0 {
                options.push(":");
            }
            options.push(lower);
        }
        for (name, path) in [(",upperdir=", tree), (",workdir=", draft.work())] {
            options.push(name);
            options.push(path);
        }
        let mut command = Command::new(program);
        command.arg("-f").arg("-o").arg(options).arg(place.tree()).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        sys::in_own_mounts(&mut command);
        sys::die_with_this_thread(&mut command);
        let child = command.spawn().map_err(|error| refused(program.display().to_string(), &error))?;
        let mut stack = Stack { program: child, place };
        stack.wait()?;
        Ok(stack)
    }

    /// Waits until the mount is there, as the program's own namespace shows it.
    fn wait(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        let seen = PathBuf::from(format!("/proc/{}/mountinfo", self.program.id()));
        let place = self.place.tree();
        loop {
            let mounts = std::fs::read(&seen).unwrap_or_default();
            let is_there = mounts
                .split(|byte| *byte == b'\n')
                .any(|line| line.split(|byte| *byte == b' ').nth(4) == Some(place.as_os_str().as_bytes()));
            if is_there {
                return Ok(());
            }
            if let Ok(Some(_)) = self.program.try_wait() {
                let mut said = String::new();
                if let Some(stderr) = &mut self.program.stderr {
                    let _ = std::io::Read::read_to_string(stderr, &mut said);
                }
                return Err(refused(said.trim(), &std::io::Error::from_raw_os_error(libc::EPERM)));
            }
            if began.elapsed() > START {
                return Err(refused(
                    "it does not answer",
                    &std::io::Error::from_raw_os_error(libc::ETIMEDOUT),
                ));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The tree, for a sandbox that joins the namespace.
    pub(super) fn rootfs(&self) -> Rootfs {
        let program = self.program.id();
        Rootfs::Mounted { path: self.place.tree(), program }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

fn refused(object: impl std::fmt::Display, error: &std::io::Error) -> Failure {
    Failure::new(Phase::Rootfs, format!("fuse-overlayfs: {object}"), error)
}

/// Turns the program's marks in a finished draft over `view` into those of the store's trees. It calls every new
/// directory opaque, and hides names that nothing below has; a mark that says nothing is no part of a layer.
pub(super) fn translate(draft: &Draft, view: &dyn TreeView, marks: OverlayXattrs) -> Result<(), FilesError> {
    let root = RootDir::open_host(draft.tree())?;
    Translator { view, marks }.directory(root.dir(), Path::new(""))
}

const OPAQUE: [&str; 3] = ["user.fuseoverlayfs.opaque", "trusted.overlay.opaque", "user.overlay.opaque"];
const OPAQUE_FILE: &[u8] = b".wh..wh..opq";
const WHITEOUT: &[u8] = b".wh.";

struct Translator<'a> {
    view: &'a dyn TreeView,
    marks: OverlayXattrs,
}

impl Translator<'_> {
    fn directory(&self, dir: &Dir, path: &Path) -> Result<(), FilesError> {
        let mtime = dir.stat()?.mtime;
        let mut is_opaque = false;
        for entry in dir.read_dir()? {
            if entry.name.as_bytes() == OPAQUE_FILE {
                is_opaque = true;
                dir.at(&entry.name)?.remove_file()?;
            } else {
                self.entry(dir, &entry.name, path)?;
            }
        }
        let itself = dir.itself();
        for name in OPAQUE {
            if itself.xattr(name)?.is_some() {
                is_opaque = true;
                itself.remove_xattr(name)?;
            }
        }
        strip(itself)?;
        // The layer's own root is never a new directory.
        if is_opaque && !path.as_os_str().is_empty() && self.view.stat(path)?.is_some() {
            self.marks.set_opaque(itself)?;
        }
        Ok(itself.set_mtime(mtime)?)
    }

    fn entry(&self, dir: &Dir, name: &OsStr, parent: &Path) -> Result<(), FilesError> {
        let at = dir.at(name)?;
        let stat = at.stat()?;
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            at.remove_file()?;
            let hidden = OsStr::from_bytes(hidden);
            let is_free = dir.at(hidden)?.try_stat()?.is_none();
            if is_free && self.view.stat(&parent.join(hidden))?.is_some() {
                create_whiteout(dir.at(hidden)?, self.marks)?;
            }
            return Ok(());
        }
        let path = parent.join(name);
        match stat.kind {
            FileKind::Directory => self.directory(&at.open_dir()?, &path),
            FileKind::Regular => strip(at),
            FileKind::Char if is_whiteout(&stat) && self.view.stat(&path)?.is_none() => Ok(at.remove_file()?),
            _ => Ok(()),
        }
    }
}

/// Removes the program's own attributes.
fn strip(at: forge_store::rootdir::At<'_>) -> Result<(), FilesError> {
    for name in at.xattrs()? {
        if name.as_bytes().starts_with(b"user.fuseoverlayfs.") {
            at.remove_xattr(&name)?;
        }
    }
    Ok(())
}
