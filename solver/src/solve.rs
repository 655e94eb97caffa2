//! From a plan to results: keys forward, demand backward, then the schedule of what is missing.
//!
//! 1. *Keys*: every reachable vertex gets a key from its op and its inputs' keys. Pure.
//! 2. *Demand*: from the targets back, stopping at every vertex whose record is there and whose files can still
//!    be had. What is never asked for is never made.
//! 3. *Schedule*: what is missing runs as soon as its inputs are there, the longest remaining chain first.
//!
//! A vertex that missed by its key gets a second chance once its inputs are there: the same op over the same
//! *content* gives the same result, however that content came about. That is the early cut-off.

use std::any::Any;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::mpsc;
use std::time::Instant;

use forge_store::{ContentId, Snapshot};

use crate::event::{Event, Events, StepId};
use crate::explain::{self, BuildLog, Explainer, StepLog};
use crate::graph::{Graph, VertexId};
use crate::key::{CacheKey, InputKey};
use crate::op::{CopySource, Op, Selection};
use crate::print::Inspected;
use crate::record::Record;
use crate::world::{Executor, Job, Records, TroubleKind, World, WorldError};

/// What solving needs besides the graph.
#[derive(Clone, Copy)]
pub struct Solver<'a> {
    /// Hashes contexts.
    pub world: &'a dyn World,
    /// Carries vertices out.
    pub executor: &'a dyn Executor,
    /// Remembers results.
    pub records: &'a dyn Records,
    /// Hears of everything.
    pub events: &'a dyn Events,
    /// How many vertices run at once; pulls do not count.
    pub jobs: usize,
    /// What the last build was made of, for saying why a step runs.
    pub explainer: Option<&'a Explainer<'a>>,
    /// Turns true when the user asks to stop.
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
}

/// The results of the reachable vertices that were needed.
#[derive(Debug)]
pub struct Solved {
    records: Vec<Option<Record>>,
    cached: Vec<bool>,
    log: Vec<StepLog>,
}

impl Solved {
    /// What a vertex gave; `None` if it was not needed.
    pub fn record(&self, id: VertexId) -> Option<&Record> {
        self.records[id.index()].as_ref()
    }

    /// What the build was made of, and what of it was cached.
    pub fn log(&self) -> BuildLog {
        BuildLog { steps: self.log.clone() }
    }

    /// True if the vertex's result was at hand.
    pub fn was_cached(&self, id: VertexId) -> bool {
        self.cached[id.index()]
    }
}

/// A vertex that could not be carried out.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct SolveError {
    /// Which; none for trouble with the cache itself.
    pub vertex: Option<VertexId>,
    /// What happened.
    pub error: WorldError,
}

impl From<WorldError> for SolveError {
    fn from(error: WorldError) -> Self {
        Self { vertex: None, error }
    }
}

