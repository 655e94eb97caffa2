//! What things cost on disk: allocated blocks, each inode once however many names it has.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, openat, statat};

/// Unit of `st_blocks`, whatever the file system's blocks are.
const BLOCK_BYTES: u64 = 512;

/// Counts, and remembers what it has counted.
#[derive(Default)]
pub(crate) struct Meter {
    seen: HashSet<(u64, u64)>,
}

impl Meter {
    /// Bytes on disk of what is at `path` and below and was not counted before; what vanishes meanwhile counts
    /// nothing.
    pub fn bytes(&mut self, path: &Path) -> u64 {
        self.at(CWD, path.as_os_str())
    }

    fn at(&mut self, dir: BorrowedFd<'_>, name: &OsStr) -> u64 {
        let Ok(stat) = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else { return 0 };
        let own = if self.is_new(&stat) { stat.st_blocks as u64 * BLOCK_BYTES } else { 0 };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => own + self.below(dir, name),
            _ => own,
        }
    }

    fn is_new(&mut self, stat: &Stat) -> bool {
        self.seen.insert((stat.st_dev, stat.st_ino))
    }

    fn below(&mut self, dir: BorrowedFd<'_>, name: &OsStr) -> u64 {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(inner) = openat(dir, name, flags, Mode::empty()) else { return 0 };
        let Ok(entries) = Dir::read_from(&inner) else { return 0 };
        let names = entries.flatten().map(|entry| entry.file_name().to_bytes().to_vec());
        let names = names.filter(|name| name != b"." && name != b"..");
        names.map(|name| self.at(inner.as_fd(), OsStr::from_bytes(&name))).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn hard_links_count_once_and_symlinks_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), vec![1; 100_000]).unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::hard_link(dir.path().join("a"), dir.path().join("d/b")).unwrap();
        std::os::unix::fs::symlink("/usr", dir.path().join("d/usr")).unwrap();
        let said =
            std::process::Command::new("du").args(["-s", "--block-size=1"]).arg(dir.path()).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let mut meter = Meter::default();
        assert_eq!(meter.bytes(dir.path()).to_string(), said.split_whitespace().next().unwrap());
        assert_eq!(meter.bytes(&dir.path().join("a")), 0, "counted before");
    }
}
