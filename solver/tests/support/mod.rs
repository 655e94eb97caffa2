//! A world in memory for solver tests: counting vertices instead of containers, records that several solvers share.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::any::Any;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use forge_parser::ast::{Network, Security};
use forge_solver::event::Events;
use forge_solver::explain::{BuildLog, Explainer};
use forge_solver::op::types::GitReference;
use forge_solver::op::{
    Access, ContextOp, CopyOp, CopySource, HttpSource, ResolvedHttp, ResolvedImage, RunOp, Selection, Unpack,
};
use forge_solver::world::{Dated, Executor, Job, Named, Records, World};
use forge_solver::{
    CacheKey, Event, Graph, Jobs, Op, Record, Solved, Solver, TroubleKind, Vertex, VertexId, WorldError,
};
use forge_store::{ContentId, Layer, LayerId, Platform, Snapshot};

/// Cache records, as several processes share them: with real locks.
#[derive(Default)]
pub struct Shared {
    pub records: Mutex<HashMap<CacheKey, Record>>,
    locked: Mutex<HashSet<CacheKey>>,
    freed: Condvar,
}

/// One forge: it counts what it ran.
#[derive(Default)]
pub struct Fake {
    pub shared: Arc<Shared>,
    pub ran: Mutex<BTreeMap<String, usize>>,
    /// What ran to its end: the label, and what it stood on.
    pub made: Mutex<Vec<(String, String)>>,
    /// Contents of the one context.
    pub context: Mutex<String>,
    /// Selections that cannot be hashed.
    pub unreadable: AtomicBool,
    /// Commands that fail.
    pub failing: Mutex<Vec<String>>,
    /// Layers that are gone.
    pub lost: Mutex<HashSet<LayerId>>,
    /// Why steps ran.
    pub reasons: Mutex<Vec<String>>,
    running: AtomicUsize,
    pub most_running: AtomicUsize,
    pub cancelled: AtomicBool,
    /// The user stops the build once so many vertices ran; none for never.
    pub stop_after: Mutex<Option<usize>>,
}

pub fn content(text: &str) -> ContentId {
    ContentId::new(blake3::hash(text.as_bytes()))
}

/// What a command makes: its name alone if it begins with `same`, else a function of all it stands on.
pub fn layer(label: &str, inputs: &str) -> LayerId {
    let seen = if label.starts_with("same") { "" } else { inputs };
    LayerId::of_content(&content(&format!("{} {seen}", label.split('@').next().unwrap())))
}

/// Files, as text.
pub fn text(snapshot: &Snapshot) -> String {
    snapshot.layers().iter().map(|layer| layer.id.hex()).collect::<Vec<_>>().join(" ")
}

impl World for Fake {
    fn resolve_image(&self, _: &str, _: &Platform) -> Result<ResolvedImage, WorldError> {
        Err(WorldError::new(TroubleKind::NotFound, "there are no images here"))
    }
    fn image_at_hand(&self, _: &str, _: &Platform) -> Option<ResolvedImage> {
        None
    }
    fn find(&self, context: &str, selection: &Selection) -> Result<(), WorldError> {
        World::select(self, context, selection).map(drop)
    }
    fn time_of(&self, _: Dated<'_>) -> Result<Option<i64>, WorldError> {
        Ok(None)
    }
    fn named(&self, _: &str, _: &Platform) -> Option<Named> {
        None
    }
    fn resolve_http(&self, _: &HttpSource) -> Result<ResolvedHttp, WorldError> {
        Err(WorldError::new(TroubleKind::NotFound, "there are no URLs here"))
    }
    fn resolve_git(&self, _: &GitReference, _: Access) -> Result<String, WorldError> {
        Err(WorldError::new(TroubleKind::NotFound, "there are no repositories here"))
    }
    fn is_ignored(&self, _: &str, _: &str) -> bool {
        false
    }
    fn select(&self, _: &str, _: &Selection) -> Result<ContentId, WorldError> {
        if self.unreadable.load(Ordering::SeqCst) {
            return Err(WorldError::new(TroubleKind::System, "cannot read a: input/output error"));
        }
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
        let inputs = self.seen(job);
        let id = layer(job.label, &inputs);
        self.lost.lock().unwrap().remove(&id);
        self.made.lock().unwrap().push((job.label.to_owned(), inputs));
        Ok(base.push(Layer::built(id)))
    }
    fn select(&self, input: &Snapshot, _: &Selection) -> Result<ContentId, WorldError> {
        Ok(content(&text(input)))
    }
    fn is_available(&self, snapshot: &Snapshot) -> Result<bool, WorldError> {
        let lost = self.lost.lock().unwrap();
        Ok(!snapshot.downward().any(|layer| lost.contains(&layer.id)))
    }
    fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
    }
}

