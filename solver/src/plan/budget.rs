//! What a plan may grow to. A short Dockerfile can ask for a lot: `LABEL a=$A` ten thousand times, a chain of stages
//! each of which takes over all that the one before had.

use forge_parser::Span;

use super::error::PlanProblem;
use super::stage::{HistoryLine, StageState};
use super::stages::Planner;
use crate::limits::{CARRIED_BYTES_MAX, EXPANDED_BYTES_MAX};

/// What was used of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Budget {
    expanded: usize,
    carried: usize,
    /// Nothing more is lowered: one error says it.
    pub(super) is_spent: bool,
}

impl Planner<'_> {
    /// A word has become this long.
    pub(super) fn expands(&mut self, bytes: usize, span: Span) -> Result<(), PlanProblem> {
        self.budget.expanded += bytes;
        let message = "the words of the Dockerfile expand to more than";
        self.within(self.budget.expanded, EXPANDED_BYTES_MAX, message, span)
    }

    /// So much is kept of an instruction.
    pub(super) fn carries(&mut self, bytes: usize, span: Span) -> Result<(), PlanProblem> {
        self.budget.carried += bytes;
        let message = "the steps and stages of the Dockerfile carry along more than";
        self.within(self.budget.carried, CARRIED_BYTES_MAX, message, span)
    }

    fn within(&mut self, used: usize, most: usize, what: &str, span: Span) -> Result<(), PlanProblem> {
        if used <= most {
            return Ok(());
        }
        self.budget.is_spent = true;
        Err(PlanProblem::input(format!("{what} {most} bytes"), span).hint("use fewer or shorter variables"))
    }
}

impl StageState {
    /// What a stage that stands on this one takes over, in bytes.
    pub(super) fn weight(&self) -> usize {
        let env: usize = self.env.0.iter().map(|(name, value)| name.len() + value.len()).sum();
        let args: usize = self
            .build_args
            .iter()
            .map(|(name, value)| name.len() + value.as_ref().map_or(0, String::len))
            .sum();
        let history = self.history.iter().map(|line| match line {
            HistoryLine::Own { created_by, author, .. } => created_by.len() + author.len(),
            HistoryLine::Inherited(history) => history.created_by.as_ref().map_or(0, String::len),
        });
        // Each line and each variable is a value of its own, and variables are there twice.
        let values = self.history.len() + 2 * self.env.0.len();
        2 * env + args + history.sum::<usize>() + values * size_of::<HistoryLine>()
    }
}
