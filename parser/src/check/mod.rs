//! The build checks: what is legal but probably not meant.
//!
//! Parsing does those that need only the text. Those that need variables, images or files are the solver's; it
//! makes its warnings with the constructors of [`Warning`] and asks [`CheckConfig`] whether anybody wants them.

mod config;
mod from;
mod messages;
mod rule;
mod secrets;
mod stage;

pub(crate) use config::comment_option;
pub use config::{CheckConfig, CheckError, CheckOptions};
pub use rule::Rule;
pub use secrets::looks_like_secret;

use crate::ast::Dockerfile;
use crate::parse::Notes;
use crate::span::Span;
use std::fmt;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Which check.
    pub rule: Rule,
    /// What it says.
    pub message: String,
    /// Where.
    pub span: Span,
    /// The user's next step, where the message does not name it.
    pub hint: Option<String>,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.message)
    }
}

/// The message of a build that `error=true` makes fail, if any of the warnings is under such an option.
pub fn violation(warnings: &[Warning], config: &CheckConfig) -> Option<String> {
    let mut names: Vec<&str> = warnings
        .iter()
        .filter(|warning| config.is_error(warning.span))
        .map(|warning| warning.rule.name())
        .collect();
    names.sort_unstable();
    names.dedup();
    (!names.is_empty()).then(|| format!("lint violation found for rules: {}", names.join(", ")))
}

/// The checks that need only the text.
pub(crate) fn check(dockerfile: &Dockerfile, notes: &Notes, config: &CheckConfig) -> Vec<Warning> {
    let mut found: Vec<Warning> =
        notes.empty_continuations.iter().map(|span| Warning::no_empty_continuation(*span)).collect();
    from::check(dockerfile, &mut found);
    stage::check(dockerfile, &mut found);
    if config.wants_experimental(Rule::InvalidDefinitionDescription) {
        stage::check_descriptions(dockerfile, notes, &mut found);
    }
    found.retain(|warning| config.allows(warning.rule, warning.span));
    found.sort_by_key(|warning| (warning.span.start, warning.rule));
    found
}
