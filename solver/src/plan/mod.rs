//! From a Dockerfile to a closed graph: stages become chains of vertices, variables are expanded, unreachable
//! stages fall away, bases are resolved. What can be known to be wrong without running anything is said here.

mod copy;
mod error;
pub mod history;
mod lower;
mod options;
mod path;
mod ports;
mod run;
mod scope;
mod signal;
mod stage;
mod stages;

pub use error::PlanProblem;
pub use options::{PROXY_ARGS, PlanOptions};
pub use scope::Env;
pub use stage::{DEFAULT_PATH, HistoryLine, StageState};

use forge_parser::ast::Dockerfile;
use forge_parser::check::Warning;

use crate::world::World;
use crate::{Graph, VertexId};

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
    /// What the build checks found while expanding.
    pub warnings: Vec<Warning>,
}

/// Plans a build.
///
/// # Errors
/// Every problem that can be seen without running anything, each with its place.
pub fn plan(
    dockerfile: &Dockerfile,
    options: &PlanOptions,
    world: &dyn World,
) -> Result<Plan, Vec<PlanProblem>> {
    stages::Planner::new(dockerfile, options, world)?.plan()
}
