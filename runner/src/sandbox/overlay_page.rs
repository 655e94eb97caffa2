//! An overlay by `mount(2)`, for kernels before 6.7, which know no `lowerdir+`.
//!
//! All options of that call share one page, which the paths of a few dozen layers would fill. So every layer gets a
//! symbolic link with a short name in a directory of the workshop, and the call is made from there: the page then
//! holds more layers than overlayfs stacks (500). Neither `,` nor `:` in a layer's path means anything either.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat, symlinkat};
use rustix::mount::{MountAttrFlags, MountFlags, UnmountFlags, mount, unmount};
use rustix::process::fchdir;

use super::mounts;
use super::workshop::Workshop;

/// Where it is mounted before it is taken away from there.
const PLACE: &str = "tree";

/// A page, less what the kernel adds.
const ROOM: usize = 4096 - 2;

/// The first kernel with `lowerdir+`.
const NEWER: (u32, u32) = (6, 7);

/// Whether this kernel is too old for the other way. Trying would leave a line in its log for each step.
pub(super) fn is_needed() -> bool {
    version(&rustix::system::uname().release().to_string_lossy()).is_some_and(|version| version < NEWER)
}

/// `6.1.0-42-cloud` is 6.1.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// What to stack. Paths are absolute.
pub(super) struct Stack<'a> {
    /// The topmost first.
    pub(super) lowers: Vec<PathBuf>,
    /// The upper directory and the work directory.
    pub(super) upper: Option<(&'a Path, &'a Path)>,
    /// Further options, each with a comma before it.
    pub(super) options: &'a str,
}

impl Stack<'_> {
    /// Mounts it, detached. `name` is a new directory of the workshop.
    pub(super) fn mount(
        &self,
        workshop: &Workshop,
        name: &str,
        attributes: MountAttrFlags,
    ) -> io::Result<OwnedFd> {
        let directory = workshop.directory(name)?;
        let options = self.link(&directory)?;
        mkdirat(&directory, PLACE, Mode::from_raw_mode(0o700))?;
        let before = openat(CWD, ".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        fchdir(&directory)?;
        let mounted = mount("overlay", PLACE, "overlay", MountFlags::empty(), options.as_c_str());
        let taken = mounted.map_err(io::Error::from).and_then(|()| {
            let taken = mounts::copy_with(CWD, PLACE, false, attributes);
            unmount(PLACE, UnmountFlags::DETACH)?;
            taken
        });
        fchdir(&before)?;
        taken
    }

    /// Makes the links; gives the options.
    fn link(&self, directory: impl AsFd) -> io::Result<CString> {
        let mut options = String::from("lowerdir=");
        for (index, lower) in self.lowers.iter().enumerate() {
            let name = index.to_string();
            symlinkat(lower, &directory, name.as_str())?;
            if index > 0 {
                options.push(':');
            }
            options.push_str(&name);
        }
        if let Some((upper, work)) = self.upper {
            symlinkat(upper, &directory, "upper")?;
            symlinkat(work, &directory, "work")?;
            options.push_str(",upperdir=upper,workdir=work");
        }
        options.push_str(self.options);
        if options.len() > ROOM {
            return Err(rustix::io::Errno::TOOBIG.into());
        }
        Ok(CString::new(options)?)
    }
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn kernels_are_ordered_by_numbers() {
        assert_eq!(version("6.1.0-42-cloud-amd64"), Some((6, 1)));
        assert_eq!(version("5.14.0-427.el9"), Some((5, 14)));
        assert!(version("6.10-rc1") > version("6.7"));
        assert_eq!(version("unknown"), None);
    }
}
