//! From a plan to results: keys forward, demand backward, then the schedule of what is missing.
//!
//! 1. *Keys*: every reachable vertex gets a key from its op and its inputs' keys. Pure.
//! 2. *Demand*: from the targets back, stopping at every vertex whose record is there and whose files can still
//!    be had. What is never asked for is never made.
//! 3. *Schedule*: what is missing runs as soon as its inputs are there, the longest remaining chain first.
//!
//! A vertex that missed by its key gets a second chance once its inputs are there: the same op over the same
//! *content* gives the same result, however that content came about. That is the early cut-off.

mod inputs;
mod jobs;
mod run;
mod schedule;
mod task;

use crate::event::Events;
use crate::explain::{self, BuildLog, Explainer, StepLog};
use crate::graph::{Graph, VertexId};
use crate::key::{CacheKey, InputKey};
use crate::op::Op;
use crate::print::Inspected;
use crate::record::Record;
use crate::world::{Executor, Records, Results, World, WorldError};

pub use jobs::Jobs;

use inputs::{ContextFacts, selections};
use run::Run;

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
    /// Hears of results as they come, if anything is carried out.
    pub results: &'a dyn Results,
    /// How much is done at once.
    pub jobs: Jobs,
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
    log: BuildLog,
}

impl Solved {
    /// What a vertex gave; `None` if it was not needed.
    pub fn record(&self, id: VertexId) -> Option<&Record> {
        self.records[id.index()].as_ref()
    }

    /// What the build was made of, and what of it was cached.
    pub fn log(&self) -> &BuildLog {
        &self.log
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
        let mut steps = explain::steps(graph, &ContextFacts { graph, world: self.world });
        for (step, key) in steps.iter_mut().zip(&keys) {
            step.key = key.map(|key| key.hex()).unwrap_or_default();
        }
        let mut run = Run::new(self, graph, keys);
        run.look_up(&reached)?;
        for target in targets {
            run.demand(*target);
        }
        run.explain(&steps);
        run.report_cached(&reached);
        run.schedule()?;
        Ok(run.solved(steps))
    }

    /// Keys and hits of everything that `targets` need, carrying nothing out.
    pub fn inspect(&self, graph: &Graph, targets: &[VertexId]) -> Result<Vec<Inspected>, SolveError> {
        let reached = reachable(graph, targets);
        let keys = self.keys(graph, &reached)?;
        let mut run = Run::new(self, graph, keys);
        run.look_up(&reached)?;
        let inspected = graph.ids().filter(|id| reached[id.index()]);
        Ok(inspected.map(|id| Inspected { id, key: run.key(id), hit: run.is_known(id) }).collect())
    }

    /// The key of every reachable vertex, in order. One that cannot be computed is an error.
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

impl Run<'_> {
    /// What came of it.
    fn solved(self, mut steps: Vec<StepLog>) -> Solved {
        let platform = self.solver.explainer.map(|explainer| explainer.platform().to_owned());
        for (at, step) in steps.iter_mut().enumerate() {
            step.cached = self.cached[at];
            step.ran = self.ran[at];
            // What was found after all needs no reason.
            step.reason = self.reasons[at].clone().filter(|_| !step.cached);
        }
        let log = BuildLog { platform: platform.unwrap_or_default(), steps };
        Solved { records: self.results, cached: self.cached, log }
    }
}
