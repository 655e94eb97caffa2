//! The graph for people and programs: `--print=dot|json`.

use serde_json::{Value, json};

use crate::graph::{Graph, VertexId};
use crate::key::CacheKey;
use crate::op::Op;

/// What is known of a vertex without carrying it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// The vertex.
    pub id: VertexId,
    /// Its cache key.
    pub key: CacheKey,
    /// Its result is at hand.
    pub hit: bool,
}

/// The graph as Graphviz reads it; what is at hand is drawn filled.
pub fn dot(graph: &Graph, vertices: &[Inspected]) -> String {
    let mut text = String::from("digraph build {\n  node [shape=box, fontname=monospace];\n");
    for Inspected { id, key, hit } in vertices {
        let label = graph.vertex(*id).label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let style = if *hit { ", style=filled, fillcolor=palegreen" } else { "" };
        text.push_str(&format!("  v{} [label=\"{label}\\n{}\"{style}];\n", id.index(), &key.hex()[..12]));
        for input in &graph.vertex(*id).inputs {
            text.push_str(&format!("  v{} -> v{};\n", input.index(), id.index()));
        }
    }
    text.push_str("}\n");
    text
}

/// The graph as JSON: one object per vertex, inputs before consumers.
pub fn json(graph: &Graph, vertices: &[Inspected]) -> Value {
    let vertices = vertices.iter().map(|Inspected { id, key, hit }| {
        let vertex = graph.vertex(*id);
        json!({
            "id": id.index(),
            "op": op_name(&vertex.op),
            "label": vertex.label,
            "stage": vertex.stage,
            "inputs": vertex.inputs.iter().map(|input| input.index()).collect::<Vec<_>>(),
            "key": key.hex(),
            "cached": hit,
        })
    });
    json!({ "vertices": vertices.collect::<Vec<_>>() })
}

fn op_name(op: &Op) -> &'static str {
    match op {
        Op::Scratch => "scratch",
        Op::Image(_) => "image",
        Op::Context(_) => "context",
        Op::Copy(_) => "copy",
        Op::Run(_) => "run",
        Op::Workdir(_) => "workdir",
        Op::Http(_) => "http",
        Op::Git(_) => "git",
    }
}
