//! A RUN that failed, for whoever wants to look at it while its files are still there.

use std::sync::Arc;

use forge_solver::WorldError;
use forge_solver::op::RunOp;

use super::{Steps, Task};
use crate::sandbox::spec::Rootfs;
use crate::zygote::Running;
use crate::{Exit, trouble};

/// Told of a RUN that failed, while its files are still there.
pub trait OnFailure: Send + Sync {
    /// Told; the build goes on, and ends, when this returns.
    fn failed(&self, step: &FailedStep<'_>);
}

/// A RUN that failed, with what it has written.
pub struct FailedStep<'a> {
    pub(super) steps: &'a Steps<'a>,
    pub(super) task: &'a Task<'a>,
    pub(super) rootfs: &'a Rootfs,
    /// Why.
    pub error: &'a WorldError,
}

impl FailedStep<'_> {
    /// Its name.
    #[must_use]
    pub fn label(&self) -> &str {
        self.task.job.label
    }

    /// Opens a shell in it, on our own terminal.
    pub fn shell(&self, started: &dyn Fn(Arc<Running>)) -> Result<Exit, WorldError> {
        let program = shell_of(self.task.op);
        let ended = self.steps.converse(self.task, self.rootfs, &program, started)?;
        ended.map_err(|failure| trouble::of_start(&failure))
    }
}

/// A shell for looking around in a step: the one that it uses itself, or `/bin/sh`.
#[must_use]
pub fn shell_of(op: &RunOp) -> Vec<String> {
    const SHELLS: [&str; 7] = ["sh", "ash", "bash", "dash", "fish", "ksh", "zsh"];
    let own =
        op.args.first().filter(|program| SHELLS.contains(&program.rsplit('/').next().unwrap_or(program)));
    vec![own.map_or("/bin/sh", String::as_str).to_owned()]
}
