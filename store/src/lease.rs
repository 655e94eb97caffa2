//! Leases: what running forges hold, so that no collector takes it away.
//!
//! ```text
//! ROOT/leases/<random>   one forge's: a name a line, flock'ed while that forge lives
//! ROOT/leases/           locked shared while a name is added, exclusively while a collector decides
//! ```
//!
//! A name is held *before* it is looked for. So either the collector sees the name, or whoever looks sees that the
//! thing is gone; never both think that they have it. A lease ends with its owner, however that ends, and with
//! nothing else: no clock decides.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{FlockOperation, flock};

use crate::StoreError;
use crate::error::At;

/// The leases of one store, and this forge's own.
pub(crate) struct Leases {
    dir: PathBuf,
    own: Mutex<Own>,
}

/// What this forge holds.
#[derive(Default)]
struct Own {
    lease: Option<Lease>,
    names: HashSet<String>,
    /// Names that are not written yet.
    pending: String,
}

/// A lease's file, gone with the value.
struct Lease {
    path: PathBuf,
    file: File,
    gate: File,
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A collector removes what cannot be removed now.
        let _ = fs::remove_file(&self.path);
    }
}

impl Leases {
    pub fn new(root: &Path) -> Self {
        Self { dir: root.join("leases"), own: Mutex::new(Own::default()) }
    }

    /// Holds things by their names until this forge ends or [`Leases::release`].
    pub fn hold<N: AsRef<str>>(&self, names: impl IntoIterator<Item = N>) -> Result<(), StoreError> {
        let mut own = self.own();
        for name in names {
            if !own.names.contains(name.as_ref()) {
                own.names.insert(name.as_ref().to_owned());
                own.pending.push_str(name.as_ref());
                own.pending.push('\n');
            }
        }
        if own.pending.is_empty() {
            return Ok(());
        }
        match own.write(&self.dir) {
            // What only reads goes on; what writes fails at the next file, and says so there. Once there is space
            // again, the next name brings these along.
            Err(e) if matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => Ok(()),
            // Nobody collects in a store that cannot be written.
            Err(e) if matches!(e.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied) => {
                Ok(())
            }
            other => other.at("write a lease in", &self.dir),
        }
    }

    /// Lets go of everything.
    pub fn release(&self) {
        *self.own() = Own::default();
    }

    /// Stops the adding of names and says what is held, by this forge too. Leases of the dead are removed.
    pub fn freeze(&self) -> Result<Frozen, StoreError> {
        let gate = File::open(&self.dir).at("open", &self.dir)?;
        lock(&gate, FlockOperation::LockExclusive).at("lock", &self.dir)?;
        let mut names = HashSet::new();
        for entry in fs::read_dir(&self.dir).at("list", &self.dir)? {
            let path = entry.at("list", &self.dir)?.path();
            let file = match File::open(&path) {
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                other => other.at("open", &path)?,
            };
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                let _ = fs::remove_file(&path);
                continue;
            }
            let text = io::read_to_string(file).at("read", &path)?;
            names.extend(text.lines().filter(|line| !line.is_empty()).map(str::to_owned));
        }
        Ok(Frozen { names, _gate: gate })
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Own {
    fn write(&mut self, dir: &Path) -> io::Result<()> {
        let lease = match &mut self.lease {
            Some(lease) => lease,
            None => self.lease.insert(Lease::start(dir)?),
        };
        lock(&lease.gate, FlockOperation::LockShared)?;
        let written = lease.file.write_all(self.pending.as_bytes());
        flock(&lease.gate, FlockOperation::Unlock)?;
        match written {
            Ok(()) => self.pending.clear(),
            // Half a name may stand there now: the next one begins a line.
            Err(_) if !self.pending.starts_with('\n') => self.pending.insert(0, '\n'),
            Err(_) => {}
        }
        written
    }
}

impl Lease {
    /// A file that no collector takes for a dead one's: it is locked before the gate opens.
    fn start(dir: &Path) -> io::Result<Self> {
        let gate = File::open(dir)?;
        lock(&gate, FlockOperation::LockShared)?;
        let (file, path) =
            tempfile::Builder::new().prefix("l-").tempfile_in(dir)?.keep().map_err(|e| e.error)?;
        let lease = Self { path, file, gate };
        lock(&lease.file, FlockOperation::LockShared)?;
        flock(&lease.gate, FlockOperation::Unlock)?;
        Ok(lease)
    }
}

/// What is held, as long as nothing can be added.
pub(crate) struct Frozen {
    names: HashSet<String>,
    _gate: File,
}

impl Frozen {
    /// Whether something is held by this name.
    pub fn holds(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }
}

/// The name that a cache mount is held by.
pub(crate) fn mount_name(name: &str) -> String {
    format!("mount {name}")
}

fn lock(file: &File, how: FlockOperation) -> io::Result<()> {
    loop {
        match flock(file, how) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leases() -> (tempfile::TempDir, Leases) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("leases")).unwrap();
        let leases = Leases::new(root.path());
        (root, leases)
    }

    fn held(leases: &Leases) -> Vec<String> {
        let mut names: Vec<String> = leases.freeze().unwrap().names().map(str::to_owned).collect();
        names.sort();
        names
    }

    #[test]
    fn what_one_forge_holds_all_see_until_it_lets_go() {
        let (root, one) = leases();
        let other = Leases::new(root.path());
        one.hold(["a", "b"]).unwrap();
        one.hold(["b", "c"]).unwrap();
        other.hold(["d"]).unwrap();
        assert_eq!(held(&other), ["a", "b", "c", "d"]);
        drop(one);
        assert_eq!(held(&other), ["d"]);
        other.release();
        assert_eq!(held(&other), [""; 0]);
        other.hold(["d"]).unwrap();
        assert_eq!(held(&other), ["d"]);
    }

    #[test]
    fn the_lease_of_a_dead_forge_is_removed() {
        let (root, leases) = leases();
        fs::write(root.path().join("leases/l-dead"), "a\n").unwrap();
        assert_eq!(held(&leases), [""; 0]);
        assert!(!root.path().join("leases/l-dead").exists());
    }

    #[test]
    fn nothing_is_added_while_a_collector_decides() {
        let (root, leases) = leases();
        leases.hold(["a"]).unwrap();
        let collector = Leases::new(root.path());
        let frozen = collector.freeze().unwrap();
        std::thread::scope(|scope| {
            let adding = scope.spawn(|| leases.hold(["b"]).unwrap());
            assert!(frozen.holds("a") && !frozen.holds("b"));
            assert!(
                !fs::read_dir(root.path().join("leases"))
                    .unwrap()
                    .any(|entry| { fs::read_to_string(entry.unwrap().path()).unwrap().contains('b') })
            );
            drop(frozen);
            adding.join().unwrap();
        });
        assert_eq!(held(&collector), ["a", "b"]);
    }
}
