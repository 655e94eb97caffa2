//! Hashes of a context's files, remembered under what tells that a file is still the same one.
//!
//! A hash is reused only while device, inode, size, mtime and ctime are all unchanged. A file that was changed
//! so shortly before it was read that a later change could carry the same ctime is not remembered at all (the
//! racy-timestamp rule, as git has it). ctime cannot be set by programs, so keeping size and mtime fools nobody.
//! Paths do not count: an inode that was not touched holds what it held, whatever it is called.
//!
//! The file is a row of records of one size behind a magic number, and a hash of it all. It is used as it was read:
//! a table of positions by inode is all that is made of it, so that 100,000 records cost a few milliseconds.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use forge_store::rootdir::{Mtime, Stat};

/// The first bytes of the file: another format is not read.
const MAGIC: &[u8; 8] = b"fstamp2\n";

/// How much older than the read a ctime must be. Kernels step the clock of inodes by up to 10 ms.
const RACY_NS: i128 = 20_000_000;

/// A stamp and a hash.
const RECORD_BYTES: usize = STAMP_BYTES + 32;
const STAMP_BYTES: usize = 5 * 8 + 2 * 4;

/// Records of files that were not met for long are dropped once they are more than this, and than those that were.
const MOST_UNMET: usize = 20_000;

/// Device, inode, size, mtime and ctime, as the file holds them.
type Stamp = [u8; STAMP_BYTES];

fn stamp(stat: &Stat) -> Stamp {
    let Stat { dev, ino, size, mtime, ctime, .. } = stat;
    let mut stamp = [0; STAMP_BYTES];
    let words = [*ino, *dev, *size, mtime.sec as u64, ctime.sec as u64];
    for (place, word) in stamp.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    let Mtime { nsec: mtime, .. } = mtime;
    stamp[40..44].copy_from_slice(&mtime.to_le_bytes());
    stamp[44..].copy_from_slice(&ctime.nsec.to_le_bytes());
    stamp
}

/// The remembered hashes of one context.
pub struct Stamps {
    path: PathBuf,
    old: Table,
    new: Mutex<HashMap<Stamp, blake3::Hash>>,
    /// Hashes of this build that tell nothing about the next: their files were young.
    racy: Mutex<HashMap<Stamp, blake3::Hash>>,
    changed: AtomicBool,
}

impl Stamps {
    /// Reads what an earlier build left; nothing if it cannot be read.
    pub fn load(path: &Path) -> Self {
        let old = fs::read(path).ok().and_then(Table::new).unwrap_or_default();
        Self { path: path.to_owned(), old, ..Self::none() }
    }

    /// Remembers within this build only.
    pub fn none() -> Self {
        let (new, racy) = (Mutex::default(), Mutex::default());
        Self { path: PathBuf::new(), old: Table::default(), new, racy, changed: AtomicBool::new(false) }
    }

    /// The hash of the file, if it is certain to be the one that was hashed.
    pub fn get(&self, stat: &Stat) -> Option<blake3::Hash> {
        let stamp = stamp(stat);
        let old = self.old.get(&stamp);
        old.or_else(|| self.new.lock().unwrap_or_else(PoisonError::into_inner).get(&stamp).copied())
    }

    /// The hash that was taken of the file for this build's keys. Unlike [`Stamps::get`] it says nothing about what the
    /// file holds now, so whoever uses it reads and compares.
    pub fn hashed(&self, stat: &Stat) -> Option<blake3::Hash> {
        let racy = || self.racy.lock().unwrap_or_else(PoisonError::into_inner).get(&stamp(stat)).copied();
        self.get(stat).or_else(racy)
    }

    /// Remembers a hash of a file whose metadata, `stat`, was taken when it was opened.
    pub fn put(&self, stat: &Stat, hash: blake3::Hash) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i128);
        let ctime = i128::from(stat.ctime.sec) * 1_000_000_000 + i128::from(stat.ctime.nsec);
        let is_racy = now - ctime <= RACY_NS;
        let known = if is_racy { &self.racy } else { &self.new };
        known.lock().unwrap_or_else(PoisonError::into_inner).insert(stamp(stat), hash);
        self.changed.fetch_or(!is_racy, Ordering::Relaxed);
    }

    /// Writes what is known, aside and renamed.
    pub fn save(&self) {
        if !self.changed.load(Ordering::Relaxed) {
            return;
        }
        let bytes = self.encode();
        let Some(dir) = self.path.parent().filter(|dir| !dir.as_os_str().is_empty()) else { return };
        if let Ok(mut file) = tempfile::NamedTempFile::new_in(dir)
            && file.write_all(&bytes).is_ok()
        {
            let _ = file.persist(&self.path);
        }
    }

    /// What was met in this build, and as much of the rest as is worth keeping.
    fn encode(&self) -> Vec<u8> {
        let new = self.new.lock().unwrap_or_else(PoisonError::into_inner);
        let (met, unmet): (Vec<usize>, Vec<usize>) =
            (0..self.old.len()).partition(|at| self.old.was_met(*at));
        let most_unmet = MOST_UNMET.max(met.len() + new.len());
        let kept = if unmet.len() > most_unmet { &[][..] } else { &unmet[..] };
        let mut out =
            Vec::with_capacity(MAGIC.len() + (met.len() + kept.len() + new.len()) * RECORD_BYTES + 32);
        out.extend(MAGIC);
        met.iter().chain(kept).for_each(|at| out.extend(self.old.record(*at)));
        for (stamp, hash) in new.iter() {
            out.extend(stamp);
            out.extend(hash.as_bytes());
        }
        // A torn file must not be read as a short one.
        out.extend(blake3::hash(&out).as_bytes());
        out
    }
}

