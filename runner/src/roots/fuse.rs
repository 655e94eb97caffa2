//! Layers stacked by `fuse-overlayfs`, where the kernel does not stack them for us (in a user namespace of a kernel
//! before 5.11, on a file system that overlayfs takes no upper directory on).
//!
//! The program runs in a mount namespace of its own, which the sandbox joins before it makes its own of it: so the
//! mount is gone with the program, and the program with the thread that started it. Its marks are translated afterwards
//! into those of the store's trees.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use forge_store::rootdir::{Dir, FileKind};
use forge_store::tree::OverlayXattrs;
use forge_store::{Draft, RootDir};

use crate::files::FilesError;
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

/// Turns the program's marks in a finished draft into those of the store's trees.
pub(super) fn translate(draft: &Draft, marks: OverlayXattrs) -> Result<(), FilesError> {
    let root = RootDir::open_host(draft.tree())?;
    directory(root.dir(), marks)
}

const OPAQUE: [&str; 3] = ["user.fuseoverlayfs.opaque", "trusted.overlay.opaque", "user.overlay.opaque"];
const OPAQUE_FILE: &[u8] = b".wh..wh..opq";
const WHITEOUT: &[u8] = b".wh.";

fn directory(dir: &Dir, marks: OverlayXattrs) -> Result<(), FilesError> {
    let mtime = dir.stat()?.mtime;
    let mut is_opaque = false;
    for entry in dir.read_dir()? {
        let at = dir.at(&entry.name)?;
        let name = entry.name.as_bytes();
        if name == OPAQUE_FILE {
            is_opaque = true;
            at.remove_file()?;
            continue;
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            at.remove_file()?;
            let hidden = dir.at(std::ffi::OsStr::from_bytes(hidden))?;
            if hidden.try_stat()?.is_none() {
                forge_store::tree::create_whiteout(hidden, marks)?;
            }
            continue;
        }
        match at.stat()?.kind {
            FileKind::Directory => directory(&at.open_dir()?, marks)?,
            FileKind::Regular => strip(at)?,
            _ => {}
        }
    }
    let itself = dir.itself();
    for name in OPAQUE {
        is_opaque |= itself.xattr(name)?.as_deref() == Some(b"y");
    }
    strip(itself)?;
    if is_opaque {
        marks.set_opaque(itself)?;
    }
    Ok(itself.set_mtime(mtime)?)
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::FileTypeExt;

    use forge_store::Store;

    use super::*;

    /// The kernel here stacks layers itself, so the program is tried without a step: what it shows, and what its layer
    /// becomes.
    #[test]
    fn layers_are_stacked_and_its_marks_become_ours() {
        let program = find("/usr/bin:/bin").expect("install fuse-overlayfs, and run as root");
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        for (file, text) in [("one/d/a", "a"), ("one/d/b", "b"), ("two/d/c", "c"), ("skeleton/proc/x", "")] {
            fs::create_dir_all(at(file).parent().unwrap()).unwrap();
            fs::write(at(file), text).unwrap();
        }
        let store = Store::open(&at("store"), OverlayXattrs::Trusted).unwrap();
        let draft = store.draft().unwrap();
        let lowers = [at("two"), at("one")];
        let stack =
            Stack::mount(&program, &lowers, &at("skeleton"), &draft, store.scratch().unwrap()).unwrap();
        let Rootfs::Mounted { path, program } = stack.rootfs() else { panic!("no mount") };
        assert!(!path.join("d").exists(), "the mount is in the program's namespace only");
        let script = format!(
            "cd {} && cat d/a d/b d/c && rm d/a && rm -r proc && mkdir proc && touch proc/y",
            path.display()
        );
        let target = program.to_string();
        let seen = Command::new("nsenter")
            .args(["--mount", "--target", &target, "sh", "-c", &script])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&seen.stdout), "abc", "{seen:?}");
        drop(stack);
        translate(&draft, OverlayXattrs::Trusted).unwrap();
        let tree = draft.tree();
        assert!(fs::symlink_metadata(tree.join("d/a")).unwrap().file_type().is_char_device());
        assert!(tree.join("proc/y").exists());
        let root = RootDir::open_host(&tree).unwrap();
        let opaque = root.dir().at("proc").unwrap().xattr("trusted.overlay.opaque").unwrap();
        assert_eq!(opaque.as_deref(), Some(b"y".as_slice()));
        assert!(
            root.dir()
                .at("d")
                .unwrap()
                .xattrs()
                .unwrap()
                .iter()
                .all(|name| !name.as_bytes().starts_with(b"user.fuse"))
        );
    }
}
