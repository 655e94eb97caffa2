//! The solver over counting vertices: what runs, how often, and what is left alone. No container anywhere.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use forge_parser::ast::{Network, Security};
use forge_solver::event::Silent;
use forge_solver::op::types::GitReference;
use forge_solver::op::{
    ContextOp, CopyOp, CopySource, HttpSource, ResolvedHttp, ResolvedImage, RunOp, Selection, Unpack,
};
use forge_solver::world::{Executor, Job, Named, Records, World};
use forge_solver::{CacheKey, Graph, Op, Record, Solver, TroubleKind, Vertex, VertexId, WorldError};
use forge_store::{ContentId, Layer, LayerId, Platform, Snapshot};
use proptest::prelude::*;

/// A world in memory: it counts what ran.
#[derive(Default)]
struct Fake {
    ran: Mutex<BTreeMap<String, usize>>,
    records: Mutex<HashMap<CacheKey, Record>>,
    /// Contents of the one context.
    context: Mutex<String>,
    /// Commands that fail.
    failing: Mutex<Vec<String>>,
    running: AtomicUsize,
    most_running: AtomicUsize,
    cancelled: AtomicBool,
}

fn content(text: &str) -> ContentId {
    ContentId::new(blake3::hash(text.as_bytes()))
}

impl World for Fake {
    fn resolve_image(&self, _: &str, _: &Platform) -> Result<ResolvedImage, WorldError> {
        Err(WorldError::new(TroubleKind::NotFound, "there are no images here"))
    }
    fn named(&self, _: &str) -> Option<Named> {
        None
    }
    fn resolve_http(&self, _: &HttpSource) -> Result<ResolvedHttp, WorldError> {
        Err(WorldError::new(TroubleKind::NotFound, "there are no URLs here"))
    }
    fn resolve_git(&self, _: &GitReference) -> Result<String, WorldError> {
        Err(WorldError::new(TroubleKind::NotFound, "there are no repositories here"))
    }
    fn is_ignored(&self, _: &str, _: &str) -> bool {
        false
    }
    fn select(&self, _: &str, _: &Selection) -> Result<ContentId, WorldError> {
        Ok(content(&self.context.lock().unwrap()))
    }
}

impl Executor for Fake {
    fn execute(&self, job: &Job<'_>) -> Result<Snapshot, WorldError> {
        let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_running.fetch_max(now, Ordering::SeqCst);
        std::thread::yield_now();
        *self.ran.lock().unwrap().entry(job.label.to_owned()).or_default() += 1;
        self.running.fetch_sub(1, Ordering::SeqCst);
        if self.failing.lock().unwrap().iter().any(|label| label == job.label) {
            return Err(WorldError::new(TroubleKind::Command(1), "exit code: 1"));
        }
        let base = job.inputs[0].clone().expect("the base is there");
        // A command that begins with `same` gives the same files whatever it stands on.
        let seen = if job.label.starts_with("same") { String::new() } else { format!("{:?}", job.inputs) };
        let id = LayerId::of_content(&content(&format!("{} {seen}", job.label.split('@').next().unwrap())));
        Ok(base.push(Layer::built(id)))
    }
    fn select(&self, input: &Snapshot, _: &Selection) -> Result<ContentId, WorldError> {
        Ok(content(&format!("{input:?}")))
    }
    fn is_available(&self, _: &Snapshot) -> Result<bool, WorldError> {
        Ok(true)
    }
    fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
    }
}

impl Records for Fake {
    fn get(&self, key: &CacheKey) -> Result<Option<Record>, WorldError> {
        Ok(self.records.lock().unwrap().get(key).cloned())
    }
    fn put(&self, key: &CacheKey, record: &Record) -> Result<(), WorldError> {
        self.records.lock().unwrap().insert(*key, record.clone());
        Ok(())
    }
    fn lock(&self, _: &CacheKey) -> Result<Box<dyn Any + Send>, WorldError> {
        Ok(Box::new(()))
    }
    fn now_ns(&self) -> i128 {
        1
    }
}

impl Fake {
    fn solve(&self, graph: &Graph, target: VertexId) -> Result<Snapshot, String> {
        self.ran.lock().unwrap().clear();
        let solver = Solver {
            world: self,
            executor: self,
            records: self,
            events: &Silent,
            jobs: 3,
            explainer: None,
            cancelled: &|| false,
        };
        let solved = solver.solve(graph, &[target]).map_err(|e| e.to_string())?;
        Ok(solved.record(target).expect("the target has a result").snapshot.clone())
    }

