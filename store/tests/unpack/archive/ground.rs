//! A tree to unpack into, and beside it what must never change.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use forge_store::layer::{UnpackError, UnpackOptions, Unpacked, unpack};
use forge_store::tree::OverlayXattrs;
use forge_store::{Digest, RootDir};
use tempfile::TempDir;

/// ```text
/// top/outside/{canary,dir/}     what must not change
/// top/tree/                     what is unpacked into
/// ```
pub struct Ground {
    top: TempDir,
    outside: Listing,
}

/// Files by path, each as a line.
pub type Listing = BTreeMap<String, String>;

impl Ground {
    pub fn new() -> Self {
        let top = TempDir::new().unwrap();
        fs::create_dir_all(top.path().join("outside/dir")).unwrap();
        fs::create_dir(top.path().join("tree")).unwrap();
        fs::write(top.path().join("outside/canary"), "untouched").unwrap();
        let outside = list(&top.path().join("outside"));
        Self { top, outside }
    }

    pub fn tree(&self) -> PathBuf {
        self.top.path().join("tree")
    }

    pub fn outside(&self) -> PathBuf {
        self.top.path().join("outside")
    }

    pub fn root(&self) -> RootDir {
        RootDir::open_host(self.tree()).unwrap()
    }

    /// Unpacks a layer.
    pub fn layer(&self, archive: &[u8]) -> Result<Unpacked, UnpackError> {
        self.unpack(archive, &UnpackOptions::layer(OverlayXattrs::Trusted))
    }

    /// Unpacks an archive, as ADD does.
    pub fn archive(&self, archive: &[u8]) -> Result<Unpacked, UnpackError> {
        self.unpack(archive, &UnpackOptions::archive(OverlayXattrs::Trusted))
    }

    /// Unpacks, and sees to it that nothing outside changed.
    #[track_caller]
    pub fn unpack(&self, archive: &[u8], options: &UnpackOptions) -> Result<Unpacked, UnpackError> {
        let unpacked = unpack(archive, &self.root(), options);
        self.check_outside();
        unpacked
    }

    #[track_caller]
    pub fn check_outside(&self) {
        assert_eq!(list(&self.outside()), self.outside);
        let names: Vec<_> = fs::read_dir(self.top.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }

    /// The line of one file.
    #[track_caller]
    pub fn line(&self, path: &str) -> String {
        describe(&self.tree().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.tree().join(path)).unwrap()
    }

    pub fn exists(&self, path: &str) -> bool {
        self.tree().join(path).symlink_metadata().is_ok()
    }

    pub fn inode(&self, path: &str) -> u64 {
        self.tree().join(path).symlink_metadata().unwrap().ino()
    }

    pub fn xattr(&self, path: &str, name: &str) -> Option<Vec<u8>> {
        if path.is_empty() {
            return self.root().dir().itself().xattr(name).unwrap();
        }
        self.root().parent_of(path, None).unwrap().at().xattr(name).unwrap()
    }

    pub fn make_dir(&self, path: &str) -> &Self {
        fs::create_dir_all(self.tree().join(path)).unwrap();
        self
    }

    pub fn make_file(&self, path: &str, content: &str) -> &Self {
        fs::write(self.tree().join(path), content).unwrap();
        self
    }

    pub fn make_link(&self, path: &str, target: &str) -> &Self {
        symlink(target, self.tree().join(path)).unwrap();
        self
    }
}

/// All below a directory, but not itself.
pub fn list(top: &Path) -> Listing {
    let mut listing = Listing::new();
    let mut todo = vec![OsString::new()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(top.join(&directory)).unwrap() {
            let path = Path::new(&directory).join(entry.unwrap().file_name());
            let full = top.join(&path);
            listing.insert(path.as_os_str().as_bytes().escape_ascii().to_string(), describe(&full).unwrap());
            if full.symlink_metadata().unwrap().is_dir() {
                todo.push(path.into_os_string());
            }
        }
    }
    listing
}

/// `kind mode uid:gid mtime`, and what such a file has besides.
fn describe(path: &Path) -> std::io::Result<String> {
    let stat = path.symlink_metadata()?;
    let kind = stat.file_type();
    let letter = match () {
        _ if kind.is_dir() => 'd',
        _ if kind.is_symlink() => 'l',
        _ if kind.is_char_device() => 'c',
        _ if kind.is_block_device() => 'b',
        _ if kind.is_fifo() => 'p',
        _ if kind.is_socket() => 's',
        _ => '-',
    };
    let (mode, uid, gid) = (stat.mode() & 0o7777, stat.uid(), stat.gid());
    let mut line = format!("{letter} {mode:04o} {uid}:{gid} {}.{:09}", stat.mtime(), stat.mtime_nsec());
    if kind.is_symlink() {
        let target = fs::read_link(path)?.into_os_string().into_vec();
        write!(line, " -> {}", target.escape_ascii()).unwrap();
    }
    if kind.is_file() {
        let content = fs::read(path)?;
        write!(line, " {} {} x{}", content.len(), Digest::of(&content).short(), stat.nlink()).unwrap();
    }
    if kind.is_char_device() || kind.is_block_device() {
        let device = rustix::fs::major(stat.rdev());
        write!(line, " {device}:{}", rustix::fs::minor(stat.rdev())).unwrap();
    }
    Ok(line)
}
