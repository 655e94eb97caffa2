//! Random graphs and random histories of them, against a model that is too simple to be wrong.

mod support;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::thread;

use forge_solver::op::RunOp;
use forge_solver::{Graph, Op, Vertex, VertexId};
use forge_store::{Layer, Snapshot};
use proptest::prelude::*;

use support::{Fake, context, copy_op, layer, run_op, scratch, text, vertex};

/// One vertex: what it stands on, what it copies from (a vertex or the context), and what it is called.
#[derive(Clone, Debug)]
struct Shape {
    on: usize,
    from: Option<usize>,
    same: bool,
}

/// What happens before a build.
#[derive(Clone, Debug)]
enum Happening {
    /// A command gets another text.
    Edit(prop::sample::Index),
    /// The context changes.
    Context(u8),
    /// The files of a layer are gone.
    Lose(prop::sample::Index),
    /// A command fails in this build.
    Fail(prop::sample::Index),
    /// A vertex is to be made anew in this build.
    NoCache(prop::sample::Index),
    /// Nothing.
    Nothing,
}

fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    let one = (any::<prop::sample::Index>(), prop::option::of(any::<prop::sample::Index>()), 0_u8..8);
    prop::collection::vec(one, 1..14).prop_map(|picks| {
        let shape =
            |(at, (on, from, same)): (usize, &(prop::sample::Index, Option<prop::sample::Index>, u8))| {
                // Vertex 0 is nothing at all; the one behind the last so far stands for the context.
                Shape { on: on.index(at + 1), from: from.map(|from| from.index(at + 2)), same: *same == 0 }
            };
        picks.iter().enumerate().map(shape).collect()
    })
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let index = any::<prop::sample::Index>;
    let one = prop_oneof![
        index().prop_map(Happening::Edit),
        (0_u8..3).prop_map(Happening::Context),
        index().prop_map(Happening::Lose),
        index().prop_map(Happening::Fail),
        index().prop_map(Happening::NoCache),
        Just(Happening::Nothing),
    ];
    prop::collection::vec(one, 1..6)
}

/// A build description that changes over time.
struct Project {
    shapes: Vec<Shape>,
    /// How often each command was edited.
    edits: Vec<usize>,
    fresh: Option<usize>,
}

impl Project {
    fn new(shapes: Vec<Shape>) -> Self {
        Self { edits: vec![0; shapes.len()], shapes, fresh: None }
    }

    /// What stands behind `@` is no part of what a command makes.
    fn label(&self, at: usize) -> String {
        let kind = if self.shapes[at].same { "same" } else { "v" };
        format!("{kind}{at}@{}", self.edits[at])
    }

    fn graph(&self) -> (Graph, Vec<VertexId>) {
        let mut graph = Graph::default();
        let files = context(&mut graph);
        let mut ids = vec![scratch(&mut graph)];
        for (at, shape) in self.shapes.iter().enumerate() {
            let label = self.label(at);
            let from = shape.from.map(|from| ids.get(from).copied().unwrap_or(files));
            let (op, inputs) = match from {
                // The destination makes every copy work of its own.
                Some(from) => {
                    let op = forge_solver::op::CopyOp { dest: format!("/{label}"), ..copy_op() };
                    (Op::Copy(op), vec![ids[shape.on], from])
                }
                None => (Op::Run(Box::new(RunOp { ..run_op(&label) })), vec![ids[shape.on]]),
            };
            let no_cache = self.fresh == Some(at);
            ids.push(graph.add(Vertex { no_cache, ..vertex(op, inputs, &label) }));
        }
        (graph, ids)
    }

    /// What vertex `at` (counted from 1) gives, worked out from nothing but the description.
    fn result(&self, at: usize, files: &str, known: &mut HashMap<usize, Snapshot>) -> Snapshot {
        if at == 0 {
            return Snapshot::default();
        }
        if let Some(result) = known.get(&at) {
            return result.clone();
        }
        let base = self.result(self.shapes[at - 1].on, files, known);
        let inputs = self.inputs(at, files, known);
        let result = base.push(Layer::built(layer(&self.label(at - 1), &inputs)));
        known.insert(at, result.clone());
        result
    }

    /// What vertex `at` stands on, as text.
    fn inputs(&self, at: usize, files: &str, known: &mut HashMap<usize, Snapshot>) -> String {
        let shape = &self.shapes[at - 1];
        let base = text(&self.result(shape.on, files, known));
        match shape.from {
            None => base,
            Some(from) if from < at => format!("{base}|{}", text(&self.result(from, files, known))),
            Some(_) => format!("{base}|{files}"),
        }
    }

