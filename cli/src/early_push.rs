//! Layers on their way to a registry while the build still runs.
//!
//! The push at the end asks for every blob once more, sends what is missing and tells what fails: so nothing is said
//! here, and the first failure ends it.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use forge_exporter::{Line, Uploads};
use forge_registry::{BlobAhead, PushAhead, Repository};
use forge_store::{Blobs, Digest, Follow, PackedLayer};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::local::Shared;
use crate::registries::{Registries, Travelling};

/// How long a failed build waits for registries to forget what they have of its layers.
const GIVING_UP: Duration = Duration::from_millis(1500);

/// Sends layers to one repository.
pub struct EarlyPush<'a> {
    registries: &'a Registries,
    repository: Repository,
    blobs: &'a Blobs,
    line: Arc<Line>,
    /// Made when the first layer comes; none where the registry cannot even be asked.
    ahead: OnceLock<Option<(PushAhead, Handle)>>,
    sent: Arc<Mutex<HashSet<Digest>>>,
    failed: Arc<AtomicBool>,
    stopped: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl<'a> EarlyPush<'a> {
    /// Contacts nobody yet.
    pub fn new(
        registries: &'a Registries,
        repository: Repository,
        blobs: &'a Blobs,
        line: Arc<Line>,
    ) -> Self {
        let (ahead, sent, failed, tasks) = Default::default();
        let stopped = watch::Sender::new(false);
        Self { registries, repository, blobs, line, ahead, sent, failed, stopped, tasks }
    }

    /// Waits until all is there, or one failed.
    pub fn finish(&self) {
        let Some(Some((_, runtime))) = self.ahead.get() else { return };
        let mut tasks = self.take();
        let mut stopped = self.stopped.subscribe();
        runtime.block_on(async {
            let all = async {
                for task in &mut tasks {
                    if self.failed.load(Ordering::Relaxed) {
                        task.abort();
                    }
                    // What panicked did not send: the push does.
                    let _ = task.await;
                }
            };
            tokio::select! {
                () = all => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
        });
        tasks.retain(|task| !task.is_finished());
        self.tasks().append(&mut tasks);
    }

    /// Gives up what is on its way.
    pub fn give_up(&self) {
        self.stopped.send_replace(true);
        if let Some(Some((ahead, _))) = self.ahead.get() {
            ahead.stop();
        }
    }

    /// The same, and waits until registries know of it.
    pub fn stop(&self) {
        self.give_up();
        let Some(Some((_, runtime))) = self.ahead.get() else { return };
        let tasks = self.take();
        runtime.block_on(async {
            let all = async {
                for task in tasks {
                    let _ = task.await;
                }
            };
            let _ = tokio::time::timeout(GIVING_UP, all).await;
        });
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut *self.tasks())
    }

    /// One more blob: what is told of it.
    fn begin(&self) -> Option<Arc<dyn Follow>> {
        if self.failed.load(Ordering::Relaxed) || *self.stopped.borrow() {
            return None;
        }
        let made = self.ahead.get_or_init(|| {
            let progress = Arc::new(Travelling::new(self.line.step(), LineEvents(self.line.clone())));
            self.registries.push_ahead(self.repository.clone(), self.blobs, progress).ok()
        });
        let (ahead, runtime) = made.as_ref()?;
        let (follow, blob) = ahead.blob();
        let task = runtime.spawn(run(blob, self.failed.clone()));
        self.tasks().push(task);
        Some(follow)
    }
}

async fn run(blob: BlobAhead, failed: Arc<AtomicBool>) {
    if blob.run().await.is_err() {
        failed.store(true, Ordering::Relaxed);
    }
}

impl Uploads for EarlyPush<'_> {
    fn follow(&self) -> Option<Arc<dyn Follow>> {
        Some(Arc::new(Noting { inner: self.begin()?, sent: self.sent.clone() }))
    }

    fn send(&self, blob: &PackedLayer) {
        if note(&self.sent, blob)
            && let Some(follow) = self.begin()
        {
            follow.is_whole(blob);
        }
    }
}

/// Notes which blobs are on their way.
struct Noting {
    inner: Arc<dyn Follow>,
    sent: Arc<Mutex<HashSet<Digest>>>,
}

fn note(sent: &Mutex<HashSet<Digest>>, blob: &PackedLayer) -> bool {
    sent.lock().unwrap_or_else(PoisonError::into_inner).insert(blob.descriptor.digest)
}

impl Follow for Noting {
    fn begins(&self, blob: &File) -> io::Result<()> {
        self.inner.begins(blob)
    }

    fn grew(&self, bytes: u64) {
        self.inner.grew(bytes);
    }

    fn is_whole(&self, layer: &PackedLayer) {
        note(&self.sent, layer);
        self.inner.is_whole(layer);
    }
}

/// Events of uploads, drawn in the line of what is done ahead.
struct LineEvents(Arc<Line>);

impl forge_solver::Events for LineEvents {
    fn emit(&self, event: forge_solver::Event) {
        self.0.emit(event);
    }
}

/// The line of what is done ahead, on a display.
pub fn line(step: forge_solver::StepId, display: &Arc<crate::progress::Display>) -> Arc<Line> {
    Arc::new(Line::new(step, Shared(display.clone())))
}