    fn ran(&self) -> Vec<String> {
        self.ran.lock().unwrap().keys().cloned().collect()
    }
}

fn vertex(op: Op, inputs: Vec<VertexId>, label: &str) -> Vertex {
    Vertex { op, inputs, span: None, label: label.into(), stage: String::new(), no_cache: false }
}

fn scratch(graph: &mut Graph) -> VertexId {
    graph.add(vertex(Op::Scratch, vec![], "scratch"))
}

fn run_op(command: &str) -> Op {
    Op::Run(Box::new(RunOp {
        args: vec![command.into()],
        env: vec![],
        declared_args: vec![],
        proxy_env: vec![],
        cwd: "/".into(),
        user: String::new(),
        network: Network::Default,
        security: Security::Sandbox,
        mounts: vec![],
        ulimits: Vec::new(),
        shm_size: None,
        devices: Vec::new(),
        script: None,
        platform: Platform::new("linux", "amd64", None),
    }))
}

fn run(graph: &mut Graph, on: VertexId, command: &str) -> VertexId {
    graph.add(vertex(run_op(command), vec![on], command))
}

fn copy(graph: &mut Graph, on: VertexId, from: VertexId, label: &str) -> VertexId {
    let selection = Selection::path(String::new());
    let op = CopyOp {
        sources: vec![CopySource::Files { input: 1, selection, unpack: Unpack::Never }],
        dest: "/".into(),
        chown: None,
        chmod: None,
        parents: false,
        link: false,
        reset_owner: true,
    };
    graph.add(vertex(Op::Copy(op), vec![on, from], label))
}

fn context(graph: &mut Graph) -> VertexId {
    graph.add(vertex(Op::Context(ContextOp { name: "context".into() }), vec![], "context"))
}

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
    // The fake's copy gives the same files whatever the context holds, so `after` is cut off.
    assert_eq!(fake.ran(), ["copy"]);
}

#[test]
fn a_step_that_gives_the_same_files_leaves_what_follows_cached() {
    let fake = Fake::default();
    let build = |command: &str| {
        let mut graph = Graph::default();
        let base = scratch(&mut graph);
        let first = graph.add(vertex(run_op(command), vec![base], "same"));
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
    let first = graph.add(Vertex { no_cache: true, ..vertex(run_op("x"), vec![base], "same") });
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

/// For each vertex: one or two inputs among those before it, and whether it is a copy.
fn graphs() -> impl Strategy<Value = Vec<(usize, usize, bool)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>()), 1..40)
        .prop_map(|picks| {
            picks
                .iter()
                .enumerate()
                .map(|(at, (a, b, is_copy))| (a.index(at + 1), b.index(at + 1), *is_copy))
                .collect()
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever the graph: what the target needs runs once, nothing else does, and a second time nothing runs.
    #[test]
    fn random_graphs_agree_with_a_naive_model(shape in graphs()) {
        let fake = Fake::default();
        let mut graph = Graph::default();
        let mut ids = vec![scratch(&mut graph)];
        for (at, (a, b, is_copy)) in shape.iter().enumerate() {
            let label = format!("v{at}");
            ids.push(if *is_copy {
                copy(&mut graph, ids[*a], ids[*b], &label)
            } else {
                run(&mut graph, ids[*a], &label)
            });
        }
        let target = *ids.last().unwrap();
        let first = fake.solve(&graph, target).unwrap();
        let mut needed = vec![false; ids.len()];
        let mut pending = vec![ids.len() - 1];
        while let Some(at) = pending.pop() {
            if at > 0 && !std::mem::replace(&mut needed[at], true) {
                let (a, b, is_copy) = shape[at - 1];
                pending.push(a);
                pending.extend(is_copy.then_some(b));
            }
        }
        // Copies of the same over the same are one piece of work, so they may run less often than they stand there.
        let ran = fake.ran.lock().unwrap().clone();
        for (at, needed) in needed.iter().enumerate().skip(1) {
            let times = ran.get(&format!("v{}", at - 1)).copied().unwrap_or(0);
            let is_copy = shape[at - 1].2;
            prop_assert!(times <= usize::from(*needed));
            prop_assert!(is_copy || times == usize::from(*needed));
        }
        prop_assert_eq!(fake.solve(&graph, target).unwrap(), first);
        prop_assert!(fake.ran().is_empty());
    }
}
