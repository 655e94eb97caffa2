//! Where sandboxes are born: the zygote, started ahead where steps are expected, and the first process of the next step,
//! which gets ready while the last one still runs.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use forge_solver::WorldError;

use crate::cgroup::Cgroup;
use crate::sandbox::cradle::Cradle;
use crate::sandbox::spec::SandboxSpec;
use crate::trouble;
use crate::zygote::{Newborn, Zygote, ZygoteError};

pub(super) struct Nursery {
    ward: Arc<Ward>,
    opening: Mutex<Option<JoinHandle<()>>>,
    /// Steps that may still come.
    expected: AtomicUsize,
    /// First processes without work.
    waiting: Mutex<Vec<Newborn>>,
}

/// What the thread that makes ready and the steps share.
struct Ward {
    skeleton: PathBuf,
    zygote: Mutex<Option<Arc<Zygote>>>,
}

impl Nursery {
    /// Nothing is started yet. `skeleton` is where mount points that all sandboxes have are made.
    pub(super) fn new(skeleton: PathBuf) -> Nursery {
        let ward = Arc::new(Ward { skeleton, zygote: Mutex::new(None) });
        Nursery {
            ward,
            opening: Mutex::new(None),
            expected: AtomicUsize::new(0),
            waiting: Mutex::new(Vec::new()),
        }
    }

    /// Starts the zygote in the background, for so many steps. What keeps it from that, the first step finds too.
    pub(super) fn open(&self, steps: usize) {
        self.expected.store(steps, Ordering::Relaxed);
        let ward = self.ward.clone();
        let opening = std::thread::Builder::new().name("zygote".into()).spawn(move || drop(ward.zygote()));
        *lock(&self.opening) = opening.ok();
    }

    /// No step comes any more: nobody waits.
    pub(super) fn close(&self) {
        self.expected.store(0, Ordering::Relaxed);
        lock(&self.waiting).clear();
    }

    /// The first process for a step that begins: one that waits, or a new one in a cgroup of its own.
    pub(super) fn first_process(
        &self,
        spec: &SandboxSpec,
        cgroup: impl FnOnce() -> Result<Option<Cgroup>, WorldError>,
    ) -> Result<Newborn, WorldError> {
        // Steps that nobody expected are run one by one.
        let _ = self.expected.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        let mut waiting = lock(&self.waiting);
        if let Some(at) = waiting.iter().position(|newborn| newborn.fits(spec)) {
            return Ok(waiting.swap_remove(at));
        }
        drop(waiting);
        let cgroup = cgroup()?;
        let born = self.ward.zygote().and_then(|zygote| zygote.bear(Cradle::of(spec), cgroup));
        born.map_err(trouble::of_zygote)
    }

    /// Has the next step's first process get ready, supposed that it is like this one. What keeps it from that, the
    /// step finds too.
    pub(super) fn prepare_next(
        &self,
        spec: &SandboxSpec,
        cgroup: impl FnOnce() -> Result<Option<Cgroup>, WorldError>,
    ) {
        let mut waiting = lock(&self.waiting);
        let has_one = waiting.iter().any(|newborn| newborn.fits(spec));
        if has_one || waiting.len() >= self.expected.load(Ordering::Relaxed) || !spec.rootfs.has_namespaces()
        {
            return;
        }
        if let (Ok(zygote), Ok(cgroup)) = (self.ward.zygote(), cgroup()) {
            waiting.extend(zygote.bear(Cradle::of(spec), cgroup));
        }
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        lock(&self.waiting).clear();
        if let Some(opening) = lock(&self.opening).take() {
            let _ = opening.join();
        }
    }
}

impl Ward {
    fn zygote(&self) -> Result<Arc<Zygote>, ZygoteError> {
        let mut slot = lock(&self.zygote);
        if let Some(zygote) = &*slot {
            return Ok(zygote.clone());
        }
        Ok(slot.insert(Arc::new(Zygote::start(&self.skeleton)?)).clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