impl Records for Fake {
    fn get(&self, key: &CacheKey) -> Result<Option<Record>, WorldError> {
        Ok(self.shared.records.lock().unwrap().get(key).cloned())
    }
    fn put(&self, keys: &[CacheKey], record: &Record) -> Result<(), WorldError> {
        let mut records = self.shared.records.lock().unwrap();
        keys.iter().for_each(|key| drop(records.insert(*key, record.clone())));
        Ok(())
    }
    fn lock(&self, key: &CacheKey) -> Result<Box<dyn Any + Send>, WorldError> {
        let mut locked = self.shared.locked.lock().unwrap();
        while !locked.insert(*key) {
            locked = self.shared.freed.wait(locked).unwrap();
        }
        Ok(Box::new(Held { shared: self.shared.clone(), key: *key }))
    }
    fn now_ns(&self) -> i128 {
        1
    }
}

struct Held {
    shared: Arc<Shared>,
    key: CacheKey,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.locked.lock().unwrap().remove(&self.key);
        self.shared.freed.notify_all();
    }
}

impl Events for Fake {
    fn emit(&self, event: Event) {
        if let Event::Missed { reason, .. } = event {
            self.reasons.lock().unwrap().push(reason);
        }
    }
}

impl Fake {
    /// Another forge over the same records.
    pub fn beside(other: &Self) -> Self {
        let context = Mutex::new(other.context.lock().unwrap().clone());
        Self { shared: other.shared.clone(), context, ..Self::default() }
    }

    /// What a job stands on, as text.
    fn seen(&self, job: &Job<'_>) -> String {
        let one = |(input, context): (&Option<Snapshot>, &Option<String>)| match (input, context) {
            (Some(snapshot), _) => text(snapshot),
            (None, _) => self.context.lock().unwrap().clone(),
        };
        job.inputs.iter().zip(job.contexts).map(one).collect::<Vec<_>>().join("|")
    }

    pub fn solve(&self, graph: &Graph, target: VertexId) -> Result<Snapshot, String> {
        self.solve_after(&BuildLog::default(), graph, target)
            .map(|solved| solved.record(target).expect("the target has a result").snapshot.clone())
    }

    /// Solves with the log of the last build at hand.
    pub fn solve_after(&self, last: &BuildLog, graph: &Graph, target: VertexId) -> Result<Solved, String> {
        self.ran.lock().unwrap().clear();
        self.reasons.lock().unwrap().clear();
        self.cancelled.store(false, Ordering::SeqCst);
        let listing = |_: &str| None;
        let explainer = Explainer::new(last, "linux/amd64".into(), &listing);
        let stop_after = *self.stop_after.lock().unwrap();
        let solver = Solver {
            world: self,
            executor: self,
            records: self,
            events: self,
            results: &(),
            jobs: Jobs::at_most(3),
            explainer: Some(&explainer),
            cancelled: &|| {
                stop_after.is_some_and(|most| self.ran.lock().unwrap().values().sum::<usize>() >= most)
            },
        };
        solver.solve(graph, &[target]).map_err(|e| e.to_string())
    }

    pub fn ran(&self) -> Vec<String> {
        self.ran.lock().unwrap().keys().cloned().collect()
    }

    pub fn reasons(&self) -> Vec<String> {
        self.reasons.lock().unwrap().clone()
    }
}

pub fn vertex(op: Op, inputs: Vec<VertexId>, label: &str) -> Vertex {
    Vertex { op, inputs, span: None, label: label.into(), stage: "s".into(), no_cache: false }
}

pub fn scratch(graph: &mut Graph) -> VertexId {
    graph.add(Vertex { stage: String::new(), ..vertex(Op::Scratch, vec![], "scratch") })
}

pub fn run_op(command: &str) -> RunOp {
    RunOp {
        args: vec![command.into()],
        env: vec![],
        declared_args: vec![],
        proxy_env: vec![],
        cwd: "/".into(),
        user: String::new(),
        network: Network::Default,
        security: Security::Sandbox,
        mounts: vec![],
        ulimits: vec![],
        shm_size: None,
        devices: vec![],
        script: None,
        platform: Platform::new("linux", "amd64", None),
        hostname: None,
    }
}

pub fn run(graph: &mut Graph, on: VertexId, command: &str) -> VertexId {
    graph.add(vertex(Op::Run(Box::new(run_op(command))), vec![on], command))
}

pub fn copy_op() -> CopyOp {
    let selection = Selection::path(String::new());
    CopyOp {
        sources: vec![CopySource::Files { input: 1, selection, unpack: Unpack::Never }],
        dest: "/".into(),
        chown: None,
        chmod: None,
        parents: false,
        link: false,
        reset_owner: true,
    }
}

pub fn copy(graph: &mut Graph, on: VertexId, from: VertexId, label: &str) -> VertexId {
    graph.add(vertex(Op::Copy(copy_op()), vec![on, from], label))
}

pub fn context(graph: &mut Graph) -> VertexId {
    let op = Op::Context(ContextOp { name: "context".into() });
    graph.add(Vertex { stage: String::new(), ..vertex(op, vec![], "context") })
}
