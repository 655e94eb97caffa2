//! Instructions and options in, a DAG of content-addressed vertices out, solved with the least work.
//!
//! The solver knows nothing of Linux, the network or the terminal: it reaches them through the traits of
//! [`world`].

pub mod event;
pub mod explain;
pub mod graph;
pub mod key;
pub mod limits;
pub mod lock;
pub mod matching;
pub mod op;
pub mod plan;
pub mod print;
pub mod record;
pub mod solve;
pub mod world;

pub use forge_parser::did_you_mean;

pub use event::{Event, Events, StepId};
pub use graph::{Graph, Vertex, VertexId};
pub use key::{CacheKey, InputKey};
pub use lock::Lock;
pub use op::Op;
pub use plan::{Plan, PlanOptions, PlanProblem, plan, plan_platforms};
pub use record::Record;
pub use solve::{Jobs, SolveError, Solved, Solver};
pub use world::{Dated, Executor, Job, Named, Outlook, Records, Results, TroubleKind, World, WorldError};
