//! Layers packed as soon as their vertices are done, beside steps that still run, and sent while they are packed.
//!
//! Which layers an image will have is known from the graph before anything runs, and in which form from what is
//! wanted. So whatever is made here is what [`crate::assemble`] asks the store for in the end; what could not be made
//! it makes itself, and tells why. Steps go first: the threads here are nice, and there are few of them.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::thread::{self, Scope};
use std::time::Instant;

use forge_solver::{Event, Events, Graph, Record, Results, StepId, VertexId};
use forge_store::{Follow, Layer, LayerForm, LayerId, PackedLayer, Store};

/// Layers packed at once while steps run; each is compressed by all cores.
const BESIDE_STEPS: usize = 2;
/// How nice the threads are that pack beside steps: a step gets three times as much of a core.
const NICE: i32 = 5;
/// A blob of this size is worth a line of progress.
const SHOWN_BYTES: u64 = 8 << 20;

/// Where blobs go before their image is whole.
pub trait Uploads: Sync {
    /// Gets ready for a blob that is about to be packed.
    fn follow(&self) -> Option<Arc<dyn Follow>>;
    /// Sends a blob that is here, if it is not there.
    fn send(&self, blob: &PackedLayer);
}

/// The layers of the images that are wanted.
pub struct Ahead<'a> {
    store: &'a Store,
    graph: &'a Graph,
    layers: HashSet<VertexId>,
    forms: Vec<LayerForm>,
    /// Who takes the blobs of one form.
    uploads: Option<(LayerForm, &'a dyn Uploads)>,
    line: Arc<Line>,
    queue: Mutex<Queue>,
    changed: Condvar,
    stopped: Arc<AtomicBool>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(VertexId, Layer)>,
    seen: HashSet<LayerId>,
    /// Nothing more is taken by those beside the steps.
    closed: bool,
}

/// While this is there, layers may still come. The threads that wait for them end with it, also when it is a panic that
/// ends it.
struct Open<'a, 'b> {
    ahead: &'a Ahead<'b>,
    succeeded: bool,
}

impl Drop for Open<'_, '_> {
    fn drop(&mut self) {
        if !self.succeeded {
            self.ahead.stop();
        }
        self.ahead.queue().closed = true;
        self.ahead.changed.notify_all();
    }
}

impl<'a> Ahead<'a> {
    /// For the images of these targets, in these forms. None for nothing to do.
    pub fn new(
        store: &'a Store,
        graph: &'a Graph,
        targets: &[VertexId],
        forms: impl IntoIterator<Item = LayerForm>,
        line: Arc<Line>,
    ) -> Self {
        let mut own: Vec<LayerForm> = Vec::new();
        for form in forms.into_iter().map(of_own_layers) {
            if !own.contains(&form) {
                own.push(form);
            }
        }
        let layers = targets.iter().flat_map(|target| graph.layers_of(*target)).collect();
        let (queue, changed, stopped) = Default::default();
        Self { store, graph, layers, forms: own, uploads: None, line, queue, changed, stopped }
    }

