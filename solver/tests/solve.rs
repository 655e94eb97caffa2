//! The solver over counting vertices: what runs, how often, and what is left alone. No container anywhere.

mod support;

use std::sync::atomic::Ordering;
use std::thread;

use forge_solver::explain::BuildLog;
use forge_solver::op::RunOp;
use forge_solver::{Graph, Op, Vertex, VertexId};
use forge_store::Platform;

use support::{Fake, context, copy, run, run_op, scratch, vertex};

#[test]
fn a_second_build_runs_nothing_and_gives_the_same() {
    let fake = Fake::default();
    let mut graph = Graph::default();
    let base = scratch(&mut graph);
    let a = run(&mut graph, base, "a");
    let b = run(&mut graph, a, "b");
    let first = fake.solve(&graph, b).unwrap();
    assert_eq!(fake.ran(), ["a", "b"]);
    assert_eq!(fake.solve(&graph, b).unwrap(), first);
    assert_eq!(fake.ran(), [""; 0]);
}

#[test]
fn only_what_the_target_needs_runs() {
    let fake = Fake::default();
    let mut graph = Graph::default();
    let base = scratch(&mut graph);
    run(&mut graph, base, "aside");
    let b = run(&mut graph, base, "b");
    fake.solve(&graph, b).unwrap();
    assert_eq!(fake.ran(), ["b"]);
}

#[test]
fn a_changed_file_reruns_only_what_follows_it() {
    let fake = Fake::default();
    let mut graph = Graph::default();
    let base = scratch(&mut graph);
    let files = context(&mut graph);
    let before = run(&mut graph, base, "before");
    let copied = copy(&mut graph, before, files, "copy");
    let after = run(&mut graph, copied, "after");
    fake.solve(&graph, after).unwrap();
    assert_eq!(fake.ran(), ["after", "before", "copy"]);
    *fake.context.lock().unwrap() = "edited".into();
    fake.solve(&graph, after).unwrap();
    assert_eq!(fake.ran(), ["after", "copy"]);
    *fake.context.lock().unwrap() = String::new();
    fake.solve(&graph, after).unwrap();
    assert_eq!(fake.ran(), [""; 0], "what was there before is there again");
}

#[test]
fn a_step_that_gives_the_same_files_leaves_what_follows_cached() {
    let fake = Fake::default();
    let build = |command: &str| {
        let mut graph = Graph::default();
        let base = scratch(&mut graph);
        let first = graph.add(vertex(Op::Run(Box::new(run_op(command))), vec![base], "same"));
        let second = run(&mut graph, first, "second");
        fake.solve(&graph, second).unwrap();
        fake.ran()
    };
    assert_eq!(build("one way"), ["same", "second"]);
    assert_eq!(build("another way"), ["same"]);
}

#[test]
fn a_diamond_runs_each_vertex_once() {
    let fake = Fake::default();
    let mut graph = Graph::default();
    let base = scratch(&mut graph);
    let top = run(&mut graph, base, "top");
    let (left, right) = (run(&mut graph, top, "left"), run(&mut graph, top, "right"));
    let both = copy(&mut graph, left, right, "both");
    fake.solve(&graph, both).unwrap();
    assert!(fake.ran.lock().unwrap().values().all(|times| *times == 1));
    assert_eq!(fake.ran().len(), 4);
}

#[test]
fn a_failure_is_the_result_and_keeps_what_finished() {
    let fake = Fake::default();
    let mut graph = Graph::default();
    let base = scratch(&mut graph);
    let a = run(&mut graph, base, "a");
    let bad = run(&mut graph, a, "bad");
    let never = run(&mut graph, bad, "never");
    fake.failing.lock().unwrap().push("bad".into());
    assert_eq!(fake.solve(&graph, never), Err("exit code: 1".into()));
    assert_eq!(fake.ran(), ["a", "bad"]);
    assert!(fake.cancelled.load(Ordering::SeqCst));
    fake.failing.lock().unwrap().clear();
    fake.solve(&graph, never).unwrap();
    assert_eq!(fake.ran(), ["bad", "never"]);
}

#[test]
fn no_cache_runs_again_but_its_equal_result_keeps_the_rest() {
    let fake = Fake::default();
    let mut graph = Graph::default();
    let base = scratch(&mut graph);
    let first =
        graph.add(Vertex { no_cache: true, ..vertex(Op::Run(Box::new(run_op("x"))), vec![base], "same") });
    let second = run(&mut graph, first, "second");
    fake.solve(&graph, second).unwrap();
    assert_eq!(fake.ran(), ["same", "second"]);
    fake.solve(&graph, second).unwrap();
    assert_eq!(fake.ran(), ["same"]);
}

