//! `--name[=value]`: which flags an instruction has, and of what type each is.

use crate::context::{Context, brief};
use crate::grammar::RawFlag;
use crate::problem::Problem;
use crate::span::{Span, Spanned};
use crate::suggest;

/// How often a flag may be given, and with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// `--link`, `--link=true|false`; once.
    Boolean,
    /// `--from=x`; once.
    Text,
    /// `--mount=x`; any number.
    List,
}

/// A flag that an instruction knows.
pub(crate) type Known = (&'static str, Type);

/// The flags of one instruction, checked.
pub(crate) struct Flags {
    given: Vec<Given>,
}

struct Given {
    name: &'static str,
    value: Option<String>,
    /// The value's place; behind the flag where it has none.
    span: Span,
}

impl Flags {
    /// Checks flags against those that the instruction knows; what is wrong is reported and left out.
    pub(crate) fn read(raw: Vec<RawFlag>, known: &[Known], context: &mut Context<'_>) -> Self {
        let mut flags = Self { given: Vec::new() };
        for flag in raw {
            match flags.check(&flag, known, context.name) {
                Ok((name, _)) => {
                    let span = context.span(flag.value_range);
                    flags.given.push(Given { name, value: flag.value, span });
                }
                Err((message, hint)) => {
                    context.report(Problem::new(message, context.span(flag.range)).with_hint(hint));
                }
            }
        }
        flags
    }

    /// A flag with one value.
    pub(crate) fn text(&self, name: &str) -> Option<Spanned<String>> {
        self.list(name).next()
    }

    /// All values of a flag, in order.
    pub(crate) fn list(&self, name: &str) -> impl Iterator<Item = Spanned<String>> {
        let of_name = self.given.iter().filter(move |given| given.name == name);
        of_name.map(|given| Spanned::new(given.value.clone().unwrap_or_default(), given.span))
    }

    /// A flag that says yes or no; None where it was not given.
    pub(crate) fn boolean(&self, name: &str) -> Option<bool> {
        let given = self.given.iter().find(|given| given.name == name)?;
        Some(!given.value.as_deref().is_some_and(|value| value.eq_ignore_ascii_case("false")))
    }

    fn check(&self, flag: &RawFlag, known: &[Known], instruction: &str) -> Result<Known, (String, String)> {
        let name = brief(&flag.name);
        let Some(found) = known.iter().find(|(known, _)| *known == flag.name) else {
            let names = known.iter().map(|(name, _)| *name);
            let near = suggest::suffix(&flag.name, names.clone());
            return Err((format!("unknown flag: --{name}{near}"), offer(instruction, names)));
        };
        let once = found.1 != Type::List;
        if once && self.given.iter().any(|given| given.name == found.0) {
            return Err((format!("duplicate flag specified: {name}"), format!("give --{name} once")));
        }
        let missing = |example: &str| {
            Err((format!("missing a value on flag: {name}"), format!("write --{name}={example}")))
        };
        match (found.1, flag.value.as_deref()) {
            (Type::Boolean, None) => Ok(*found),
            (Type::Boolean, Some("")) => missing("true"),
            (Type::Boolean, Some(value)) => {
                if value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false") {
                    Ok(*found)
                } else {
                    let value = brief(value);
                    let message = format!("expecting boolean value for flag {name}, not: {value}");
                    Err((message, "write true or false".to_owned()))
                }
            }
            (_, None) => missing("…"),
            (_, Some(_)) => Ok(*found),
        }
    }
}

fn offer<'a>(instruction: &str, names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| format!("--{name}")).collect();
    match names.as_slice() {
        [] => format!("{instruction} has no flags; write -- before words that begin with two dashes"),
        names => format!("{instruction} has {}", names.join(", ")),
    }
}
