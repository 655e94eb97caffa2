//! One solving before anything is carried out: what is at hand, what is needed, and why.

use forge_store::Snapshot;

use super::Solver;
use crate::event::{Event, StepId};
use crate::explain::{StepLog, Verdict};
use crate::graph::{Graph, VertexId};
use crate::key::CacheKey;
use crate::op::Op;
use crate::record::Record;
use crate::solve::SolveError;

/// What is known of each vertex so far.
pub struct Run<'a> {
    pub solver: &'a Solver<'a>,
    pub graph: &'a Graph,
    pub keys: Vec<Option<CacheKey>>,
    /// Results: found at hand, or made.
    pub results: Vec<Option<Record>>,
    pub cached: Vec<bool>,
    /// Vertices that were carried out.
    pub ran: Vec<bool>,
    /// Vertices that must be carried out (or be found by content).
    pub demanded: Vec<bool>,
    /// Why a vertex is not cached, where that is known.
    pub reasons: Vec<Option<String>>,
    /// Vertices that the user wants made anew, or that stand on such: their keys promise nothing.
    pub fresh: Vec<bool>,
    /// Base images whose files someone who runs must look into.
    pub fetched: Vec<bool>,
    /// Vertices whose files someone who runs looks into.
    pub read: Vec<bool>,
}

impl<'a> Run<'a> {
    pub fn new(solver: &'a Solver<'a>, graph: &'a Graph, keys: Vec<Option<CacheKey>>) -> Self {
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
            ran: vec![false; n],
            demanded: vec![false; n],
            reasons: vec![None; n],
            fresh,
            fetched: vec![false; n],
            read: vec![false; n],
        }
    }

    pub fn key(&self, id: VertexId) -> CacheKey {
        self.keys[id.index()].expect("reachable vertices have keys")
    }

    /// Whether a vertex's result is at hand.
    pub fn is_known(&self, id: VertexId) -> bool {
        self.results[id.index()].is_some()
    }

    /// Finds every result that is at hand by its key.
    pub fn look_up(&mut self, reached: &[bool]) -> Result<(), SolveError> {
        let mut wanted = Vec::new();
        for id in self.graph.ids().filter(|id| reached[id.index()]) {
            let vertex = self.graph.vertex(id);
            match &vertex.op {
                Op::Scratch => self.results[id.index()] = Some(instant(Snapshot::default())),
                Op::Context(_) => {}
                // Whether an image's layers are here matters only to whoever must look inside them.
                Op::Image(image) => self.results[id.index()] = Some(instant(image.snapshot.clone())),
                _ if self.fresh[id.index()] => {}
                _ => wanted.push(id),
            }
        }
        let keys: Vec<CacheKey> = wanted.iter().map(|id| self.key(*id)).collect();
        for (id, record) in wanted.into_iter().zip(self.solver.records.get_all(&keys)?) {
            if let Some(record) = record
                && self.solver.executor.is_available(&record.snapshot)?
            {
                self.hit(id, record);
            }
        }
        Ok(())
    }

    pub fn hit(&mut self, id: VertexId, record: Record) {
        self.results[id.index()] = Some(record);
        self.cached[id.index()] = true;
    }

    /// Marks what must be carried out for `target`'s result to be there.
    pub fn demand(&mut self, target: VertexId) {
        let mut pending = vec![target];
        while let Some(id) = pending.pop() {
            let is_source = matches!(self.graph.vertex(id).op, Op::Context(_));
            if self.is_known(id) || is_source || std::mem::replace(&mut self.demanded[id.index()], true) {
                continue;
            }
            for (place, input) in self.graph.vertex(id).inputs.iter().enumerate() {
                let is_image = matches!(self.graph.vertex(*input).op, Op::Image(_));
                self.read[input.index()] |= self.is_looked_into(id, place);
                self.fetched[input.index()] |= is_image && self.is_looked_into(id, place);
                pending.push(*input);
            }
        }
    }

    /// Whether a vertex that is carried out looks into its input at a place.
    fn is_looked_into(&self, id: VertexId, place: usize) -> bool {
        let vertex = self.graph.vertex(id);
        let lies_on_top = place == 0 && matches!(&vertex.op, Op::Copy(copy) if copy.link);
        !lies_on_top
    }

    /// Says what was at hand: hits, and base images that nobody needs to look into.
    pub fn report_cached(&self, reached: &[bool]) {
        for id in self.graph.ids().filter(|id| reached[id.index()]) {
            let untouched = matches!(self.graph.vertex(id).op, Op::Image(_)) && !self.fetched[id.index()];
            if self.cached[id.index()] || untouched {
                self.say_cached(id);
            }
        }
    }

    pub fn say_cached(&self, id: VertexId) {
        let step = StepId::Vertex(id);
        let label = self.graph.vertex(id).label.clone();
        self.solver.events.emit(Event::Cached { step, label });
    }

    /// Finds out why each demanded vertex runs: its own change, or that of what it stands on.
    pub fn explain(&mut self, steps: &[StepLog]) {
        let Some(explainer) = self.solver.explainer else { return };
        let comparison = explainer.compare(steps);
        let everything = self.graph.ids().map(|id| self.graph.vertex(id));
        let all_anew = everything.filter(|vertex| !vertex.stage.is_empty()).all(|vertex| vertex.no_cache);
        for id in self.graph.ids() {
            let vertex = self.graph.vertex(id);
            if !self.demanded[id.index()] && !matches!(vertex.op, Op::Image(_)) {
                continue;
            }
            let step = &steps[id.index()];
            let why = match comparison.verdict(step) {
                _ if vertex.no_cache && all_anew => Some("asked for by --no-cache".to_owned()),
                _ if vertex.no_cache => Some(format!("asked for by --no-cache-filter {}", vertex.stage)),
                Verdict::Unknown => None,
                Verdict::New => Some("the last build did not have it".into()),
                Verdict::Changed(changes) => Some(changes),
                Verdict::Same { same_key: true } if !self.fresh[id.index()] => self.gone(id),
                Verdict::Same { .. } => self.inherited(id),
            };
            self.reasons[id.index()] = why.map(|why| format!("{}: {why}", step.subject));
        }
    }

    /// The same step on the same input, and nothing is known of it any more.
    fn gone(&self, id: VertexId) -> Option<String> {
        let is_image = matches!(self.graph.vertex(id).op, Op::Image(_));
        (!is_image).then(|| "its result is gone from the store".to_owned())
    }

    /// The first input that is not what it was.
    fn inherited(&self, id: VertexId) -> Option<String> {
        let mut inputs = self.graph.vertex(id).inputs.iter();
        let changed = inputs.find(|input| self.reasons[input.index()].is_some())?;
        Some(format!("follows {}", self.graph.vertex(*changed).label))
    }
}

fn instant(snapshot: Snapshot) -> Record {
    Record { snapshot, created_ns: 0 }
}
