//! `# check=skip=…;error=…;experimental=…`: which checks somebody wants, for the file and for single lines.

use super::Rule;
use crate::problem::{Problem, Problems};
use crate::span::{Span, Spanned};
use std::collections::BTreeSet;

/// What is wrong with check options.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// A key that there is not, or no `key=value`.
    #[error("invalid check option {0:?}")]
    Option(String),
    /// `error=` with something that is no boolean.
    #[error("failed to parse check option {0:?}")]
    Value(String),
}

/// One set of options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckOptions {
    /// `skip=`.
    pub skip: Selection,
    /// `experimental=`.
    pub experimental: Selection,
    /// `error=`: warnings fail the build.
    pub error: bool,
}

/// Names of rules, or all of them. Names that no rule bears are kept: they may be those of a later version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    all: bool,
    names: BTreeSet<String>,
}

impl Selection {
    fn parse(text: &str) -> Self {
        if text == "all" {
            return Self { all: true, names: BTreeSet::new() };
        }
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned);
        Self { all: false, names: names.collect() }
    }

    /// Whether `rule` is one of them.
    pub fn contains(&self, rule: Rule) -> bool {
        self.all || self.names.contains(rule.name())
    }

    fn merge(&mut self, other: Self) {
        self.all |= other.all;
        self.names.extend(other.names);
    }
}

impl CheckOptions {
    /// Reads the text behind `check=`.
    pub fn parse(text: &str) -> Result<Self, CheckError> {
        let mut options = Self::default();
        for option in text.split(';').map(str::trim).filter(|option| !option.is_empty()) {
            let Some((key, value)) = option.split_once('=') else {
                return Err(CheckError::Option(option.to_owned()));
            };
            let (key, value) = (key.trim(), value.trim());
            match key.to_ascii_lowercase().as_str() {
                "skip" => options.skip = Selection::parse(value),
                "experimental" => options.experimental = Selection::parse(value),
                "error" => {
                    options.error = match value {
                        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
                        _ => return Err(CheckError::Value(option.to_owned())),
                    }
                }
                _ => return Err(CheckError::Option(key.to_owned())),
            }
        }
        Ok(options)
    }

    fn allow(&self, rule: Rule) -> bool {
        if rule.is_experimental() { self.experimental.contains(rule) } else { !self.skip.contains(rule) }
    }

    fn merge(&mut self, other: Self) {
        self.skip.merge(other.skip);
        self.experimental.merge(other.experimental);
        self.error |= other.error;
    }
}

/// The options of a file and of the instructions that have a comment with their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckConfig {
    options: CheckOptions,
    /// In the order of the text.
    instructions: Vec<(Span, CheckOptions)>,
}

impl CheckConfig {
    /// Options for all of a file.
    pub fn new(options: CheckOptions) -> Self {
        Self { options, instructions: Vec::new() }
    }

    /// The options of the directive and of the comments above instructions.
    pub(crate) fn of_file(
        directive: Option<&Spanned<String>>,
        comments: &[(Vec<Spanned<String>>, Span)],
        problems: &mut Problems,
    ) -> Self {
        let mut config =
            Self::new(directive.map(|text| read(&text.value, text.span, problems)).unwrap_or_default());
        for (above, instruction) in comments {
            let mut own: Option<CheckOptions> = None;
            for comment in above {
                let Some(text) = comment_option(&comment.value) else { continue };
                let options = read(text, comment.span, problems);
                own.get_or_insert_with(|| config.options.clone()).merge(options);
            }
            config.instructions.extend(own.map(|own| (*instruction, own)));
        }
        config
    }

    /// Whether what `rule` has to say of a place is wanted.
    pub fn allows(&self, rule: Rule, place: Span) -> bool {
        self.at(place).allow(rule)
    }

    /// Whether warnings at a place fail the build.
    pub fn is_error(&self, place: Span) -> bool {
        self.at(place).error
    }

    /// Whether an experimental rule is asked for anywhere.
    pub(crate) fn wants_experimental(&self, rule: Rule) -> bool {
        self.options.allow(rule) || self.instructions.iter().any(|(_, own)| own.allow(rule))
    }

    fn at(&self, place: Span) -> &CheckOptions {
        let before = self.instructions.partition_point(|(span, _)| span.start <= place.start);
        match before.checked_sub(1).and_then(|nth| self.instructions.get(nth)) {
            Some((span, own)) if place.start < span.end => own,
            _ => &self.options,
        }
    }
}

fn read(text: &str, span: Span, problems: &mut Problems) -> CheckOptions {
    CheckOptions::parse(text).unwrap_or_else(|error| {
        let hint = "write skip=Rule,Rule or skip=all, error=true, experimental=Rule, with semicolons between";
        problems.push(Problem::new(error.to_string(), span).with_hint(hint));
        CheckOptions::default()
    })
}

/// What stands behind `check=` in a comment.
pub(crate) fn comment_option(comment: &str) -> Option<&str> {
    let (key, value) = comment.split_once('=')?;
    (key.trim().eq_ignore_ascii_case("check") && !value.trim().is_empty()).then_some(value.trim())
}
