//! What is wrong with a build before anything ran: all of it at once, each with its place.

use forge_parser::{Problem, Span};

use crate::world::{TroubleKind, WorldError};

/// One thing that keeps a Dockerfile from being built.
#[derive(Debug)]
pub struct PlanProblem {
    /// The sort of trouble.
    pub kind: TroubleKind,
    /// What is wrong.
    pub message: String,
    /// Where.
    pub span: Option<Span>,
    /// The user's next step.
    pub hint: Option<String>,
}

impl PlanProblem {
    /// A problem of the Dockerfile at `span`.
    pub fn input(message: impl Into<String>, span: Span) -> Self {
        Self { kind: TroubleKind::Input, message: message.into(), span: Some(span), hint: None }
    }

    /// The same with a next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Trouble of the world that an instruction met.
    pub fn world(error: WorldError, span: Option<Span>) -> Self {
        Self { kind: error.kind, message: error.message, span, hint: error.hint }
    }
}

impl PlanProblem {
    /// No problem of its own: an image that nobody asked for, since something else is wrong already.
    pub(super) fn not_asked() -> Self {
        Self { kind: TroubleKind::Cancelled, message: String::new(), span: None, hint: None }
    }

    pub(super) fn is_not_asked(&self) -> bool {
        self.kind == TroubleKind::Cancelled && self.message.is_empty()
    }
}

impl From<Problem> for PlanProblem {
    fn from(problem: Problem) -> Self {
        let Problem { message, span, hint } = problem;
        Self { kind: TroubleKind::Input, message, span: Some(span), hint }
    }
}
