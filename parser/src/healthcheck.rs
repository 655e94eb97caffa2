//! HEALTHCHECK: `NONE`, or `CMD` with its intervals.

use crate::ast::{Command, Healthcheck};
use crate::context::{Context, brief};
use crate::duration::parse_duration;
use crate::flags::{Flags, Known, Type};
use crate::grammar;
use crate::instruction::{command, refuse_empty};
use crate::problem::Problem;

pub(crate) const FLAGS: [Known; 5] = [
    ("interval", Type::Text),
    ("timeout", Type::Text),
    ("start-period", Type::Text),
    ("start-interval", Type::Text),
    ("retries", Type::Text),
];

/// No interval is shorter.
const MIN_INTERVAL_NS: i64 = 1_000_000;

pub(crate) fn healthcheck(text: &str, flags: &Flags, context: &mut Context<'_>) -> Option<Healthcheck> {
    let Some((kind, rest)) = grammar::healthcheck(text) else {
        refuse_empty(context);
        return None;
    };
    let span = context.span(kind.range());
    match kind.text.to_ascii_uppercase().as_str() {
        "NONE" if rest.is_none() => Some(Healthcheck::None),
        "NONE" => {
            let problem = Problem::new("HEALTHCHECK NONE takes no arguments", span);
            context.report(problem.with_hint("remove what follows NONE"));
            None
        }
        "CMD" => {
            let start = rest.as_ref().map_or(text.len(), |rest| rest.start);
            let text = rest.map_or("", |rest| rest.text);
            let command = command(text, &mut context.within(start))?;
            if matches!(&command, Command::Shell(text) if text.is_empty())
                || matches!(&command, Command::Exec(words) if words.is_empty())
            {
                let problem = Problem::new("Missing command after HEALTHCHECK CMD", span);
                context.report(
                    problem.with_hint("write the command that says whether the container is healthy"),
                );
                return None;
            }
            Some(Healthcheck::Cmd {
                command,
                interval_ns: interval("interval", flags, context),
                timeout_ns: interval("timeout", flags, context),
                start_period_ns: interval("start-period", flags, context),
                start_interval_ns: interval("start-interval", flags, context),
                retries: retries(flags, context),
            })
        }
        other => {
            let message = format!("Unknown type {:?} in HEALTHCHECK (try CMD)", brief(other));
            context
                .report(Problem::new(message, span).with_hint("write HEALTHCHECK CMD … or HEALTHCHECK NONE"));
            None
        }
    }
}

fn interval(name: &str, flags: &Flags, context: &mut Context<'_>) -> i64 {
    let Some(given) = flags.text(name).filter(|given| !given.value.is_empty()) else { return 0 };
    let message = match parse_duration(&given.value) {
        Ok(duration) if duration == 0 || duration >= MIN_INTERVAL_NS => return duration,
        Ok(_) => format!("Interval {name:?} cannot be less than 1ms"),
        Err(error) => error.to_string(),
    };
    context.report(Problem::new(message, given.span).with_hint("write 30s or 1m30s, for instance"));
    0
}

fn retries(flags: &Flags, context: &mut Context<'_>) -> i64 {
    let Some(given) = flags.text("retries").filter(|given| !given.value.is_empty()) else { return 0 };
    let message = match given.value.parse::<i32>() {
        Ok(retries) if retries >= 0 => return retries.into(),
        Ok(retries) => format!("--retries cannot be negative ({retries})"),
        Err(_) => format!("--retries is not a number: {}", brief(&given.value)),
    };
    context.report(Problem::new(message, given.span).with_hint("write 3, for instance"));
    0
}
