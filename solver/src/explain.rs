//! Why a step was not cached: what each step was made of in the last build, compared with now.
//!
//! A build leaves its [`BuildLog`]; the next build of the same Dockerfile and target reads it. Steps meet their
//! predecessors by stage and place. Where a step's own facts are the same, its inputs are named instead.

use std::collections::{BTreeMap, HashMap};

use forge_parser::ast::MountKind;
use forge_store::ContentId;
use serde::{Deserialize, Serialize};

use crate::graph::{Graph, VertexId};
use crate::op::{CopyOp, CopySource, MountOp, Op, RunOp};

/// How many files or variables one line names; the rest is counted.
const NAMED: usize = 3;

/// One build, as the next one and `forge explain` see it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildLog {
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
    /// What it was made of: names and values.
    pub facts: BTreeMap<String, String>,
    /// Its result was at hand.
    pub cached: bool,
    /// Why it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
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

/// Facts of the vertices of a graph, each under its slot.
pub fn steps(graph: &Graph, contents: impl Fn(VertexId, usize) -> Vec<ContentId>) -> Vec<StepLog> {
    let mut places: HashMap<String, usize> = HashMap::new();
    graph
        .ids()
        .map(|id| {
            let vertex = graph.vertex(id);
            let place = places.entry(vertex.stage.clone()).or_default();
            *place += 1;
            let slot = match &vertex.op {
                Op::Image(image) => format!("image {}", image.reference),
                Op::Http(_) | Op::Git(_) => format!("source {}", vertex.label),
                _ => format!("{}#{place}", vertex.stage),
            };
            let facts = facts(&vertex.op, |input| contents(id, input));
            StepLog { slot, label: vertex.label.clone(), facts, cached: false, reason: None }
        })
        .collect()
}

fn facts(op: &Op, contents: impl Fn(usize) -> Vec<ContentId>) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let mut add = |name: &str, value: String| drop(facts.insert(name.to_owned(), value));
    match op {
        Op::Scratch | Op::Context(_) => {}
        Op::Image(image) => add("digest", image.digest.to_string()),
        Op::Workdir(op) => {
            add("path", op.path.clone());
            add("user", op.user.clone());
        }
        Op::Copy(op) => copy_facts(op, &contents, &mut add),
        Op::Run(op) => run_facts(op, &contents, &mut add),
        Op::Http(op) => {
            add("digest", op.digest.to_string());
            add("name", op.name.clone());
            add("time", op.mtime.to_string());
        }
        Op::Git(op) => {
            add("commit", op.commit.clone());
            add("directory", op.reference.subdir.clone());
        }
    }
    facts
}

fn copy_facts(op: &CopyOp, contents: &impl Fn(usize) -> Vec<ContentId>, add: &mut impl FnMut(&str, String)) {
    add("destination", op.dest.clone());
    add("--chown", op.chown.clone().unwrap_or_default());
    add("--chmod", op.chmod.clone().unwrap_or_default());
    let words = op.sources.iter().map(|source| match source {
        CopySource::Files { selection, .. } => selection.pattern.clone(),
        CopySource::Inline { name, content } => {
            format!("<<{name} {}", blake3::hash(content.as_bytes()).to_hex())
        }
    });
    add("sources", words.collect::<Vec<_>>().join(" "));
    for (at, content) in contents(1).iter().enumerate() {
        add(&format!("content {at}"), content.hex());
    }
}

fn run_facts(op: &RunOp, contents: &impl Fn(usize) -> Vec<ContentId>, add: &mut impl FnMut(&str, String)) {
    add("command", op.args.join(" "));
    add("directory", op.cwd.clone());
    add("user", op.user.clone());
    add("network", format!("{:?}", op.network).to_lowercase());
    add("security", format!("{:?}", op.security).to_lowercase());
    add("platform", op.platform.to_string());
    for ulimit in &op.ulimits {
        let shown =
            |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
        let value = format!("{}:{}", shown(ulimit.soft), shown(ulimit.hard));
        add(&format!("ulimit {}", ulimit.name), value);
    }
    if let Some(bytes) = op.shm_size {
        add("shm size", bytes.to_string());
    }
    for device in &op.devices {
        add("device", device.name.clone());
    }
    if let Some((name, content)) = &op.script {
        add("script", format!("{name} {}", blake3::hash(content.as_bytes()).to_hex()));
    }
    for (name, value) in &op.env {
        // A value that may be secret is known by its hash alone.
        let shown = match forge_parser::check::looks_like_secret(name) {
            true => format!("({})", &blake3::hash(value.as_bytes()).to_hex()[..8]),
            false => value.clone(),
        };
        add(
            &format!("{} {name}", if op.declared_args.contains(name) { "build-arg" } else { "variable" }),
            shown,
        );
    }
    for (at, mount) in op.mounts.iter().enumerate() {
        add(&format!("mount {at}"), mount_fact(mount));
        if let Some(input) = mount.input {
            for (nth, content) in contents(input).iter().enumerate() {
                add(&format!("content of mount {at}.{nth}"), content.hex());
            }
        }
    }
}

fn mount_fact(mount: &MountOp) -> String {
    let kind = match mount.kind {
        MountKind::Bind => "bind",
        MountKind::Cache => "cache",
        MountKind::Tmpfs => "tmpfs",
        MountKind::Secret => "secret",
        MountKind::Ssh => "ssh",
    };
    format!("{kind} {} {} {}", mount.target, mount.id, mount.selection.pattern)
}

