//! The closed graph: vertices whose inputs come before them, so it is acyclic by construction.

use forge_parser::Span;
use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::op::Op;

/// A vertex of one graph. An input's id is smaller than its consumer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VertexId(u32);

impl VertexId {
    fn new(node: NodeIndex) -> Self {
        Self(node.index() as u32)
    }

    /// Its place in a list with one entry per vertex.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// An op with its inputs, and where it was written.
#[derive(Clone, Debug)]
pub struct Vertex {
    /// What to do.
    pub op: Op,
    /// What it is done to, in the order that the op's documentation gives.
    pub inputs: Vec<VertexId>,
    /// The instruction's place in the Dockerfile.
    pub span: Option<Span>,
    /// `[stage 2/4] RUN …`: how progress names it.
    pub label: String,
    /// The stage it belongs to, as `--no-cache-filter` names it.
    pub stage: String,
    /// Looks nothing up in the cache (its result is still recorded).
    pub no_cache: bool,
}

/// Vertices and who feeds whom.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    graph: DiGraph<Vertex, ()>,
}

impl Graph {
    /// Adds a vertex behind its inputs.
    pub fn add(&mut self, vertex: Vertex) -> VertexId {
        let inputs = vertex.inputs.clone();
        let node = self.graph.add_node(vertex);
        for input in inputs {
            self.graph.add_edge(NodeIndex::new(input.index()), node, ());
        }
        VertexId::new(node)
    }

    /// Renames a vertex: a base is named by the first stage that stands on it.
    pub(crate) fn set_label(&mut self, id: VertexId, label: String) {
        self.graph[NodeIndex::new(id.index())].label = label;
    }

    /// Says what a vertex does that stood there without: a source whose digest was not known yet.
    pub(crate) fn set_op(&mut self, id: VertexId, op: Op) {
        self.graph[NodeIndex::new(id.index())].op = op;
    }

    /// The vertex behind an id.
    pub fn vertex(&self, id: VertexId) -> &Vertex {
        &self.graph[NodeIndex::new(id.index())]
    }

    /// How many vertices there are.
    pub fn len(&self) -> usize {
        self.graph.node_count()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All ids, inputs before consumers.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = VertexId> + use<> {
        (0..self.len() as u32).map(VertexId)
    }

    /// The vertices that `id` feeds.
    pub fn consumers(&self, id: VertexId) -> impl Iterator<Item = VertexId> + '_ {
        self.graph.neighbors_directed(NodeIndex::new(id.index()), Direction::Outgoing).map(VertexId::new)
    }

    /// The vertices whose own layers make up what `target` adds to its base, itself first.
    pub fn layers_of(&self, target: VertexId) -> Vec<VertexId> {
        let mut chain = Vec::new();
        let mut next = Some(target);
        while let Some(id) = next
            && matches!(self.vertex(id).op, Op::Run(_) | Op::Copy(_) | Op::Workdir(_))
        {
            chain.push(id);
            next = self.vertex(id).inputs.first().copied();
        }
        chain
    }

    /// Which vertices `target` needs, itself included: one flag per vertex.
    pub fn reachable(&self, target: VertexId) -> Vec<bool> {
        let mut reached = vec![false; self.len()];
        let mut pending = vec![target];
        while let Some(id) = pending.pop() {
            if !std::mem::replace(&mut reached[id.index()], true) {
                pending.extend(&self.vertex(id).inputs);
            }
        }
        reached
    }
}