impl Solver<'_> {
    /// Makes the results of `targets` be there, doing as little as possible.
    pub fn solve(&self, graph: &Graph, targets: &[VertexId]) -> Result<Solved, SolveError> {
        let reached = reachable(graph, targets);
        let keys = self.keys(graph, &reached)?;
        let mut run = Run::new(self, graph, keys);
        run.log = explain::steps(graph, |id, place| self.contents(graph, id, place));
        run.look_up(&reached)?;
        for target in targets {
            run.demand(*target);
        }
        run.report_cached(&reached);
        run.explain();
        run.schedule()?;
        let mut log = run.log;
        log.iter_mut().zip(&run.cached).for_each(|(step, cached)| step.cached = *cached);
        Ok(Solved { records: run.results, cached: run.cached, log })
    }

    /// Keys and hits of everything that `targets` need, carrying nothing out.
    pub fn inspect(&self, graph: &Graph, targets: &[VertexId]) -> Result<Vec<Inspected>, SolveError> {
        let reached = reachable(graph, targets);
        let keys = self.keys(graph, &reached)?;
        let mut run = Run::new(self, graph, keys);
        run.look_up(&reached)?;
        let inspected = graph.ids().filter(|id| reached[id.index()]);
        Ok(inspected
            .map(|id| Inspected { id, key: run.key(id), hit: run.results[id.index()].is_some() })
            .collect())
    }

    /// The content ids that stand for a context input in a key; none for inputs of other kinds.
    fn contents(&self, graph: &Graph, id: VertexId, place: usize) -> Vec<ContentId> {
        let vertex = graph.vertex(id);
        let Some(Op::Context(context)) = vertex.inputs.get(place).map(|input| &graph.vertex(*input).op)
        else {
            return Vec::new();
        };
        // They were computed for the keys a moment ago; a failure was reported there.
        selections(&vertex.op, place).filter_map(|s| self.world.select(&context.name, s).ok()).collect()
    }

    /// The key of every reachable vertex, in order.
    fn keys(&self, graph: &Graph, reached: &[bool]) -> Result<Vec<Option<CacheKey>>, SolveError> {
        let mut keys: Vec<Option<CacheKey>> = vec![None; graph.len()];
        for id in graph.ids().filter(|id| reached[id.index()]) {
            let vertex = graph.vertex(id);
            let inputs = vertex
                .inputs
                .iter()
                .enumerate()
                .map(|(place, input)| match &graph.vertex(*input).op {
                    Op::Context(context) => {
                        let contents = selections(&vertex.op, place)
                            .map(|selection| self.world.select(&context.name, selection))
                            .collect::<Result<_, _>>()
                            .map_err(|error| SolveError { vertex: Some(id), error })?;
                        Ok(InputKey::Content(contents))
                    }
                    _ => Ok(InputKey::Made(keys[input.index()].expect("inputs come before their consumers"))),
                })
                .collect::<Result<Vec<_>, SolveError>>()?;
            keys[id.index()] = Some(CacheKey::new(&vertex.op, &inputs));
        }
        Ok(keys)
    }
}

fn reachable(graph: &Graph, targets: &[VertexId]) -> Vec<bool> {
    let mut reached = vec![false; graph.len()];
    for target in targets {
        for (flag, more) in reached.iter_mut().zip(graph.reachable(*target)) {
            *flag |= more;
        }
    }
    reached
}

/// What an op takes of its input at `place`.
fn selections(op: &Op, place: usize) -> impl Iterator<Item = &Selection> {
    let (sources, mounts): (&[CopySource], &[_]) = match op {
        Op::Copy(copy) => (&copy.sources, &[]),
        Op::Run(run) => (&[], &run.mounts),
        _ => (&[], &[]),
    };
    let copied = sources.iter().filter_map(move |source| match source {
        CopySource::Files { input, selection, .. } if *input == place => Some(selection),
        _ => None,
    });
    let mounted = mounts.iter().filter(move |mount| mount.input == Some(place)).map(|mount| &mount.selection);
    copied.chain(mounted)
}

/// True if an op reads its input at `place` only through [`selections`], so that their content stands for it.
fn is_selected(op: &Op, place: usize) -> bool {
    match op {
        Op::Copy(_) => place > 0,
        Op::Run(run) => place > 0 && run.mounts.iter().all(|m| m.input != Some(place) || m.readonly),
        _ => false,
    }
}

/// One solving: what is known of each vertex so far.
struct Run<'a> {
    solver: &'a Solver<'a>,
    graph: &'a Graph,
    keys: Vec<Option<CacheKey>>,
    /// Results: found at hand, or made.
    results: Vec<Option<Record>>,
    cached: Vec<bool>,
    /// Vertices that must be carried out (or be found by content).
    demanded: Vec<bool>,
    /// What each vertex is made of, and why it runs.
    log: Vec<StepLog>,
    /// Vertices that the user wants made anew, or that stand on such: their keys promise nothing.
    fresh: Vec<bool>,
}

impl<'a> Run<'a> {
    fn new(solver: &'a Solver<'a>, graph: &'a Graph, keys: Vec<Option<CacheKey>>) -> Self {
        let n = graph.len();
        let mut fresh = vec![false; n];
        for id in graph.ids() {
            let vertex = graph.vertex(id);
            fresh[id.index()] = vertex.no_cache || vertex.inputs.iter().any(|input| fresh[input.index()]);
        }
        Self {
            solver,
            graph,
            keys,
            results: vec![None; n],
            cached: vec![false; n],
            demanded: vec![false; n],
            log: Vec::new(),
            fresh,
        }
    }