    /// Blobs of this form go there.
    #[must_use]
    pub fn sending(self, uploads: Option<(LayerForm, &'a dyn Uploads)>) -> Self {
        Self { uploads: uploads.map(|(form, uploads)| (of_own_layers(form), uploads)), ..self }
    }

    /// Runs `solve`, and packs beside it what it tells of. When it fails, so does the packing, at once; when it ends,
    /// what is being packed is finished and the rest is left to [`Ahead::finish`].
    pub fn beside<T, E>(&self, solve: impl FnOnce(&dyn Results) -> Result<T, E>) -> Result<T, E> {
        thread::scope(|scope| {
            let mut open = Open { ahead: self, succeeded: false };
            let result = solve(&Told { ahead: self, scope, begun: Once::new() });
            open.succeeded = result.is_ok();
            drop(open);
            result
        })
    }

    /// Packs what is left, with all cores.
    pub fn finish(&self) {
        let left = self.queue().waiting.len();
        let workers = thread::available_parallelism().map_or(1, usize::from).min(left);
        thread::scope(|scope| {
            let work = || {
                while let Some((vertex, layer)) = self.take() {
                    self.pack(vertex, &layer);
                }
            };
            (1..workers).for_each(|_| drop(scope.spawn(work)));
            work();
        });
    }

    /// Ends what is being packed; nobody wants it any more.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// What follows the layer of a vertex that is packed by whoever makes it.
    pub fn follow(&self, vertex: VertexId, form: LayerForm) -> Arc<dyn Follow> {
        let form = of_own_layers(form);
        let uploads = self.uploads.filter(|(sent, _)| *sent == form && self.layers.contains(&vertex));
        Arc::new(Packing {
            line: self.line.clone(),
            label: self.graph.vertex(vertex).label.clone(),
            stopped: self.stopped.clone(),
            sender: uploads.and_then(|(_, uploads)| uploads.follow()),
            told: AtomicU64::new(0),
        })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, vertex: VertexId, layer: &Layer) {
        let mut queue = self.queue();
        if queue.seen.insert(layer.id) {
            queue.waiting.push_back((vertex, layer.clone()));
            self.changed.notify_one();
        }
    }

    fn take(&self) -> Option<(VertexId, Layer)> {
        self.queue().waiting.pop_front()
    }

    /// The work of a thread beside the steps.
    fn work(&self) {
        // Who may not be nice is not.
        let _ = rustix::process::setpriority_process(None, NICE);
        loop {
            let mut queue = self.queue();
            while queue.waiting.is_empty() && !queue.closed {
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            if queue.closed {
                return;
            }
            let next = queue.waiting.pop_front();
            drop(queue);
            if let Some((vertex, layer)) = next {
                self.pack(vertex, &layer);
            }
        }
    }

    /// Packs a layer in all its forms. What fails here fails again, and is told, when the image is assembled.
    fn pack(&self, vertex: VertexId, layer: &Layer) {
        for form in &self.forms {
            let follow = self.follow(vertex, *form);
            let packed = self.store.layers().pack_followed(layer, *form, &*follow);
            // A sender that did not get the blob must learn that it will not.
            drop(follow);
            if let (Ok(packed), Some((sent, uploads))) = (packed, self.uploads)
                && sent == *form
            {
                uploads.send(&packed);
            }
        }
    }
}

/// A form as it is of layers made here: there is nothing to pack anew.
fn of_own_layers(form: LayerForm) -> LayerForm {
    LayerForm { recompress: false, ..form }
}

/// Hears of results; the first one that counts starts the threads.
struct Told<'scope, 'env, 'a> {
    ahead: &'scope Ahead<'a>,
    scope: &'scope Scope<'scope, 'env>,
    begun: Once,
}

impl<'scope> Results for Told<'scope, '_, '_> {
    fn came(&self, id: VertexId, record: &Record, cached: bool) {
        let ahead: &'scope Ahead<'_> = self.ahead;
        // What was at hand was packed when it was made, as a rule.
        if ahead.forms.is_empty() || !ahead.layers.contains(&id) || (cached && ahead.uploads.is_none()) {
            return;
        }
        let Some((layer, _)) = record.snapshot.top() else { return };
        ahead.add(id, layer);
        self.begun.call_once(|| {
            for _ in 0..BESIDE_STEPS {
                self.scope.spawn(move || ahead.work());
            }
        });
    }
}

/// One layer being packed: shown, and handed to whoever sends it.
struct Packing {
    line: Arc<Line>,
    label: String,
    stopped: Arc<AtomicBool>,
    sender: Option<Arc<dyn Follow>>,
    told: AtomicU64,
}

impl Follow for Packing {
    fn begins(&self, blob: &File) -> io::Result<()> {
        self.sender.as_ref().map_or(Ok(()), |sender| sender.begins(blob))
    }

    fn grew(&self, bytes: u64) {
        if let Some(sender) = &self.sender {
            sender.grew(bytes);
        }
        if bytes >= SHOWN_BYTES && bytes - self.told.load(Ordering::Relaxed) >= SHOWN_BYTES / 4 {
            self.told.store(bytes, Ordering::Relaxed);
            self.line.progress(&format!("packing {}", self.label), bytes, None);
        }
    }

    fn is_whole(&self, layer: &PackedLayer) {
        if let Some(sender) = &self.sender {
            sender.is_whole(layer);
        }
    }

    fn is_wanted(&self) -> bool {
        !self.stopped.load(Ordering::Relaxed)
    }
}

/// The line of progress for what is done ahead: there is none until there is something worth showing.
pub struct Line {
    step: StepId,
    events: Box<dyn Events + Send>,
    began: Mutex<Option<Instant>>,
}

impl Line {
    /// A line that is not drawn yet.
    pub fn new(step: StepId, events: impl Events + Send + 'static) -> Self {
        Self { step, events: Box::new(events), began: Mutex::new(None) }
    }

    /// Its step.
    pub fn step(&self) -> StepId {
        self.step
    }

    fn progress(&self, item: &str, done: u64, total: Option<u64>) {
        let step = self.step;
        let mut began = self.began.lock().unwrap_or_else(PoisonError::into_inner);
        if began.is_none() && done.max(total.unwrap_or(0)) < SHOWN_BYTES {
            return;
        }
        began.get_or_insert_with(|| {
            self.events.emit(Event::Started { step, label: "[internal] export finished layers".into() });
            Instant::now()
        });
        self.events.emit(Event::Progress { step, item: item.to_owned(), done, total });
    }

    /// Ends the line, if it was drawn.
    pub fn end(&self, is_done: bool) {
        let step = self.step;
        if let Some(began) = self.began.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.events.emit(match is_done {
                true => Event::Finished { step, took: began.elapsed() },
                false => Event::Cancelled { step },
            });
        }
    }
}

/// Progress of uploads.
impl Events for Line {
    fn emit(&self, event: Event) {
        if let Event::Progress { item, done, total, .. } = event {
            self.progress(&item, done, total);
        }
    }
}
