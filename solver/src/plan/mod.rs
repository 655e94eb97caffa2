//! From a Dockerfile to a closed graph: stages become chains of vertices, variables are expanded, unreachable
//! stages fall away, bases are resolved. What can be known to be wrong without running anything is said here.

mod base;
mod budget;
mod checks;
mod copy;
mod cycles;
mod early;
mod epoch;
mod error;
pub mod history;
mod lower;
mod options;
mod path;
mod platforms;
mod ports;
mod remote;
mod run;
mod scope;
mod side_by_side;
mod signal;
mod sources;
mod stage;
mod stages;

pub use error::PlanProblem;
pub use options::{PROXY_ARGS, PlanOptions};
pub use platforms::plan_platforms;
pub use scope::Env;
pub use stage::{DEFAULT_PATH, HistoryLine, StageState};

use forge_parser::Parsed;
use forge_parser::check::Warning;
use forge_store::Platform;

use crate::world::World;
use crate::{Graph, TroubleKind, VertexId};

/// What to make, ready to be solved.
#[derive(Debug)]
pub struct Plan {
    /// All vertices that the target needs.
    pub graph: Graph,
    /// The vertex whose files the image has.
    pub target: VertexId,
    /// The target stage at its end: configuration and history.
    pub stage: StageState,
    /// The target stage's name, or its number.
    pub target_name: String,
    /// Every stage that the target needs, itself included, at its end.
    pub stages: Vec<StageEnd>,
    /// What the build checks found that need more than the text, in the order of the text.
    pub warnings: Vec<Warning>,
    /// `--build-arg`s that nothing in the Dockerfile takes.
    pub unused_args: Vec<String>,
    /// Stages that the target does not need.
    pub unneeded: Vec<String>,
    /// `SOURCE_DATE_EPOCH`, in seconds since 1970: no time in the image's configuration is later.
    pub epoch: Option<i64>,
}

/// What a stage comes to: enough to look around in it.
#[derive(Clone, Debug)]
pub struct StageEnd {
    /// Its name, or its number.
    pub name: String,
    /// Its files.
    pub files: VertexId,
    /// The machine that they are for.
    pub platform: Platform,
    /// What its RUNs have in their environment.
    pub env: Vec<(String, String)>,
    /// The working directory.
    pub workdir: String,
    /// `USER` as it stands.
    pub user: String,
}

/// Plans a build.
///
/// # Errors
/// Every problem that can be seen without running anything, each with its place.
pub fn plan(parsed: &Parsed, options: &PlanOptions, world: &dyn World) -> Result<Plan, Vec<PlanProblem>> {
    check_frontend(parsed, options)?;
    stages::Planner::new(parsed, options, world)?.plan()
}

/// Only the frontend that is built in can be asked for, be it by `# syntax=` or by the argument that overrides it.
fn check_frontend(parsed: &Parsed, options: &PlanOptions) -> Result<(), Vec<PlanProblem>> {
    match options.build_args.get("BUILDKIT_SYNTAX") {
        Some(syntax) if forge_parser::is_builtin_frontend(syntax) => Ok(()),
        Some(syntax) => Err(vec![PlanProblem {
            kind: TroubleKind::Input,
            message: format!("the frontend {syntax:?} of --build-arg BUILDKIT_SYNTAX is not supported"),
            span: None,
            hint: Some("only docker/dockerfile is, and it is built in".into()),
        }]),
        None => {
            let foreign = forge_parser::foreign_frontend(&parsed.dockerfile.directives);
            foreign.map_or(Ok(()), |problem| Err(vec![problem.into()]))
        }
    }
}