#[test]
fn no_more_run_at_once_than_there_are_jobs() {
    let fake = Fake::default();
    let mut graph = Graph::default();
    let base = scratch(&mut graph);
    let many: Vec<_> = (0..40).map(|n| run(&mut graph, base, &format!("r{n}"))).collect();
    let mut last = many[0];
    for (n, from) in many.iter().enumerate() {
        last = copy(&mut graph, last, *from, &format!("c{n}"));
    }
    fake.solve(&graph, last).unwrap();
    assert!(fake.most_running.load(Ordering::SeqCst) <= 3);
    assert_eq!(fake.ran().len(), 80);
}

#[test]
fn a_stage_that_many_stand_on_runs_once() {
    let fake = Fake::default();
    let mut graph = Graph::default();
    let base = scratch(&mut graph);
    let shared = run(&mut graph, base, "shared");
    let mut last = run(&mut graph, shared, "first");
    for n in 0..20 {
        let branch = run(&mut graph, shared, &format!("b{n}"));
        last = copy(&mut graph, last, branch, &format!("c{n}"));
    }
    fake.solve(&graph, last).unwrap();
    assert_eq!(fake.ran.lock().unwrap().values().sum::<usize>(), 42);
    assert_eq!(fake.ran.lock().unwrap()["shared"], 1);
}

#[test]
fn equal_work_in_two_processes_at_once_is_done_once() {
    let one = Fake::default();
    let two = Fake::beside(&one);
    let mut graph = Graph::default();
    let base = scratch(&mut graph);
    let mut last = run(&mut graph, base, "first");
    for n in 0..30 {
        let branch = run(&mut graph, base, &format!("b{n}"));
        last = copy(&mut graph, last, branch, &format!("c{n}"));
    }
    let results = thread::scope(|scope| {
        let solves = [&one, &two].map(|fake| scope.spawn(|| fake.solve(&graph, last).unwrap()));
        solves.map(|solve| solve.join().unwrap())
    });
    assert_eq!(results[0], results[1]);
    let made = [one, two].map(|fake| fake.made.into_inner().unwrap()).concat();
    assert_eq!(made.len(), 61, "{made:?}");
}

#[test]
fn a_stopped_build_keeps_what_finished_and_begins_nothing_more() {
    let fake = Fake::default();
    let mut graph = Graph::default();
    let base = scratch(&mut graph);
    let mut last = base;
    for n in 0..10 {
        last = run(&mut graph, last, &format!("r{n}"));
    }
    *fake.stop_after.lock().unwrap() = Some(4);
    assert_eq!(fake.solve(&graph, last), Err("cancelled".into()));
    assert_eq!(fake.ran(), ["r0", "r1", "r2", "r3"]);
    *fake.stop_after.lock().unwrap() = None;
    fake.solve(&graph, last).unwrap();
    assert_eq!(fake.ran(), ["r4", "r5", "r6", "r7", "r8", "r9"]);
}

#[test]
fn a_failure_leaves_its_finished_siblings_cached() {
    let fake = Fake::default();
    let mut graph = Graph::default();
    let base = scratch(&mut graph);
    let good: Vec<VertexId> = (0..8).map(|n| run(&mut graph, base, &format!("good{n}"))).collect();
    let bad = run(&mut graph, base, "bad");
    let mut last = bad;
    for (n, from) in good.iter().enumerate() {
        last = copy(&mut graph, last, *from, &format!("c{n}"));
    }
    fake.failing.lock().unwrap().push("bad".into());
    fake.solve(&graph, last).unwrap_err();
    let finished = fake.ran();
    fake.failing.lock().unwrap().clear();
    fake.solve(&graph, last).unwrap();
    assert!(fake.ran().iter().all(|label| label == "bad" || !finished.contains(label)), "{:?}", fake.ran());
}

#[test]
fn a_key_that_cannot_be_computed_is_an_error_and_nothing_runs() {
    let fake = Fake::default();
    let mut graph = Graph::default();
    let base = scratch(&mut graph);
    let files = context(&mut graph);
    let before = run(&mut graph, base, "before");
    let copied = copy(&mut graph, before, files, "copy");
    fake.unreadable.store(true, Ordering::SeqCst);
    assert_eq!(fake.solve(&graph, copied), Err("cannot read a: input/output error".into()));
    assert_eq!(fake.ran(), [""; 0]);
    assert!(fake.shared.records.lock().unwrap().is_empty());
}

