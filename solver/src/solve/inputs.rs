//! What an op takes of its inputs, and what stands for it.

use forge_store::ContentId;

use crate::explain::Contexts;
use crate::graph::{Graph, VertexId};
use crate::op::{CopySource, Op, Selection};
use crate::world::World;

/// What an op takes of its input at `place`.
pub fn selections(op: &Op, place: usize) -> impl Iterator<Item = &Selection> {
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
pub fn is_selected(op: &Op, place: usize) -> bool {
    match op {
        Op::Copy(_) => place > 0,
        Op::Run(run) => place > 0 && run.mounts.iter().all(|m| m.input != Some(place) || m.readonly),
        _ => false,
    }
}

/// Contexts, as explanations ask about them.
pub struct ContextFacts<'a> {
    pub graph: &'a Graph,
    pub world: &'a dyn World,
}

impl Contexts for ContextFacts<'_> {
    fn contents(&self, id: VertexId, place: usize) -> Vec<ContentId> {
        let vertex = self.graph.vertex(id);
        let Some(Op::Context(context)) = vertex.inputs.get(place).map(|input| &self.graph.vertex(*input).op)
        else {
            return Vec::new();
        };
        // They were computed for the keys a moment ago; a failure was reported there.
        selections(&vertex.op, place).filter_map(|s| self.world.select(&context.name, s).ok()).collect()
    }

    fn ignore_fact(&self, context: &str) -> Option<String> {
        self.world.ignore_fact(context)
    }
}
