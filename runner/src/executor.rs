//! The solver's vertices, carried out on this machine.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use forge_solver::event::Events;
use forge_solver::op::{CopyOp, ImageOp, Op, Selection, WorkdirOp};
use forge_solver::{Executor, Job, Outlook, StepId, TroubleKind, WorldError};
use forge_store::Threads;
use forge_store::layer::Compression;
use forge_store::rootdir::{FileKind, Mtime};
use forge_store::tree::{
    ContentOptions, Entry, Format, MergedTree, Mtimes, ReadOptions, Walk, XattrFilter, content_of,
    drop_unchanged,
};
use forge_store::{ContentId, Draft, Follow, Layer, LayerId, PackedLayer, RootDir, Snapshot, StackId, Store};

use crate::files::{self, FilesError, LocalContext, StackView, TreeView};
use crate::sources::Sources;
use crate::step::{self, Steps, Task};
use crate::trouble;

/// Gets layers that are not in the store.
pub trait Fetch: Sync {
    /// Makes the blobs of `layers` be in the store.
    fn fetch(
        &self,
        image: &str,
        layers: &[Layer],
        step: StepId,
        events: &dyn Events,
    ) -> Result<(), WorldError>;
}

/// Gives what follows the packing of a step's layer, if someone does.
pub type Follower<'a> = dyn Fn(StepId) -> Option<Arc<dyn Follow>> + Sync + 'a;

/// Carries vertices out over one store.
pub struct LocalExecutor<'a> {
    store: &'a Store,
    contexts: HashMap<String, Arc<LocalContext>>,
    fetch: &'a dyn Fetch,
    sources: &'a Sources<'a>,
    steps: Steps<'a>,
    cancelled: AtomicBool,
    /// How layers are packed that nobody looks into; without it they get trees, too.
    packed_as: Option<Compression>,
    /// Who follows such a packing, by its step.
    follower: Option<&'a Follower<'a>>,
    /// Selections of stages that were hashed before in this build.
    selected: Mutex<HashMap<(StackId, Selection), ContentId>>,
    /// What was found to be here.
    local: Mutex<Local>,
}

#[derive(Default)]
struct Local {
    layers: HashSet<LayerId>,
    stacks: HashSet<StackId>,
}

impl<'a> LocalExecutor<'a> {
    /// An executor with these contexts, by name.
    pub fn new(
        store: &'a Store,
        contexts: HashMap<String, Arc<LocalContext>>,
        fetch: &'a dyn Fetch,
        sources: &'a Sources<'a>,
        settings: step::Settings,
    ) -> Self {
        Self {
            store,
            contexts,
            fetch,
            sources,
            steps: Steps::new(store, settings),
            cancelled: AtomicBool::new(false),
            packed_as: None,
            follower: None,
            selected: Mutex::new(HashMap::new()),
            local: Mutex::default(),
        }
    }

    /// Layers are wanted as blobs of this compression: what nobody looks into is packed at once, without a tree.
    #[must_use]
    pub fn packing(self, packed_as: Option<Compression>, follower: &'a Follower<'a>) -> Self {
        Self { packed_as, follower: Some(follower), ..self }
    }

    /// All is solved: ends what was made ready for steps that did not come.
    pub fn expect_no_more(&self) {
        self.steps.expect_no_more();
    }

    /// What a snapshot's files look like, stacked.
    fn view(&self, snapshot: &Snapshot) -> Result<StackView, WorldError> {
        StackView::open(self.store, snapshot).map_err(trouble::of_files)
    }

    fn image(&self, image: &ImageOp, job: &Job<'_>) -> Result<Snapshot, WorldError> {
        let mut missing = Vec::new();
        let layers: Vec<Layer> = image.snapshot.layers().into_iter().cloned().collect();
        for layer in &layers {
            if !self.store.layers().is_local(layer).map_err(trouble::of_store)? {
                missing.push(layer.clone());
            }
        }
        if !missing.is_empty() {
            self.fetch.fetch(&image.reference, &missing, job.step, job.events)?;
        }
        self.unpack_all(&layers)?;
        Ok(image.snapshot.clone())
    }

