//! Hashes of a context's files, remembered under what tells that a file is still the same one.
//!
//! A hash is reused only while device, inode, size, mtime and ctime are all unchanged. A file that was changed
//! so shortly before it was read that a later change could carry the same ctime is not remembered at all (the
//! racy-timestamp rule, as git has it). ctime cannot be set by programs, so keeping size and mtime fools nobody.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use forge_store::rootdir::{Mtime, Stat};

/// The first bytes of the file: another format is not read.
const MAGIC: &[u8; 8] = b"fstamp1\n";

/// How much older than the read a ctime must be. Kernels step the clock of inodes by up to 10 ms.
const RACY_NS: i128 = 20_000_000;

/// Device, inode, size, mtime and ctime.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    dev: u64,
    ino: u64,
    size: u64,
    mtime: (i64, u32),
    ctime: (i64, u32),
}

impl Stamp {
    fn of(stat: &Stat) -> Self {
        let pair = |time: Mtime| (time.sec, time.nsec);
        Self {
            dev: stat.dev,
            ino: stat.ino,
            size: stat.size,
            mtime: pair(stat.mtime),
            ctime: pair(stat.ctime),
        }
    }
}

/// The remembered hashes of one context.
pub struct Stamps {
    path: PathBuf,
    old: HashMap<PathBuf, (Stamp, blake3::Hash)>,
    new: Mutex<HashMap<PathBuf, (Stamp, blake3::Hash)>>,
    /// Hashes of this build that tell nothing about the next: their files were young.
    racy: Mutex<HashMap<PathBuf, (Stamp, blake3::Hash)>>,
    changed: AtomicBool,
}

impl Stamps {
    /// Reads what an earlier build left; nothing if it cannot be read.
    pub fn load(path: &Path) -> Self {
        let old = fs::read(path).ok().and_then(|bytes| decode(&bytes)).unwrap_or_default();
        Self { path: path.to_owned(), old, ..Self::none() }
    }

    /// Remembers within this build only.
    pub fn none() -> Self {
        Self {
            path: PathBuf::new(),
            old: HashMap::new(),
            new: Mutex::new(HashMap::new()),
            racy: Mutex::new(HashMap::new()),
            changed: AtomicBool::new(false),
        }
    }

    /// The hash of the file, if it is certain to be the one that was hashed.
    pub fn get(&self, path: &Path, stat: &Stat) -> Option<blake3::Hash> {
        let same = |(stamp, hash): &(Stamp, blake3::Hash)| (*stamp == Stamp::of(stat)).then_some(*hash);
        let old = self.old.get(path).and_then(same);
        old.or_else(|| self.new.lock().unwrap_or_else(PoisonError::into_inner).get(path).and_then(same))
    }

    /// The hash that was taken of the file for this build's keys. Unlike [`Stamps::get`] it says nothing about what
    /// the file holds now, so whoever uses it reads and compares.
    pub fn hashed(&self, path: &Path, stat: &Stat) -> Option<blake3::Hash> {
        let racy = || {
            let racy = self.racy.lock().unwrap_or_else(PoisonError::into_inner);
            racy.get(path).filter(|(stamp, _)| *stamp == Stamp::of(stat)).map(|(_, hash)| *hash)
        };
        self.get(path, stat).or_else(racy)
    }

    /// Remembers a hash of a file whose metadata, `stat`, was taken when it was opened.
    pub fn put(&self, path: &Path, stat: &Stat, hash: blake3::Hash) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i128);
        let ctime = i128::from(stat.ctime.sec) * 1_000_000_000 + i128::from(stat.ctime.nsec);
        let is_racy = now - ctime <= RACY_NS;
        let known = if is_racy { &self.racy } else { &self.new };
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(path.to_owned(), (Stamp::of(stat), hash));
        self.changed.fetch_or(!is_racy, Ordering::Relaxed);
    }

    /// Writes what is known, aside and renamed.
    pub fn save(&self) {
        if !self.changed.load(Ordering::Relaxed) {
            return;
        }
        let new = self.new.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: HashMap<&Path, &(Stamp, blake3::Hash)> =
            self.old.iter().map(|(path, entry)| (path.as_path(), entry)).collect();
        all.extend(new.iter().map(|(path, entry)| (path.as_path(), entry)));
        let bytes = encode(&all);
        let Some(dir) = self.path.parent().filter(|dir| !dir.as_os_str().is_empty()) else { return };
        if let Ok(mut file) = tempfile::NamedTempFile::new_in(dir)
            && file.write_all(&bytes).is_ok()
        {
            let _ = file.persist(&self.path);
        }
    }
}

fn encode(entries: &HashMap<&Path, &(Stamp, blake3::Hash)>) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    for (path, (stamp, hash)) in entries {
        let path = path.as_os_str().as_bytes();
        out.extend((path.len() as u32).to_le_bytes());
        out.extend(path);
        for number in [stamp.dev, stamp.ino, stamp.size, stamp.mtime.0 as u64, stamp.ctime.0 as u64] {
            out.extend(number.to_le_bytes());
        }
        out.extend(stamp.mtime.1.to_le_bytes());
        out.extend(stamp.ctime.1.to_le_bytes());
        out.extend(hash.as_bytes());
    }
    // A torn file must not be read as a short one.
    out.extend(blake3::hash(&out).as_bytes());
    out
}

fn decode(bytes: &[u8]) -> Option<HashMap<PathBuf, (Stamp, blake3::Hash)>> {
    let (body, seal) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    if blake3::hash(body).as_bytes() != seal {
        return None;
    }
    let mut reader = Reader(body.strip_prefix(MAGIC)?);
    let mut entries = HashMap::new();
    while !reader.0.is_empty() {
        let length = reader.u32()? as usize;
        let path = std::ffi::OsString::from_vec(reader.take(length)?.to_vec());
        let [dev, ino, size, mtime, ctime] =
            [reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?];
        let (mtime_ns, ctime_ns) = (reader.u32()?, reader.u32()?);
        let hash = blake3::Hash::from_bytes(reader.take(32)?.try_into().ok()?);
        let stamp =
            Stamp { dev, ino, size, mtime: (mtime as i64, mtime_ns), ctime: (ctime as i64, ctime_ns) };
        entries.insert(PathBuf::from(path), (stamp, hash));
    }
    Some(entries)
}

/// Reads numbers off the front of some bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }
}
