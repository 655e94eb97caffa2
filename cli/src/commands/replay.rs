//! `forge replay`: a step of an earlier build again, on the files that it stood on; what it writes is thrown away.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;

use forge_runner::files::LocalContext;
use forge_runner::step::{Settings, Steps, Task, shell_of};
use forge_solver::event::{Event, Events};
use forge_solver::op::{Op, RunOp};
use forge_solver::{Job, StepId, TroubleKind};
use forge_store::{Snapshot, Store};

use super::logs::{name_of, no_such_build};
use super::{Session, run};
use crate::args::Replay;
use crate::failure::{Failure, Kind};
use crate::kept::{Kept, KeptBuilds, KeptInput, KeptStep};
use crate::progress::{for_terminal, say};
use crate::{environment, ignore_files, secrets, signals};

/// Repeats one step, or opens a shell in its place.
pub fn replay(session: &Session, args: &Replay) -> Result<(), Failure> {
    let (build, step) = words(&args.words);
    let store = session.store_for_steps()?;
    let (kept, _) =
        KeptBuilds::of(&store).find(name_of(build)?.as_deref()).ok_or_else(|| no_such_build(build))?;
    let step = kept.step(step).map_err(|message| {
        let hint =
            "name one by a part of its name, such as `builder 2/4`; a build that failed earlier has none";
        Failure::new(Kind::NotFound, message, Some(hint.into()))
    })?;
    let op = with_values(step, &args.build_args);
    let contexts = open_contexts(&kept, step, &store)?;
    let settings = Settings {
        runtime_dir: session.runtime_dir(),
        isolation: session.identity.isolation.clone(),
        hardened: args.isolation.hardened,
        search_path: environment::search_path().to_string_lossy().into_owned(),
        secrets: secrets::read(&args.secrets, &args.ssh)?,
        bounds: args.step.bounds()?,
        on_failure: None,
    };
    let (inputs, names) = split(&step.inputs);
    let below = inputs.first().and_then(Option::as_ref).cloned().unwrap_or_default();
    let whole = Op::Run(Box::new(op.clone()));
    let job = Job {
        op: &whole,
        inputs: &inputs,
        contexts: &names,
        step: StepId::Internal(0),
        label: &step.label,
        is_read: false,
        events: &Through,
    };
    let draft = store.draft()?;
    let steps = Steps::new(&store, settings);
    let task = Task { op: &op, job: &job, below: &below, draft: &draft, contexts: &contexts };
    say(&for_terminal(&step.label));
    if args.shell {
        return run::end_of(steps.enter(&task, &shell_of(&op), &run::pass_size_and_signals).map_err(pruned)?);
    }
    let ended = signals::cancelling(&|| steps.cancel(), |_| steps.run(&task));
    match (ended, signals::received()) {
        (Err(_), Some(signal)) => {
            Err(Failure { kind: Kind::Signal(signal), reports: vec!["error: stopped by the user".into()] })
        }
        (ended, _) => ended.map_err(pruned),
    }
}

/// `[last|NAME] [STEP]`: one word alone is a step, unless it is `last`.
fn words(words: &[String]) -> (&str, Option<&str>) {
    match words {
        [] => ("last", None),
        [one] if one == "last" => ("last", None),
        [step] => ("last", Some(step)),
        [build, step, ..] => (build, Some(step)),
    }
}

/// The step with the values that were not kept: from `--build-arg`, or from the environment.
fn with_values(step: &KeptStep, given: &[String]) -> RunOp {
    let mut op = step.op.clone();
    let value = |name: &str| {
        let written =
            given.iter().find_map(|text| text.strip_prefix(name)?.strip_prefix('=').map(str::to_owned));
        written.or_else(|| environment::variable(name))
    };
    for (name, old) in op.env.iter_mut().chain(&mut op.proxy_env) {
        if !step.withheld.contains(name) {
            continue;
        }
        match value(name) {
            Some(value) => *old = value,
            None => say(&format!(
                "warning: the value of {name} was not kept: give it with --build-arg {name}=VALUE"
            )),
        }
    }
    op.proxy_env.retain(|(_, value)| !value.is_empty());
    op
}

fn open_contexts(
    kept: &Kept,
    step: &KeptStep,
    store: &Store,
) -> Result<HashMap<String, Arc<LocalContext>>, Failure> {
    let mut contexts = HashMap::new();
    for input in &step.inputs {
        let KeptInput::Context(name) = input else { continue };
        let context = kept.contexts.get(name).ok_or_else(|| {
            let message = "the step mounts the build context, which came by standard input and was not kept";
            Failure::new(Kind::NotFound, message, Some("build from a directory".into()))
        })?;
        let ignore = ignore_files::of_kept(&context.dir, context.dockerfile.as_deref())?;
        let opened = LocalContext::open(&context.dir, ignore, &store.state_dir());
        let opened = opened.map_err(|e| Failure::from(forge_runner::trouble::of_files(e)))?;
        contexts.insert(name.clone(), Arc::new(opened));
    }
    Ok(contexts)
}

/// Inputs as the solver hands them out.
fn split(inputs: &[KeptInput]) -> (Vec<Option<Snapshot>>, Vec<Option<String>>) {
    let parts = inputs.iter().map(|input| match input {
        KeptInput::Files(snapshot) => (Some(snapshot.clone()), None),
        KeptInput::Context(name) => (None, Some(name.clone())),
    });
    parts.unzip()
}

fn pruned(error: forge_solver::WorldError) -> Failure {
    if error.kind == TroubleKind::NotFound {
        let hint = "the files that the step stood on are gone: build again";
        return Failure::new(Kind::NotFound, error.message, Some(hint.into()));
    }
    error.into()
}

/// Output goes straight through; nothing else is shown.
struct Through;

impl Events for Through {
    fn emit(&self, event: Event) {
        match event {
            Event::Output { bytes, .. } => {
                // Whoever read our output went away; the step may still be worth its exit code.
                let mut out = io::stdout().lock();
                let _ = out.write_all(&bytes).and_then(|()| out.flush());
            }
            Event::Note { text, .. } => say(&for_terminal(&text)),
            _ => {}
        }
    }
}