    /// Makes every layer's tree be there, side by side: they do not depend on each other.
    fn unpack_all(&self, layers: &[Layer]) -> Result<(), WorldError> {
        let next = AtomicUsize::new(0);
        let failed = Mutex::new(None);
        let work = || {
            while let Some(layer) = layers.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = self.store.layers().ensure_tree(layer) {
                    *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    return;
                }
            }
        };
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(layers.len().max(1));
        std::thread::scope(|scope| {
            (1..workers).for_each(|_| drop(scope.spawn(work)));
            work();
        });
        let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        failed.map_or(Ok(()), |error| Err(trouble::of_store(error)))
    }

    fn copy(&self, op: &CopyOp, job: &Job<'_>) -> Result<Snapshot, WorldError> {
        let below = base(job)?;
        let below_view = if op.link { self.view(&Snapshot::default())? } else { self.view(below)? };
        let stacks: Vec<Option<StackView>> = job.inputs[1..]
            .iter()
            .map(|input| input.as_ref().map(|s| self.view(s)).transpose())
            .collect::<Result<_, _>>()?;
        let context = self.contexts_of(job);
        if let Some(compression) = self.packed_as.filter(|_| !job.is_read)
            && let Some(contexts) =
                context.iter().map(|found| found.map(|c| &**c)).collect::<Option<Vec<_>>>()
            && let Some(layer) = self.borrow(op, &below_view, &contexts, compression, job.step)?
        {
            return Ok(below.push(layer));
        }
        let views: Vec<&dyn TreeView> = stacks
            .iter()
            .zip(&context)
            .map(|(stack, context)| match (stack, context) {
                (Some(stack), _) => Ok(stack as &dyn TreeView),
                (None, Some(context)) => Ok(&***context as &dyn TreeView),
                (None, None) => Err(WorldError::new(TroubleKind::System, "a source of COPY was not made")),
            })
            .collect::<Result<_, _>>()?;
        let draft = self.draft()?;
        let scratch = || self.store.scratch().map_err(FilesError::from);
        files::copy(op, &below_view, &views, &draft, self.store.layers().xattrs(), &scratch)
            .map_err(trouble::of_files)?;
        self.commit(below, draft, Mtimes::Ignore)
    }

    /// A COPY from contexts that nobody looks into, packed from where the files are; none if it needs a tree.
    fn borrow(
        &self,
        op: &CopyOp,
        below: &StackView,
        contexts: &[&LocalContext],
        compression: Compression,
        step: StepId,
    ) -> Result<Option<Layer>, WorldError> {
        let Some(borrowed) = files::borrow(op, below, contexts).map_err(trouble::of_files)? else {
            return Ok(None);
        };
        let content = borrowed.content().map_err(trouble::of_files)?;
        let layer = Layer::built(LayerId::of_content(&content));
        let layers = self.store.layers();
        if !layers.is_local(&layer).map_err(trouble::of_store)? {
            let follow = Cancellable {
                cancelled: &self.cancelled,
                inner: self.follower.and_then(|follower| follower(step)),
            };
            let packed = layers.pack_entries(&layer.id, compression, borrowed.entries(), &follow);
            packed.map_err(|error| match follow.is_wanted() {
                true => trouble::of_files(error),
                false => WorldError::new(TroubleKind::Cancelled, "cancelled"),
            })?;
        }
        Ok(Some(layer))
    }

    /// For each source of a COPY: the context it is, if it is one.
    fn contexts_of(&self, job: &Job<'_>) -> Vec<Option<&Arc<LocalContext>>> {
        job.contexts[1..].iter().map(|name| name.as_ref().and_then(|name| self.contexts.get(name))).collect()
    }

    fn workdir(&self, op: &WorkdirOp, job: &Job<'_>) -> Result<Snapshot, WorldError> {
        let below = base(job)?;
        let draft = self.draft()?;
        files::make_workdir(op, &self.view(below)?, &draft, self.store.layers().xattrs())
            .map_err(trouble::of_files)?;
        self.commit(below, draft, Mtimes::Ignore)
    }

    /// A remote source's files, as a snapshot of their own. Their times are content: they say how old a file is.
    fn source(&self, draft: Draft) -> Result<Snapshot, WorldError> {
        let never = Mtimes::OutsideWindow { from: Mtime { sec: 1, nsec: 0 }, to: Mtime { sec: 0, nsec: 0 } };
        self.commit(&Snapshot::default(), draft, never)
    }

    /// Takes out of a step's draft what it only touched.
    fn drop_unchanged(&self, below: &Snapshot, draft: &Draft, since: Mtime) -> Result<(), WorldError> {
        if below.top().is_none() {
            return Ok(());
        }
        let options = ReadOptions {
            format: Format::Overlay(self.store.layers().xattrs()),
            xattrs: XattrFilter::Portable,
        };
        let stack = || -> Result<MergedTree, FilesError> {
            let trees = self.store.layers().stack(below)?;
            let layers = trees.iter().map(RootDir::open_host).collect::<Result<_, _>>()?;
            Ok(MergedTree::new(layers, options))
        };
        let draft = RootDir::open_host(draft.tree()).map_err(|e| trouble::of_files(e.into()))?;
        drop_unchanged(&draft, stack, options, since).map_err(trouble::of_files)
    }

    fn draft(&self) -> Result<Draft, WorldError> {
        self.store.draft().map_err(trouble::of_store)
    }

    /// Turns a finished draft into the top layer of a snapshot, named by its content.
    fn commit(&self, below: &Snapshot, draft: Draft, mtimes: Mtimes) -> Result<Snapshot, WorldError> {
        let root = RootDir::open_host(draft.tree()).map_err(|e| trouble::of_files(e.into()))?;
        let read = ReadOptions {
            format: Format::Overlay(self.store.layers().xattrs()),
            xattrs: XattrFilter::Portable,
        };
        // About what it takes on disk: whole blocks.
        let mut bytes = 0;
        let on_disk = |entry: &Entry| match entry.stat.kind {
            FileKind::Regular if entry.stat.nlink < 2 => entry.stat.size.next_multiple_of(BLOCK_BYTES),
            FileKind::Regular => entry.stat.size.next_multiple_of(BLOCK_BYTES) / entry.stat.nlink,
            FileKind::Directory => BLOCK_BYTES,
            _ => 0,
        };
        let entries = Walk::new(root.dir(), read).map_err(|e| trouble::of_files(e.into()))?;
        let entries = entries.inspect(|entry| bytes += entry.as_ref().map_or(0, on_disk));
        let options = ContentOptions { mtimes, owners: true };
        let content =
            content_of(entries, options, Threads::available()).map_err(|e| trouble::of_files(e.into()))?;
        let id = LayerId::of_content(&content);
        self.store.layers().commit_sealed(draft, &id, bytes, mtimes).map_err(trouble::of_store)?;
        Ok(below.push(Layer::built(id)))
    }
}

