//! Why a step was not cached: what each step was made of in the last build, compared with now.
//!
//! A build leaves its [`BuildLog`]; the next build of the same Dockerfile and target reads it. Steps meet their
//! predecessors by stage and text, or else by stage and place (see [`compare`]). Where a step's own facts
//! ([`facts`]) are the same, its inputs are named instead, or that its result is gone.

mod compare;
mod facts;
mod files;

use std::collections::{BTreeMap, HashMap};

use forge_store::ContentId;
use serde::{Deserialize, Serialize};

use crate::graph::{Graph, Vertex, VertexId};
use crate::op::Op;

pub use compare::{Comparison, Explainer, Verdict};
pub use files::changed_files;

/// How many files or variables one line names; the rest is counted.
const NAMED: usize = 3;

/// The most characters of an instruction that a line repeats.
const SUBJECT_CHARS: usize = 60;

/// One build, as the next one and `forge explain` see it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildLog {
    /// What it was for.
    #[serde(default)]
    pub platform: String,
    /// The steps, inputs before consumers.
    pub steps: Vec<StepLog>,
}

/// One step of a [`BuildLog`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepLog {
    /// Stage and place: what makes it the same step in another build.
    pub slot: String,
    /// How progress named it.
    pub label: String,
    /// How a reason names it: `COPY . .`, `RUN`, `FROM debian`.
    #[serde(default)]
    pub subject: String,
    /// Its cache key, in hex; empty where it was not needed.
    #[serde(default)]
    pub key: String,
    /// What it was made of: names and values.
    pub facts: BTreeMap<String, String>,
    /// Its result was at hand.
    pub cached: bool,
    /// It was carried out. A step that was neither was not needed.
    #[serde(default)]
    pub ran: bool,
    /// Why it was not cached, beginning with the subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl StepLog {
    /// The instruction, without its number in the stage.
    fn text(&self) -> &str {
        self.label
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("] "))
            .map_or(&self.label, |(_, text)| text)
    }

    /// The stage; none for what no stage owns: images and sources.
    fn stage(&self) -> Option<&str> {
        self.slot.rsplit_once('#').filter(|_| !self.is_source()).map(|(stage, _)| stage)
    }

    /// Whether it is a base image, a file at a URL or a repository.
    pub fn is_source(&self) -> bool {
        self.is_image() || self.slot.starts_with("source ")
    }

    /// Whether it is a base image.
    pub fn is_image(&self) -> bool {
        self.slot.starts_with("image ")
    }
}

/// The files of a selection: path to what they are, for naming the ones that changed.
pub type Listing = BTreeMap<String, FileFact>;

/// What a listing knows of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFact {
    /// Permission bits.
    pub mode: u32,
    /// Its type, and the hash of its bytes or its link's target.
    pub content: String,
}

/// What is known of contexts: for facts.
pub trait Contexts {
    /// The content ids that stand for a vertex's input at a place, if that is a context; none otherwise.
    fn contents(&self, id: VertexId, place: usize) -> Vec<ContentId>;

    /// What stands for a context's ignore file.
    fn ignore_fact(&self, context: &str) -> Option<String>;
}

/// Facts of the vertices of a graph, each under its slot.
pub fn steps(graph: &Graph, contexts: &dyn Contexts) -> Vec<StepLog> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut steps = Vec::with_capacity(graph.len());
    for id in graph.ids() {
        let vertex = graph.vertex(id);
        let place = places.entry(&vertex.stage).or_default();
        *place += 1;
        let slot = match &vertex.op {
            Op::Image(image) => format!("image {}", unpinned(&image.reference)),
            Op::Http(_) | Op::Git(_) => format!("source {}", vertex.label),
            _ => format!("{}#{place}", vertex.stage),
        };
        let facts = facts::facts(graph, id, contexts);
        let mut step = StepLog { slot, label: vertex.label.clone(), facts, ..StepLog::default() };
        step.subject = subject(vertex, step.text());
        steps.push(step);
    }
    steps
}

fn subject(vertex: &Vertex, text: &str) -> String {
    match &vertex.op {
        Op::Image(image) => format!("FROM {}", familiar(&image.reference)),
        Op::Http(_) | Op::Git(_) => format!("ADD {text}"),
        Op::Run(_) => "RUN".into(),
        _ => match text.char_indices().nth(SUBJECT_CHARS) {
            Some((at, _)) => format!("{}…", &text[..at]),
            None => text.to_owned(),
        },
    }
}

/// A reference without the digest that it may be pinned to.
fn unpinned(reference: &str) -> &str {
    reference.split_once('@').map_or(reference, |(name, _)| name)
}

/// A full reference as people write it: `docker.io/library/debian:latest` is `debian`.
fn familiar(reference: &str) -> &str {
    let name = unpinned(reference);
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    let name = name.strip_prefix("library/").unwrap_or(name);
    name.strip_suffix(":latest").unwrap_or(name)
}
