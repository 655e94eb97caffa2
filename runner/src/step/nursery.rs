//! Where sandboxes are born: the zygote, started ahead where steps are expected.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::zygote::{Zygote, ZygoteError};

pub(super) struct Nursery {
    ward: Arc<Ward>,
    opening: Mutex<Option<JoinHandle<()>>>,
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
        Nursery { ward, opening: Mutex::new(None) }
    }

    /// Starts the zygote in the background. What keeps it from that, the first step finds too.
    pub(super) fn open(&self) {
        let ward = self.ward.clone();
        let opening = std::thread::Builder::new().name("zygote".into()).spawn(move || drop(ward.zygote()));
        *lock(&self.opening) = opening.ok();
    }

    /// The zygote, started if there is none.
    pub(super) fn zygote(&self) -> Result<Arc<Zygote>, ZygoteError> {
        self.ward.zygote()
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
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
