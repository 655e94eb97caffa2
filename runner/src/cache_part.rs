//! `source` of a cache mount without `from`: the part of the cache that a step is shown.
//!
//! What lies in a cache was put there by earlier steps, and other steps may be changing it right now. So the path is
//! walked once, by a look-up that no link leads out of the cache, and what it found is what gets mounted.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

use crate::guard::{self, Guard};

/// Opens what `source` names in the cache at `dir`.
///
/// # Errors
/// Those of `openat2(2)`.
pub fn open(dir: &Path, source: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    if !Guard::InCache.holds() {
        guard::meanwhile();
        return Ok(openat(CWD, dir.join(source.trim_start_matches('/')), flags, Mode::empty())?);
    }
    let cache = openat(CWD, dir, flags | OFlags::DIRECTORY, Mode::empty())?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let part = openat2(&cache, source, flags, Mode::empty(), resolve)?;
    guard::meanwhile();
    Ok(part)
}

/// Where an open part of a cache lies, for where nothing can be mounted; nobody else has the cache then.
///
/// # Errors
/// Those of `readlink(2)`.
pub fn path_of(part: &OwnedFd) -> io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", part.as_fd().as_raw_fd()))
}
