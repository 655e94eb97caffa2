//! What a build leaves for later: its log, its steps; and the shell that a failed step may open.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use forge_registry::Reference;
use forge_runner::step::{FailedStep, OnFailure};
use forge_runner::terminal;
use forge_solver::{CacheKey, Op, Plan, SolveError, Solved, Solver, VertexId};
use forge_store::{Snapshot, Store};

use super::call::Method;
use super::request::Request;
use super::{Building, tail};
use crate::args::{Build, OnError};
use crate::commands::{Session, run};
use crate::contexts::{CONTEXT, MainContext, NamedSource};
use crate::dockerfile::{Home, LoadedDockerfile};
use crate::failure::{Failure, Kind};
use crate::kept::{Kept, KeptBuilds, KeptContext, Recorder};
use crate::progress::{Display, say};

/// Begins the log of a build; none where nothing is built, or nothing can be written.
pub fn begin(args: &Build, request: &Request, store: &Store, display: &Display) -> Option<Recorder> {
    if args.print.is_some() || request.call.method != Method::Build {
        return None;
    }
    let (recorder, log) = KeptBuilds::of(store).begin().ok()?;
    display.keep(log);
    Some(recorder)
}

/// Ends the log of a build that failed, and says how to get a shell if one was wanted and could not be opened.
pub fn last_words(recorder: Option<&Recorder>, session: &Session, args: &Build, failure: &mut Failure) {
    let Some(recorder) = recorder else { return };
    recorder.say(&failure.reports);
    if args.on_error == OnError::Shell && failure.kind == Kind::Command && !terminal::is_interactive() {
        let root = session.root.iter().flat_map(|root| ["--root".to_owned(), root.display().to_string()]);
        let words = ["forge".to_owned()].into_iter().chain(root);
        let words = words.chain(["replay".into(), "--shell".into()]).chain(flags(args));
        let command: Vec<String> = words.map(|word| quoted(&word)).collect();
        failure.reports.push(format!("a shell in the failed step: {}", command.join(" ")));
    }
}

/// The flags without which the steps could not be repeated.
fn flags(args: &Build) -> Vec<String> {
    let secrets = args.secrets.iter().map(|text| format!("--secret={text}"));
    secrets.chain(args.ssh.iter().map(|text| format!("--ssh={text}"))).collect()
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=:,@+%".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

impl Building<'_> {
    /// Keeps what the steps stand on, so far as it is there.
    pub fn keep(
        &self,
        context: &MainContext,
        loaded: &LoadedDockerfile,
        plans: &[Plan],
        solver: &Solver<'_>,
        solved: &Result<Solved, SolveError>,
    ) {
        let Some(recorder) = self.recorder else { return };
        let mut kept = Kept {
            names: self.request.names.iter().map(Reference::canonical).collect(),
            flags: flags(self.args),
            ..Kept::default()
        };
        if !context.is_transient() {
            let dir = context.dir.canonicalize().unwrap_or_else(|_| context.dir.clone());
            let dockerfile = match &loaded.home {
                Home::Host(path) => path.canonicalize().ok(),
                Home::Inside(_) | Home::Nowhere => None,
            };
            kept.contexts.insert(CONTEXT.to_owned(), KeptContext { dir, dockerfile });
        }
        for (name, source) in &self.request.contexts {
            if let NamedSource::Directory(dir) = source
                && let Ok(dir) = dir.canonicalize()
            {
                kept.contexts.insert(name.to_string(), KeptContext { dir, dockerfile: None });
            }
        }
        match solved {
            Ok(solved) => {
                kept.add_plans(plans, None, &|id| solved.record(id).map(|record| record.snapshot.clone()));
            }
            Err(error) => {
                let keys = keys(plans, solver);
                // All plans have the same graph.
                kept.add_plans(plans, error.vertex, &|id| recorded(&plans[0], solver, &keys, id));
            }
        }
        recorder.keep(&kept);
    }
}

/// The keys of all vertices; none if they cannot be had any more.
fn keys(plans: &[Plan], solver: &Solver<'_>) -> HashMap<VertexId, CacheKey> {
    let targets: Vec<VertexId> = plans.iter().map(|plan| plan.target).collect();
    let inspected = solver.inspect(&plans[0].graph, &targets).unwrap_or_default();
    inspected.into_iter().map(|vertex| (vertex.id, vertex.key)).collect()
}

/// What a vertex gave before the build failed.
fn recorded(
    plan: &Plan,
    solver: &Solver<'_>,
    keys: &HashMap<VertexId, CacheKey>,
    id: VertexId,
) -> Option<Snapshot> {
    match &plan.graph.vertex(id).op {
        Op::Scratch => Some(Snapshot::default()),
        Op::Image(image) => Some(image.snapshot.clone()),
        _ => solver.records.get(keys.get(&id)?).ok().flatten().map(|record| record.snapshot),
    }
}

/// `--on-error=shell` on a terminal.
pub fn on_failure(args: &Build, display: &Arc<Display>) -> Option<Box<dyn OnFailure>> {
    let wanted = args.on_error == OnError::Shell && terminal::is_interactive();
    wanted.then(|| {
        Box::new(OpenShell { display: display.clone(), opened: AtomicBool::new(false) }) as Box<dyn OnFailure>
    })
}

/// Opens a shell in the first step that fails.
struct OpenShell {
    display: Arc<Display>,
    opened: AtomicBool,
}

impl OnFailure for OpenShell {
    fn failed(&self, step: &FailedStep<'_>) {
        if self.opened.swap(true, Ordering::SeqCst) {
            return;
        }
        self.display.leave_screen();
        say(tail(step.label(), &step.error.output).trim_end());
        say(&format!("error: {}", step.error.message));
        say("a shell in the failed step, with what it has written; `exit` ends the build");
        if let Err(error) = step.shell(&run::pass_size) {
            say(&format!("error: cannot open a shell in the step: {}", error.message));
        }
    }
}