    fn key(&self, id: VertexId) -> CacheKey {
        self.keys[id.index()].expect("reachable vertices have keys")
    }

    /// Finds every result that is at hand by its key.
    fn look_up(&mut self, reached: &[bool]) -> Result<(), SolveError> {
        for id in self.graph.ids().filter(|id| reached[id.index()]) {
            let vertex = self.graph.vertex(id);
            match &vertex.op {
                Op::Scratch => self.results[id.index()] = Some(self.instant(Snapshot::default())),
                Op::Context(_) => {}
                // Whether an image's layers are here matters only to whoever must look inside them.
                Op::Image(image) => {
                    let snapshot = image.snapshot.clone();
                    self.results[id.index()] = Some(self.instant(snapshot));
                }
                _ if self.fresh[id.index()] => {}
                _ => {
                    if let Some(record) = self.available(&self.key(id))? {
                        self.hit(id, record);
                    }
                }
            }
        }
        Ok(())
    }

    fn instant(&self, snapshot: Snapshot) -> Record {
        Record { snapshot, created_ns: 0 }
    }

    fn available(&self, key: &CacheKey) -> Result<Option<Record>, WorldError> {
        let Some(record) = self.solver.records.get(key)? else { return Ok(None) };
        Ok(self.solver.executor.is_available(&record.snapshot)?.then_some(record))
    }

    fn hit(&mut self, id: VertexId, record: Record) {
        self.results[id.index()] = Some(record);
        self.cached[id.index()] = true;
    }

    /// Marks what must be carried out for `target`'s result to be there.
    fn demand(&mut self, target: VertexId) {
        let mut pending = vec![target];
        while let Some(id) = pending.pop() {
            let known = self.results[id.index()].is_some();
            let is_source = matches!(self.graph.vertex(id).op, Op::Context(_));
            if !known && !is_source && !std::mem::replace(&mut self.demanded[id.index()], true) {
                pending.extend(&self.graph.vertex(id).inputs);
            }
        }
    }

    /// Says what was at hand: hits, and base images that nobody needs to look into.
    fn report_cached(&mut self, reached: &[bool]) {
        let fetches = self.fetches();
        for id in self.graph.ids().filter(|id| reached[id.index()]) {
            let untouched = matches!(self.graph.vertex(id).op, Op::Image(_)) && !fetches.contains_key(&id);
            if self.cached[id.index()] || untouched {
                self.say_cached(id);
            }
        }
    }

    /// Finds out why each demanded vertex runs: its own change, or that of what it stands on.
    fn explain(&mut self) {
        let Some(explainer) = self.solver.explainer else { return };
        for id in self.graph.ids() {
            let vertex = self.graph.vertex(id);
            let is_image = matches!(vertex.op, Op::Image(_));
            if !self.demanded[id.index()] && !is_image {
                continue;
            }
            let own = explainer.reason(&self.log[id.index()]);
            let asked = vertex.no_cache.then(|| "asked for by --no-cache".to_owned());
            let inherited = || {
                let changed = vertex.inputs.iter().find(|input| self.log[input.index()].reason.is_some());
                changed.map(|input| format!("follows {}", self.graph.vertex(*input).label))
            };
            self.log[id.index()].reason = asked.or(own).or_else(inherited);
        }
    }

    fn say_cached(&self, id: VertexId) {
        let label = self.graph.vertex(id).label.clone();
        self.solver.events.emit(Event::Cached { step: StepId::Vertex(id), label });
    }

