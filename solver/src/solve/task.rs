//! One vertex on its way, on a thread of its own.

use std::any::Any;
use std::time::Instant;

use forge_store::{ContentId, Snapshot};

use super::Solver;
use super::inputs::{is_selected, selections};
use crate::event::{Event, StepId};
use crate::graph::{Graph, VertexId};
use crate::key::{CacheKey, InputKey};
use crate::op::{Op, Selection};
use crate::record::Record;
use crate::world::{Job, TroubleKind, WorldError};

pub struct Task<'a> {
    pub solver: &'a Solver<'a>,
    pub graph: &'a Graph,
    pub id: VertexId,
    pub key: CacheKey,
    pub fresh: bool,
    /// Whether a later step looks into the result.
    pub is_read: bool,
    /// Why it runs, if that is known.
    pub reason: Option<String>,
    pub inputs: Vec<Option<Snapshot>>,
}

pub enum Outcome {
    /// The result was at hand after all.
    Found(Record),
    /// It was made.
    Made(Record),
}

impl Task<'_> {
    pub fn carry_out(self) -> Result<Outcome, WorldError> {
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
            let by_key = (!self.fresh).then_some(self.key);
            let keys: Vec<CacheKey> = by_key.into_iter().chain([content_key]).collect();
            for record in self.solver.records.get_all(&keys)? {
                if let Some(record) = record
                    && self.solver.executor.is_available(&record.snapshot)?
                {
                    self.solver.records.put(&[self.key], &record)?;
                    return Ok(Outcome::Found(record));
                }
            }
        }
        let snapshot = self.execute()?;
        let record = Record { snapshot, created_ns: self.solver.records.now_ns() };
        self.solver.records.put(&[content_key, self.key], &record)?;
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
            events.emit(Event::Missed { step, reason: reason.clone() });
        }
        let began = Instant::now();
        let contexts: Vec<Option<String>> =
            vertex.inputs.iter().map(|input| self.context_name(*input)).collect();
        let job = Job {
            op: &vertex.op,
            inputs: &self.inputs,
            contexts: &contexts,
            is_read: self.is_read,
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