#[test]
fn results_that_are_gone_are_made_again_and_nothing_else_is() {
    let fake = Fake::default();
    let mut graph = Graph::default();
    let base = scratch(&mut graph);
    let a = run(&mut graph, base, "a");
    let b = run(&mut graph, a, "b");
    let first = fake.solve_after(&BuildLog::default(), &graph, b).unwrap();
    let layers = first.record(b).unwrap().snapshot.layers();
    fake.lost.lock().unwrap().insert(layers[1].id);
    let second = fake.solve_after(first.log(), &graph, b).unwrap();
    assert_eq!(fake.ran(), ["b"]);
    assert_eq!(fake.reasons(), ["RUN: its result is gone from the store"]);
    // The lower layer is gone: so is everything that stood on it, but what runs again gives the same.
    fake.lost.lock().unwrap().insert(layers[0].id);
    let third = fake.solve_after(second.log(), &graph, b).unwrap();
    assert_eq!(fake.ran(), ["a"]);
    assert_eq!(third.record(b), first.record(b));
}

/// The reasons that a second build gives, with `edit` made to its only RUN.
fn reasons_after(edit: impl FnOnce(&mut RunOp)) -> Vec<String> {
    let fake = Fake::default();
    let build = |op: RunOp, last: &BuildLog| {
        let mut graph = Graph::default();
        let base = scratch(&mut graph);
        let first = graph.add(vertex(Op::Run(Box::new(op)), vec![base], "[1/2] RUN make"));
        let second = run(&mut graph, first, "[2/2] RUN more");
        fake.solve_after(last, &graph, second).unwrap().log().clone()
    };
    let mut op = run_op("make");
    op.env.push(("A".into(), "1".into()));
    let first = build(op.clone(), &BuildLog::default());
    assert!(fake.reasons().is_empty(), "nothing was built before: {:?}", fake.reasons());
    edit(&mut op);
    build(op, &first);
    fake.reasons()
}

#[test]
fn a_step_that_runs_again_says_why() {
    type Edit = fn(&mut RunOp);
    let cases: [(Edit, &str); 9] = [
        (|op| op.env[0].1 = "2".into(), "ENV A 1→2"),
        (|op| op.env.push(("B".into(), "1".into())), "ENV B is new (1)"),
        (|op| op.args.push("x".into()), "command changed"),
        (|op| op.user = "app".into(), "USER root→app"),
        (|op| op.cwd = "/src".into(), "WORKDIR /→/src"),
        (|op| op.network = forge_parser::ast::Network::None, "network default→none"),
        (|op| op.security = forge_parser::ast::Security::Insecure, "security sandbox→insecure"),
        (|op| op.platform = Platform::new("linux", "arm64", None), "platform linux/amd64→linux/arm64"),
        (|op| op.script = Some(("s".into(), "#!x".into())), "script is new"),
    ];
    for (edit, want) in cases {
        let reasons = reasons_after(edit);
        assert!(reasons[0].starts_with(&format!("RUN: {want}")), "{want}: {reasons:?}");
        // The fake's result follows its inputs, of which there is none here: what stands on it is cut off.
        assert_eq!(reasons.len(), 1, "{reasons:?}");
    }
}

#[test]
fn what_follows_a_changed_step_names_it_and_no_cache_names_itself() {
    let fake = Fake::default();
    let build = |text: &str, no_cache: bool, last: &BuildLog| {
        let mut graph = Graph::default();
        let base = scratch(&mut graph);
        let first =
            graph.add(Vertex { no_cache, ..vertex(Op::Run(Box::new(run_op(text))), vec![base], text) });
        let second = graph
            .add(Vertex { stage: "t".into(), ..vertex(Op::Run(Box::new(run_op("b"))), vec![first], "b") });
        fake.solve_after(last, &graph, second).unwrap().log().clone()
    };
    let first = build("one", false, &BuildLog::default());
    let second = build("two", false, &first);
    assert_eq!(fake.reasons(), ["RUN: command changed", "RUN: follows two"]);
    build("two", true, &second);
    assert_eq!(fake.reasons(), ["RUN: asked for by --no-cache-filter s"]);
}