    /// Carries out what is demanded.
    fn schedule(&mut self) -> Result<(), SolveError> {
        let mut fetches = self.fetches();
        let mut waiting = self.waiting(&fetches);
        let urgency = self.urgency();
        let mut ready: BinaryHeap<(usize, Reverse<VertexId>)> = BinaryHeap::new();
        for (id, missing) in &waiting {
            if *missing == 0 {
                ready.push((urgency[id.index()], Reverse(*id)));
            }
        }
        let mut first_error: Option<SolveError> = None;
        std::thread::scope(|scope| {
            let (sender, done) = mpsc::channel::<(VertexId, Result<Outcome, WorldError>)>();
            let mut running = 0;
            let mut slots = self.solver.jobs.max(1);
            loop {
                while first_error.is_none() {
                    let Some(&(_, Reverse(id))) = ready.peek() else { break };
                    let is_fetch = fetches.contains_key(&id);
                    if slots == 0 && !is_fetch {
                        break;
                    }
                    ready.pop();
                    slots -= usize::from(!is_fetch);
                    running += 1;
                    let task = self.task(id);
                    let sender = sender.clone();
                    scope.spawn(move || sender.send((id, task.carry_out())));
                }
                if running == 0 {
                    break;
                }
                let Ok((id, outcome)) = done.recv() else { break };
                running -= 1;
                slots += usize::from(!fetches.contains_key(&id));
                match outcome {
                    Ok(outcome) => {
                        self.finish(id, outcome);
                        fetches.remove(&id);
                        waiting.remove(&id);
                        for consumer in self.graph.consumers(id) {
                            if let Some(missing) = waiting.get_mut(&consumer) {
                                *missing -= 1;
                                if *missing == 0 {
                                    ready.push((urgency[consumer.index()], Reverse(consumer)));
                                }
                            }
                        }
                    }
                    Err(error) if first_error.is_none() => {
                        first_error = Some(SolveError { vertex: Some(id), error });
                        self.solver.executor.cancel();
                    }
                    Err(_) => {}
                }
            }
        });
        first_error.map_or(Ok(()), Err)
    }

    /// Base images whose files someone who runs must look into.
    fn fetches(&self) -> HashMap<VertexId, ()> {
        let looked_into = |id: &VertexId| {
            matches!(self.graph.vertex(*id).op, Op::Image(_))
                && self.graph.consumers(*id).any(|consumer| {
                    self.demanded[consumer.index()]
                        && !matches!(&self.graph.vertex(consumer).op, Op::Copy(copy) if copy.link
                            && self.graph.vertex(consumer).inputs.first() == Some(id))
                })
        };
        self.graph.ids().filter(looked_into).map(|id| (id, ())).collect()
    }

    /// For every vertex to carry out: how many of its inputs are still to come.
    fn waiting(&self, fetches: &HashMap<VertexId, ()>) -> HashMap<VertexId, usize> {
        let pending = |id: &VertexId| self.demanded[id.index()] || fetches.contains_key(id);
        let count = |id: VertexId| {
            // One edge per use: an input that is used twice is counted, and reported, twice.
            self.graph.vertex(id).inputs.iter().filter(|input| pending(input)).count()
        };
        self.graph.ids().filter(pending).map(|id| (id, count(id))).collect()
    }

    /// How many vertices hang on each one, along the longest chain.
    fn urgency(&self) -> Vec<usize> {
        let mut urgency = vec![0; self.graph.len()];
        for id in self.graph.ids().rev() {
            let own = usize::from(self.demanded[id.index()]);
            let behind =
                self.graph.consumers(id).map(|consumer| urgency[consumer.index()]).max().unwrap_or(0);
            urgency[id.index()] = own + behind;
        }
        urgency
    }

    fn task(&self, id: VertexId) -> Task<'a> {
        let inputs = self.graph.vertex(id).inputs.iter();
        let inputs =
            inputs.map(|input| self.results[input.index()].as_ref().map(|r| r.snapshot.clone())).collect();
        Task {
            solver: self.solver,
            graph: self.graph,
            id,
            key: self.key(id),
            fresh: self.fresh[id.index()],
            reason: self.log[id.index()].reason.clone(),
            inputs,
        }
    }

    fn finish(&mut self, id: VertexId, outcome: Outcome) {
        match outcome {
            Outcome::Found(record) => {
                self.hit(id, record);
                self.say_cached(id);
            }
            Outcome::Made(record) => self.results[id.index()] = Some(record),
        }
    }
}

/// One vertex on its way, on a thread of its own.
struct Task<'a> {
    solver: &'a Solver<'a>,
    graph: &'a Graph,
    id: VertexId,
    key: CacheKey,
    fresh: bool,
    /// Why it runs, if that is known.
    reason: Option<String>,
    inputs: Vec<Option<Snapshot>>,
}