/// Compares the steps of this build with those of the last one.
pub struct Explainer<'a> {
    last: HashMap<&'a str, &'a StepLog>,
    listing: &'a (dyn Fn(&str) -> Option<Listing> + Sync),
}

impl<'a> Explainer<'a> {
    /// `listing` finds the files of a content id (in hex), where they were kept.
    pub fn new(last: &'a BuildLog, listing: &'a (dyn Fn(&str) -> Option<Listing> + Sync)) -> Self {
        Self { last: last.steps.iter().map(|step| (step.slot.as_str(), step)).collect(), listing }
    }

    /// Why a step is not cached; `None` if the last build did not have it, or it was made of just the same.
    pub fn reason(&self, now: &StepLog) -> Option<String> {
        let before = self.last.get(now.slot.as_str())?;
        let mut changes = Vec::new();
        let names: std::collections::BTreeSet<&String> =
            before.facts.keys().chain(now.facts.keys()).collect();
        for name in names {
            let (old, new) = (before.facts.get(name), now.facts.get(name));
            if old != new {
                changes.push(self.change(name, old.map(String::as_str), new.map(String::as_str)));
            }
        }
        (!changes.is_empty()).then(|| summary(&changes, "change"))
    }

    fn change(&self, name: &str, old: Option<&str>, new: Option<&str>) -> String {
        match (name, old, new) {
            ("digest", Some(old), Some(new)) => format!("tag moved {} → {}", short(old), short(new)),
            ("command" | "sources" | "script", Some(_), Some(_)) => format!("{name} changed"),
            (content, Some(old), Some(new)) if content.starts_with("content") => self.files(old, new),
            (_, Some(old), Some(new)) => format!("{name} {}→{}", shown(old), shown(new)),
            (_, None, Some(new)) => format!("{name} is new ({})", shown(new)),
            (_, Some(_), None) => format!("{name} is gone"),
            (_, None, None) => String::new(),
        }
    }

    fn files(&self, old: &str, new: &str) -> String {
        match ((self.listing)(old), (self.listing)(new)) {
            (Some(old), Some(new)) => changed_files(&old, &new),
            _ => "files changed".into(),
        }
    }
}

/// `3 files changed: a (content), b (mode 644→755), +1 new`.
pub fn changed_files(old: &Listing, new: &Listing) -> String {
    let mut changed = Vec::new();
    let mut added = 0;
    for (path, now) in new {
        match old.get(path) {
            None => added += 1,
            Some(before) if before.content != now.content => changed.push(format!("{path} (content)")),
            Some(before) if before.mode != now.mode => {
                changed.push(format!("{path} (mode {:o}→{:o})", before.mode, now.mode));
            }
            Some(_) => {}
        }
    }
    let gone = old.keys().filter(|path| !new.contains_key(*path)).count();
    let total = changed.len() + added + gone;
    let noun = if total == 1 { "file" } else { "files" };
    let mut parts: Vec<String> = changed.iter().take(NAMED).cloned().collect();
    if changed.len() > NAMED {
        parts.push(format!("+{} more", changed.len() - NAMED));
    }
    if added > 0 {
        parts.push(format!("+{added} new"));
    }
    if gone > 0 {
        parts.push(format!("-{gone} gone"));
    }
    format!("{total} {noun} changed: {}", parts.join(", "))
}

fn summary(changes: &[String], noun: &str) -> String {
    let named = changes.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
    match changes.len().saturating_sub(NAMED) {
        0 => named,
        1 => format!("{named}; and one more {noun}"),
        more => format!("{named}; and {more} more {noun}s"),
    }
}

/// A value, cut to what a line can take.
fn shown(value: &str) -> String {
    match value.char_indices().nth(40) {
        Some((at, _)) => format!("{:?}…", &value[..at]),
        None if value.is_empty() => "\"\"".into(),
        None => value.to_owned(),
    }
}

fn short(digest: &str) -> &str {
    digest.get(..19).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(mode: u32, content: &str) -> FileFact {
        FileFact { mode, content: content.into() }
    }

    #[test]
    fn changed_files_are_named_and_counted() {
        let old = Listing::from([
            ("src/a.rs".to_owned(), file(0o644, "1")),
            ("run.sh".to_owned(), file(0o644, "2")),
            ("same".to_owned(), file(0o644, "3")),
        ]);
        let mut new = old.clone();
        new.insert("src/a.rs".into(), file(0o644, "9"));
        new.insert("run.sh".into(), file(0o755, "2"));
        new.insert("more".into(), file(0o644, "4"));
        assert_eq!(
            changed_files(&old, &new),
            "3 files changed: run.sh (mode 644→755), src/a.rs (content), +1 new"
        );
    }

    #[test]
    fn a_reason_names_what_differs() {
        let step = |facts: &[(&str, &str)]| StepLog {
            slot: "s#1".into(),
            facts: facts.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..StepLog::default()
        };
        let last = BuildLog { steps: vec![step(&[("command", "make"), ("build-arg VERSION", "1.0")])] };
        let listing = |_: &str| None;
        let explainer = Explainer::new(&last, &listing);
        let reason = |facts: &[(&str, &str)]| explainer.reason(&step(facts));
        assert_eq!(
            reason(&[("command", "make"), ("build-arg VERSION", "1.1")]).as_deref(),
            Some("build-arg VERSION 1.0→1.1")
        );
        assert_eq!(
            reason(&[("command", "cc"), ("build-arg VERSION", "1.0")]).as_deref(),
            Some("command changed")
        );
        assert_eq!(reason(&[("command", "make"), ("build-arg VERSION", "1.0")]), None);
    }
}
