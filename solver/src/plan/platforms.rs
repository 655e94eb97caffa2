//! The same Dockerfile for several platforms: one plan for each, over one graph.
//!
//! What is the same for all of them (a stage `FROM --platform=$BUILDPLATFORM` that uses no target argument) is one
//! vertex, and is made once.

use std::collections::BTreeSet;

use forge_parser::Parsed;
use forge_store::Platform;

use super::{HistoryLine, Plan, PlanOptions, PlanProblem, plan};
use crate::world::World;
use crate::{Graph, Vertex, VertexId};

/// Plans a build for each of `platforms`, in that order. All plans have the same graph.
///
/// # Errors
/// The problems of the first platform that has any.
pub fn plan_platforms(
    parsed: &Parsed,
    options: &PlanOptions,
    platforms: &[Platform],
    world: &dyn World,
) -> Result<Vec<Plan>, Vec<PlanProblem>> {
    let several_platforms = platforms.len() > 1;
    let plans = platforms.iter().map(|platform| {
        let options = PlanOptions { platform: platform.clone(), several_platforms, ..options.clone() };
        plan(parsed, &options, world)
    });
    Ok(join(plans.collect::<Result<_, _>>()?))
}

fn join(mut plans: Vec<Plan>) -> Vec<Plan> {
    if plans.len() < 2 {
        return plans;
    }
    let mut graph = Graph::default();
    for plan in &mut plans {
        let names = add_all(&mut graph, &plan.graph);
        let renamed = |id: VertexId| names[id.index()];
        plan.target = renamed(plan.target);
        plan.stage.files = renamed(plan.stage.files);
        for line in &mut plan.stage.history {
            if let HistoryLine::Own { vertex: Some(vertex), .. } = line {
                *vertex = renamed(*vertex);
            }
        }
    }
    // An argument that one platform takes is used.
    let of_all = |list: fn(&Plan) -> &Vec<String>| -> BTreeSet<String> {
        let sets = plans.iter().map(|plan| list(plan).iter().cloned().collect::<BTreeSet<_>>());
        sets.reduce(|a, b| a.intersection(&b).cloned().collect()).unwrap_or_default()
    };
    let (unused, unneeded) = (of_all(|plan| &plan.unused_args), of_all(|plan| &plan.unneeded));
    for plan in &mut plans {
        plan.graph = graph.clone();
        plan.unused_args.retain(|name| unused.contains(name));
        plan.unneeded.retain(|name| unneeded.contains(name));
    }
    plans
}

/// Adds what `graph` does not have of `other`; gives the new ids of all its vertices.
fn add_all(graph: &mut Graph, other: &Graph) -> Vec<VertexId> {
    let before: Vec<VertexId> = graph.ids().collect();
    let mut names: Vec<VertexId> = Vec::with_capacity(other.len());
    for id in other.ids() {
        let vertex = other.vertex(id);
        let inputs: Vec<VertexId> = vertex.inputs.iter().map(|input| names[input.index()]).collect();
        let same = before.iter().copied().find(|known| {
            let known = graph.vertex(*known);
            known.inputs == inputs && known.no_cache == vertex.no_cache && known.op == vertex.op
        });
        names.push(same.unwrap_or_else(|| graph.add(Vertex { inputs, ..vertex.clone() })));
    }
    names
}