/// Records as they were read, found by inode.
#[derive(Default)]
struct Table {
    bytes: Vec<u8>,
    /// Positions + 1 of records, 0 where there is none; a power of two of them, half empty.
    slots: Vec<u32>,
    met: Vec<AtomicBool>,
}

impl Table {
    fn new(bytes: Vec<u8>) -> Option<Self> {
        let (body, seal) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
        let records = body.strip_prefix(MAGIC)?;
        let count = records.len() / RECORD_BYTES;
        if records.len() % RECORD_BYTES != 0
            || u32::try_from(count).is_err()
            || blake3::hash(body).as_bytes() != seal
        {
            return None;
        }
        let mut table = Self {
            slots: vec![0; (count * 2).next_power_of_two().max(2)],
            met: (0..count).map(|_| AtomicBool::new(false)).collect(),
            bytes,
        };
        for at in 0..count {
            let free = table.probe(table.record(at)).find(|slot| table.slots[*slot] == 0)?;
            table.slots[free] = at as u32 + 1;
        }
        Some(table)
    }

    fn len(&self) -> usize {
        self.met.len()
    }

    fn record(&self, at: usize) -> &[u8] {
        let start = MAGIC.len() + at * RECORD_BYTES;
        &self.bytes[start..start + RECORD_BYTES]
    }

    fn was_met(&self, at: usize) -> bool {
        self.met[at].load(Ordering::Relaxed)
    }

    fn get(&self, stamp: &Stamp) -> Option<blake3::Hash> {
        if self.slots.is_empty() {
            return None;
        }
        for slot in self.probe(stamp) {
            let at = self.slots[slot].checked_sub(1)? as usize;
            let (found, hash) = self.record(at).split_at(STAMP_BYTES);
            if found == stamp {
                self.met[at].store(true, Ordering::Relaxed);
                return Some(blake3::Hash::from_bytes(hash.try_into().ok()?));
            }
        }
        None
    }

    /// The slots where a record may be, in order. Inodes are dealt out in a row: multiplied, they scatter.
    fn probe(&self, stamp: &[u8]) -> impl Iterator<Item = usize> + use<> {
        let ino = u64::from_le_bytes(stamp[..8].try_into().expect("a stamp begins with the inode"));
        let mask = self.slots.len() - 1;
        let start = (ino.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize;
        (0..=mask).map(move |step| (start + step) & mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forge_store::rootdir::{Device, FileKind};

    fn stat(ino: u64, size: u64) -> Stat {
        let time = Mtime { sec: 1_000_000_000, nsec: 5 };
        let rdev = Device::default();
        Stat {
            kind: FileKind::Regular,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size,
            mtime: time,
            ctime: time,
            dev: 7,
            ino,
            nlink: 1,
            rdev,
        }
    }

    #[test]
    fn what_was_put_is_found_after_a_save_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stamps");
        let stamps = Stamps::load(&path);
        let hash = |n: u64| blake3::hash(&n.to_le_bytes());
        (0..1000).for_each(|n| stamps.put(&stat(n * 4096, n), hash(n)));
        assert_eq!(stamps.get(&stat(4096, 1)), Some(hash(1)));
        stamps.save();
        let again = Stamps::load(&path);
        assert!((0..1000).all(|n| again.get(&stat(n * 4096, n)) == Some(hash(n))));
        assert_eq!(again.get(&stat(4096, 2)), None);
        assert_eq!(again.get(&Stat { ctime: Mtime { sec: 1_000_000_000, nsec: 6 }, ..stat(4096, 1) }), None);
        assert_eq!(again.get(&stat(5000, 1)), None);
        again.put(&stat(1, 1), hash(7));
        again.save();
        assert_eq!(Stamps::load(&path).get(&stat(1, 1)), Some(hash(7)));
        assert_eq!(Stamps::load(&path).get(&stat(4096, 1)), Some(hash(1)));
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stamps");
        let stamps = Stamps::load(&path);
        (0..10).for_each(|n| stamps.put(&stat(n, n), blake3::hash(b"x")));
        stamps.save();
        let whole = fs::read(&path).unwrap();
        for cut in [0, 7, 8, 100, whole.len() - 1] {
            fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(Stamps::load(&path).get(&stat(1, 1)), None);
        }
        let mut flipped = whole.clone();
        flipped[60] ^= 1;
        fs::write(&path, flipped).unwrap();
        assert_eq!(Stamps::load(&path).get(&stat(1, 1)), None);
    }

    #[test]
    fn files_that_are_met_no_more_are_forgotten_in_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stamps");
        let stamps = Stamps::load(&path);
        let many = MOST_UNMET as u64 + 10;
        (0..many).for_each(|n| stamps.put(&stat(n, n), blake3::hash(b"x")));
        stamps.save();
        let later = Stamps::load(&path);
        later.put(&stat(many, 0), blake3::hash(b"y"));
        assert!(later.get(&stat(0, 0)).is_some());
        later.save();
        let last = Stamps::load(&path);
        assert_eq!(last.old.len(), 2);
        assert!(last.get(&stat(0, 0)).is_some() && last.get(&stat(many, 0)).is_some());
    }
}
