//! Dockerfile text in, typed instructions with source spans out.
//!
//! ```text
//! bytes ─ directives ─ lines ─▶ logical lines ─ grammar (dockerfile.pest) ─▶ parts ─ instruction, run, copy … ─▶ ast
//!                      (joined, heredoc bodies aside)                                                   │
//!                                                                                              check, outline
//! ```
//!
//! Beside it stand the two other languages of a build: [`Expander`] for words with variables, [`IgnorePatterns`] for
//! `.dockerignore`. This room knows no files, no network and no environment; it neither prints nor fails but by what
//! it returns, and its bounds are in [`limits`].

pub mod ast;
pub mod check;
mod chmod;
mod context;
mod copy;
mod directives;
mod dump;
mod duration;
pub mod expand;
mod flags;
mod git_reference;
pub mod glob;
mod grammar;
mod healthcheck;
mod heredoc;
pub mod ignore;
mod instruction;
mod json;
pub mod limits;
mod line_index;
mod lines;
pub mod mount;
pub mod outline;
mod parse;
pub mod platform_args;
mod problem;
mod reference;
mod remote;
mod run;
mod signal;
mod size;
mod source_map;
pub mod span;
mod suggest;

pub use ast::Dockerfile;
pub use check::{CheckConfig, CheckError, CheckOptions, Rule, Warning, violation};
pub use chmod::{Chmod, ChmodError};
pub use directives::{foreign_frontend, is_builtin_frontend};
pub use dump::{dump, dump_instruction};
pub use duration::{DurationError, parse_duration};
pub use expand::{ExpandError, Expanded, Expander, PatternError, Scope};
pub use git_reference::{GitMtime, GitReference, GitReferenceError};
pub use glob::{Glob, GlobError};
pub use ignore::{IgnoreDirectory, IgnoreEntry, IgnoreError, IgnorePatterns};
pub use line_index::LineIndex;
pub use mount::MountError;
pub use outline::{Outline, Target, outline, targets};
pub use parse::{Parsed, parse, parse_trigger, parse_with_checks};
pub use problem::Problem;
pub use remote::{file_name_of_url, is_git_reference, is_url, redacted};
pub use signal::{SignalError, parse_signal};
pub use size::{SizeError, parse_size};
pub use span::{Span, Spanned};
pub use suggest::did_you_mean;