    /// The vertices that the last one needs.
    fn needed(&self) -> BTreeSet<usize> {
        let mut needed = BTreeSet::new();
        let mut pending = vec![self.shapes.len()];
        while let Some(at) = pending.pop() {
            if at > 0 && needed.insert(at) {
                let shape = &self.shapes[at - 1];
                pending.push(shape.on);
                pending.extend(shape.from.filter(|from| *from < at));
            }
        }
        needed
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever the graph and whatever happened before: the result is what the description says; only what is needed
    /// runs, and only what was never made of the same before; a failure loses nothing that finished.
    #[test]
    fn no_history_leads_to_a_stale_or_wasted_result(shapes in shapes(), happenings in happenings()) {
        let fake = Fake::default();
        let mut project = Project::new(shapes);
        let target = project.shapes.len();
        // What was made so far and is still there: commands and what they stood on.
        let mut at_hand: HashSet<(String, String)> = HashSet::new();
        for happening in std::iter::once(Happening::Nothing).chain(happenings) {
            project.fresh = None;
            fake.failing.lock().unwrap().clear();
            match &happening {
                Happening::Edit(which) => project.edits[which.index(target)] += 1,
                Happening::Context(which) => *fake.context.lock().unwrap() = which.to_string(),
                Happening::Lose(which) => {
                    let files = fake.context.lock().unwrap().clone();
                    let snapshot = project.result(which.index(target) + 1, &files, &mut HashMap::new());
                    let lost = snapshot.top().unwrap().0.id;
                    fake.lost.lock().unwrap().insert(lost);
                    at_hand.retain(|(label, inputs)| {
                        layer(label, inputs) != lost && !inputs.contains(&lost.hex())
                    });
                }
                Happening::Fail(which) => fake.failing.lock().unwrap().push(project.label(which.index(target))),
                Happening::NoCache(which) => project.fresh = Some(which.index(target)),
                Happening::Nothing => {}
            }
            let files = fake.context.lock().unwrap().clone();
            fake.made.lock().unwrap().clear();
            let (graph, ids) = project.graph();
            let outcome = fake.solve(&graph, ids[target]);
            let made = fake.made.lock().unwrap().clone();
            let mut known = HashMap::new();
            if let Ok(result) = &outcome {
                prop_assert_eq!(result, &project.result(target, &files, &mut known));
            } else {
                prop_assert!(matches!(happening, Happening::Fail(_)));
            }
            let needed = project.needed();
            let fresh = project.fresh.map(|at| project.label(at));
            for one in &made {
                let at = (1..=target).find(|at| project.label(at - 1) == one.0).expect("only what is there runs");
                prop_assert!(needed.contains(&at), "{} is not needed", one.0);
                prop_assert_eq!(&one.1, &project.inputs(at, &files, &mut known));
                prop_assert!(fresh.as_ref() == Some(&one.0) || !at_hand.contains(one), "{} ran in vain", one.0);
            }
            let distinct: HashSet<_> = made.iter().cloned().collect();
            prop_assert_eq!(distinct.len(), made.len(), "something ran twice");
            at_hand.extend(distinct);
            if outcome.is_ok() {
                // At once again: nothing is left to do.
                project.fresh = None;
                let (graph, ids) = project.graph();
                prop_assert_eq!(&fake.solve(&graph, ids[target]), &outcome);
                prop_assert_eq!(fake.ran(), Vec::<String>::new());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Three forges at once over the same records: the same result, and nothing is made twice.
    #[test]
    fn processes_share_their_work(shapes in shapes()) {
        let project = Project::new(shapes);
        let (graph, ids) = project.graph();
        let target = *ids.last().unwrap();
        let one = Fake::default();
        let forges = [Fake::beside(&one), Fake::beside(&one), one];
        let results: Vec<Snapshot> = thread::scope(|scope| {
            let solves: Vec<_> =
                forges.iter().map(|forge| scope.spawn(|| forge.solve(&graph, target).unwrap())).collect();
            solves.into_iter().map(|solve| solve.join().unwrap()).collect()
        });
        let want = project.result(project.shapes.len(), "", &mut HashMap::new());
        prop_assert!(results.iter().all(|result| *result == want));
        let made: Vec<_> = forges.iter().flat_map(|forge| forge.made.lock().unwrap().clone()).collect();
        let distinct: HashSet<_> = made.iter().collect();
        prop_assert_eq!(distinct.len(), made.len());
    }
}