impl Executor for LocalExecutor<'_> {
    fn expect(&self, outlook: &Outlook<'_>) {
        self.steps.expect(outlook);
    }

    fn execute(&self, job: &Job<'_>) -> Result<Snapshot, WorldError> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(WorldError::new(TroubleKind::Cancelled, "cancelled"));
        }
        match job.op {
            Op::Scratch => Ok(Snapshot::default()),
            Op::Context(_) => Err(WorldError::new(TroubleKind::System, "a context is no step")),
            Op::Image(image) => self.image(image, job),
            Op::Http(op) => self.source(self.sources.http_tree(op)?),
            Op::Git(op) => {
                let cancelled = || self.cancelled.load(Ordering::Relaxed);
                self.source(self.sources.git_tree(op, &cancelled)?)
            }
            Op::Copy(op) => self.copy(op, job),
            Op::Workdir(op) => self.workdir(op, job),
            Op::Run(op) => {
                let below = base(job)?;
                let draft = self.draft()?;
                let from = stamp(CLOCK_LAG_NS);
                self.steps.run(&Task { op, job, below, draft: &draft, contexts: &self.contexts })?;
                self.drop_unchanged(below, &draft, from)?;
                self.commit(below, draft, Mtimes::OutsideWindow { from, to: stamp(0) })
            }
        }
    }

    fn select(&self, input: &Snapshot, selection: &Selection) -> Result<ContentId, WorldError> {
        let key = (input.id(), selection.clone());
        let known = || self.selected.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(content) = known().get(&key) {
            return Ok(*content);
        }
        let content =
            files::hash_selection(&self.view(input)?, selection, true).map_err(trouble::of_files)?;
        known().insert(key, content);
        Ok(content)
    }

    fn is_available(&self, snapshot: &Snapshot) -> Result<bool, WorldError> {
        let mut known = self.local.lock().unwrap_or_else(PoisonError::into_inner);
        let mut asked = Vec::new();
        let mut stack = snapshot;
        while let Some((layer, below)) = stack.top()
            && !known.stacks.contains(&stack.id())
        {
            // A pulled layer can be pulled again. The others are shared by many records: each is looked for once.
            if layer.pulled.is_none() && !known.layers.contains(&layer.id) {
                if !self.store.layers().is_local(layer).map_err(trouble::of_store)? {
                    return Ok(false);
                }
                known.layers.insert(layer.id);
            }
            asked.push(stack.id());
            stack = below;
        }
        known.stacks.extend(asked);
        Ok(true)
    }

    fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.steps.cancel();
    }
}

/// Who follows a packing, until the build is stopped.
struct Cancellable<'a> {
    cancelled: &'a AtomicBool,
    inner: Option<Arc<dyn Follow>>,
}

impl Follow for Cancellable<'_> {
    fn begins(&self, blob: &File) -> io::Result<()> {
        self.inner.as_ref().map_or(Ok(()), |inner| inner.begins(blob))
    }

    fn grew(&self, bytes: u64) {
        if let Some(inner) = &self.inner {
            inner.grew(bytes);
        }
    }

    fn is_whole(&self, layer: &PackedLayer) {
        if let Some(inner) = &self.inner {
            inner.is_whole(layer);
        }
    }

    fn is_wanted(&self) -> bool {
        !self.cancelled.load(Ordering::Relaxed) && self.inner.as_ref().is_none_or(|inner| inner.is_wanted())
    }
}

/// A block of most file systems, in bytes.
const BLOCK_BYTES: u64 = 4096;

/// How far the clock that stamps files may lag behind the one that is asked here, in nanoseconds.
const CLOCK_LAG_NS: u64 = 20_000_000;

/// A time now, as files are stamped with; `lag` nanoseconds earlier.
fn stamp(lag: u64) -> Mtime {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = now.saturating_sub(std::time::Duration::from_nanos(lag));
    Mtime { sec: now.as_secs() as i64, nsec: now.subsec_nanos() }
}

/// The files that a vertex stands on.
fn base<'a>(job: &'a Job<'_>) -> Result<&'a Snapshot, WorldError> {
    let first = job.inputs.first().and_then(Option::as_ref);
    first.ok_or_else(|| WorldError::new(TroubleKind::System, format!("{}: its base was not made", job.label)))
}
