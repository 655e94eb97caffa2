//! `forge explain`: why the steps of a build ran.

use forge_solver::explain::StepLog;

use super::{Session, print};
use crate::args::Explain;
use crate::failure::{Failure, Kind};
use crate::history::{History, KeptBuild};
use crate::registries::parse_reference;

/// Explains the last build, or the last one of a name.
pub fn explain(session: &Session, args: &Explain) -> Result<(), Failure> {
    let store = session.store()?;
    let builds = History::of(&store).builds();
    let wanted = match args.image.as_str() {
        "last" => builds.into_iter().next(),
        name => {
            let name = parse_reference(name)?.canonical();
            builds.into_iter().find(|build| build.names.contains(&name))
        }
    };
    let build = wanted.ok_or_else(|| {
        let hint = Some("`forge explain last` explains the newest one".to_owned());
        Failure::new(Kind::NotFound, format!("no build of {} is remembered", args.image), hint)
    })?;
    if args.json {
        let json = serde_json::to_string_pretty(&build).unwrap_or_default();
        return print(&json);
    }
    lines(&build).iter().try_for_each(|line| print(line))
}

fn lines(build: &KeptBuild) -> Vec<String> {
    let mut lines = vec![format!("{} (target {})", build.dockerfile, build.target)];
    for step in build.log.steps.iter().filter(|step| step.label.starts_with('[') || step.is_source()) {
        lines.push(line(step));
    }
    lines
}

fn line(step: &StepLog) -> String {
    let how = match step {
        step if step.is_image() => "BASE   ",
        step if step.ran => "RAN    ",
        step if step.cached => "CACHED ",
        _ => "UNUSED ",
    };
    match (&step.reason, step.ran) {
        (Some(reason), _) if step.ran || step.is_image() => format!("{how} {}\n        {reason}", step.label),
        (None, true) if !step.is_image() => {
            format!("{how} {}\n        nothing like it was built before", step.label)
        }
        _ => format!("{how} {}", step.label),
    }
}