enum Outcome {
    /// The result was at hand after all.
    Found(Record),
    /// It was made.
    Made(Record),
}

impl Task<'_> {
    fn carry_out(self) -> Result<Outcome, WorldError> {
        if (self.solver.cancelled)() {
            return Err(WorldError::new(TroubleKind::Cancelled, "cancelled"));
        }
        let vertex = self.graph.vertex(self.id);
        if let Op::Image(image) = &vertex.op {
            self.execute()?;
            return Ok(Outcome::Made(Record { snapshot: image.snapshot.clone(), created_ns: 0 }));
        }
        let content_key = self.content_key()?;
        let _working: Box<dyn Any + Send> = self.solver.records.lock(&content_key)?;
        if !vertex.no_cache || is_deterministic(&vertex.op) {
            let by_key = (!self.fresh).then_some(&self.key);
            for key in by_key.into_iter().chain([&content_key]) {
                if let Some(record) = self.solver.records.get(key)?
                    && self.solver.executor.is_available(&record.snapshot)?
                {
                    self.solver.records.put(&self.key, &record)?;
                    return Ok(Outcome::Found(record));
                }
            }
        }
        let snapshot = self.execute()?;
        let record = Record { snapshot, created_ns: self.solver.records.now_ns() };
        self.solver.records.put(&content_key, &record)?;
        self.solver.records.put(&self.key, &record)?;
        Ok(Outcome::Made(record))
    }

    /// The key by what the inputs are, now that they are there.
    fn content_key(&self) -> Result<CacheKey, WorldError> {
        let vertex = self.graph.vertex(self.id);
        let inputs = vertex.inputs.iter().zip(&self.inputs).enumerate();
        let inputs = inputs
            .map(|(place, (input, snapshot))| match (snapshot, &self.graph.vertex(*input).op) {
                (_, Op::Context(context)) => {
                    self.selected(place, |selection| self.solver.world.select(&context.name, selection))
                }
                (Some(snapshot), _) if is_selected(&vertex.op, place) => {
                    self.selected(place, |selection| self.solver.executor.select(snapshot, selection))
                }
                (Some(snapshot), _) => Ok(InputKey::Snapshot(snapshot.clone())),
                (None, _) => {
                    Err(WorldError::new(TroubleKind::System, "a vertex ran before its input was there"))
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(CacheKey::new(&vertex.op, &inputs))
    }

    fn selected(
        &self,
        place: usize,
        select: impl Fn(&Selection) -> Result<ContentId, WorldError>,
    ) -> Result<InputKey, WorldError> {
        let contents =
            selections(&self.graph.vertex(self.id).op, place).map(select).collect::<Result<_, _>>()?;
        Ok(InputKey::Content(contents))
    }

    fn context_name(&self, input: VertexId) -> Option<String> {
        match &self.graph.vertex(input).op {
            Op::Context(context) => Some(context.name.clone()),
            _ => None,
        }
    }

    /// Carries the op out, with its beginning and end reported.
    fn execute(&self) -> Result<Snapshot, WorldError> {
        let vertex = self.graph.vertex(self.id);
        let step = StepId::Vertex(self.id);
        let events = self.solver.events;
        events.emit(Event::Started { step, label: vertex.label.clone() });
        if let Some(reason) = &self.reason {
            events.emit(Event::Note { step, text: format!("cache miss: {reason}") });
        }
        let began = Instant::now();
        let contexts: Vec<Option<String>> =
            vertex.inputs.iter().map(|input| self.context_name(*input)).collect();
        let job = Job {
            op: &vertex.op,
            inputs: &self.inputs,
            contexts: &contexts,
            step,
            label: &vertex.label,
            events,
        };
        let result = self.solver.executor.execute(&job);
        events.emit(match &result {
            Ok(_) => Event::Finished { step, took: began.elapsed() },
            Err(error) if error.kind == TroubleKind::Cancelled => Event::Cancelled { step },
            Err(error) => Event::Failed { step, error: error.message.clone() },
        });
        result
    }
}

/// True for ops whose result depends on nothing but their inputs: `--no-cache` need not repeat them.
fn is_deterministic(op: &Op) -> bool {
    matches!(op, Op::Copy(_) | Op::Workdir(_))
}
