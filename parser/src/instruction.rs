//! One instruction: its name decides how the words behind it are read.

use crate::ast::{Arg, Command, Instruction, Kind, Pairs, Words};
use crate::context::{Context, brief};
use crate::flags::Flags;
use crate::grammar::{self, Head, Piece};
use crate::json::{self, Json};
use crate::problem::Problem;
use crate::signal::parse_signal;
use crate::span::{Span, Spanned};
use crate::{copy, healthcheck, run, suggest};

/// All instructions there are.
pub(crate) const NAMES: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Whether heredocs may follow: the instruction is one that takes files, and its arguments are not JSON.
pub(crate) fn takes_heredocs(head: &Head<'_>) -> bool {
    let is = |name: &str| head.name.text.eq_ignore_ascii_case(name);
    if is("ONBUILD") {
        let nested = grammar::instruction(head.arguments.text);
        return nested.is_some_and(|nested| {
            !nested.name.text.eq_ignore_ascii_case("ONBUILD") && takes_heredocs(&nested)
        });
    }
    (is("RUN") || is("COPY") || is("ADD")) && matches!(json::read(head.arguments.text), Json::No)
}

/// About how many words the instruction is going to be split into, for a bound; never too few by much.
pub(crate) fn count_words(head: &Head<'_>) -> usize {
    let text = head.arguments.text;
    let shell =
        ["RUN", "CMD", "ENTRYPOINT", "SHELL", "HEALTHCHECK", "USER", "WORKDIR", "STOPSIGNAL", "MAINTAINER"];
    let whole = shell.iter().any(|name| head.name.text.eq_ignore_ascii_case(name));
    let separators = match (whole, text.contains('[')) {
        (true, false) => 0,
        (true, true) => text.bytes().filter(|byte| *byte == b',').count(),
        (false, _) => text.bytes().filter(|byte| byte.is_ascii_whitespace() || *byte == b',').count(),
    };
    head.flags.len() + separators
}

/// Everything but FROM. `bodies` is the heredocs' text as it stands in the file, for a trigger; `end` is where
/// the whole instruction ends.
pub(crate) fn build(
    head: Head<'_>,
    source: &str,
    bodies: &str,
    end: usize,
    context: &mut Context<'_>,
) -> Option<Instruction> {
    let name = head.name.text.to_ascii_uppercase();
    let range = head.name.range();
    let mut context = context.instruction(&name, range.clone());
    let span = Span::new(context.name_span.start, end.max(context.name_span.end));
    let kind = match name.as_str() {
        "ONBUILD" => onbuild(head, bodies, end, &mut context)?,
        _ => kind(head, &mut context)?,
    };
    Some(Instruction { kind, span, source: source.trim().to_owned() })
}

fn kind(head: Head<'_>, context: &mut Context<'_>) -> Option<Kind> {
    let Head { name, flags, arguments } = head;
    let known = match context.name {
        "RUN" => run::FLAGS.as_slice(),
        "COPY" => copy::COPY_FLAGS.as_slice(),
        "ADD" => copy::ADD_FLAGS.as_slice(),
        "HEALTHCHECK" => healthcheck::FLAGS.as_slice(),
        unknown if !NAMES.contains(&unknown) => {
            let near = suggest::suffix(unknown, NAMES);
            let message = format!("unknown instruction: {}{near}", brief(name.text));
            context.refuse(message, "is this the rest of the line above, which lacks its continuation mark?");
            return None;
        }
        _ => &[],
    };
    let flags = Flags::read(flags, known, context);
    let mut context = context.within(arguments.start);
    let context = &mut context;
    let text = arguments.text;
    Some(match context.name {
        "RUN" => Kind::Run(run::run(text, &flags, context)?),
        "COPY" => Kind::Copy(copy::copy(text, &flags, context)?),
        "ADD" => Kind::Add(copy::add(text, &flags, context)?),
        "HEALTHCHECK" => Kind::Healthcheck(healthcheck::healthcheck(text, &flags, context)?),
        "CMD" => Kind::Cmd(command(text, context)?),
        "ENTRYPOINT" => Kind::Entrypoint(command(text, context)?),
        "SHELL" => Kind::Shell(shell(text, context)?),
        "ARG" => Kind::Arg(args(text, context)?),
        "ENV" => Kind::Env(pairs(text, context)?),
        "LABEL" => Kind::Label(pairs(text, context)?),
        "EXPOSE" => Kind::Expose(expose(text, context)?),
        "VOLUME" => Kind::Volume(volume(text, context)?),
        "STOPSIGNAL" => Kind::Stopsignal(stopsignal(text, context)?),
        "USER" => Kind::User(one(text, context)?),
        "WORKDIR" => Kind::Workdir(one(text, context)?),
        _ => Kind::Maintainer(one(text, context)?),
    })
}

/// The command of RUN, CMD, ENTRYPOINT and HEALTHCHECK: JSON if it can be, the shell's if not.
pub(crate) fn command(text: &str, context: &mut Context<'_>) -> Option<Command> {
    match json::read(text) {
        Json::Strings(strings) => Some(Command::Exec(strings.into_iter().map(|(text, _)| text).collect())),
        Json::No => Some(Command::Shell(text.to_owned())),
        Json::NotOnlyStrings => {
            refuse_array(text, context);
            None
        }
    }
}

/// Words between blanks, or a JSON array of them.
fn words(text: &str, context: &mut Context<'_>) -> Option<Words> {
    match json::read(text) {
        Json::Strings(strings) => {
            let words = strings.into_iter().map(|(word, range)| Spanned::new(word, context.span(range)));
            Some(Words { words: words.collect(), json: true })
        }
        Json::No => {
            let words = grammar::words(text).iter().map(|word| context.spanned(word)).collect();
            Some(Words { words, json: false })
        }
        Json::NotOnlyStrings => {
            refuse_array(text, context);
            None
        }
    }
}

/// An array that is JSON but not of strings is an error, where other slips fall back to the shell form.
pub(crate) fn refuse_array(text: &str, context: &mut Context<'_>) {
    let message = "when using JSON array syntax, arrays must be comprised of strings only";
    let problem = Problem::new(message, context.span(0..text.len()));
    context.report(problem.with_hint("put double quotes around every element"));
}

fn shell(text: &str, context: &mut Context<'_>) -> Option<Vec<String>> {
    let example = "write SHELL [\"/bin/bash\", \"-c\"]";
    match command(text, context)? {
        Command::Exec(shell) if !shell.is_empty() => Some(shell),
        Command::Shell(text) if !text.is_empty() => {
            context.refuse("SHELL requires the arguments to be in JSON form".to_owned(), example);
            None
        }
        _ => {
            context.refuse("SHELL requires at least one argument".to_owned(), example);
            None
        }
    }
}

fn one(text: &str, context: &mut Context<'_>) -> Option<Spanned<String>> {
    if text.is_empty() {
        let message = format!("{} requires exactly one argument", context.name);
        context.refuse(message, "write it on the same line");
        return None;
    }
    Some(context.spanned(&Piece { text, start: 0 }))
}

/// A signal that is written out can be checked at once; quotes and variables are for later.
fn stopsignal(text: &str, context: &mut Context<'_>) -> Option<Spanned<String>> {
    let signal = one(text, context)?;
    if !text.contains(['$', '"', '\'', '\\', '`'])
        && let Err(error) = parse_signal(text)
    {
        let hint = "write a name such as SIGTERM, or a number";
        context.report(Problem::new(error.to_string(), signal.span).with_hint(hint));
    }
    Some(signal)
}

/// Nothing was given where something must be.
pub(crate) fn refuse_empty(context: &mut Context<'_>) {
    let message = format!("{} requires at least one argument", context.name);
    context.refuse(message, "write it on the same line");
}

/// Ports in the order that they are processed in, which is not that of the line.
fn expose(text: &str, context: &mut Context<'_>) -> Option<Vec<Spanned<String>>> {
    let mut ports: Vec<_> = grammar::words(text).iter().map(|word| context.spanned(word)).collect();
    if ports.is_empty() {
        refuse_empty(context);
        return None;
    }
    ports.sort_by(|a, b| a.value.cmp(&b.value));
    Some(ports)
}

fn volume(text: &str, context: &mut Context<'_>) -> Option<Words> {
    let mut volumes = words(text, context)?;
    if volumes.words.is_empty() {
        refuse_empty(context);
        return None;
    }
    for volume in &mut volumes.words {
        volume.value = volume.value.trim().to_owned();
        if volume.value.is_empty() {
            let problem = Problem::new("VOLUME specified can not be an empty string", volume.span);
            context.report(problem.with_hint("name a directory, or remove it"));
        }
    }
    Some(volumes)
}

fn args(text: &str, context: &mut Context<'_>) -> Option<Vec<Spanned<Arg>>> {
    let words = grammar::assignments(text, context.escape);
    if words.is_empty() {
        refuse_empty(context);
        return None;
    }
    let mut args = Vec::with_capacity(words.len());
    for word in words {
        let span = context.span(word.word.range());
        if word.key.text.is_empty() {
            refuse_blank(span, context);
            continue;
        }
        let default = word.value.map(|value| value.text.to_owned());
        args.push(Spanned::new(Arg { name: word.key.text.to_owned(), default, doc: None }, span));
    }
    Some(args)
}

/// ENV and LABEL: `name=value …`, or the old `name the rest`, told apart by the first word.
fn pairs(text: &str, context: &mut Context<'_>) -> Option<Pairs> {
    let words = grammar::assignments(text, context.escape);
    let Some(first) = words.first() else {
        refuse_empty(context);
        return None;
    };
    if first.value.is_none() {
        let Some((key, value)) = grammar::legacy(text) else {
            let message = format!("{} must have two arguments", context.name);
            context.refuse(message, &format!("write {} name=value", context.name));
            return None;
        };
        let pair = (context.spanned(&key), context.spanned(&value));
        return Some(Pairs { pairs: vec![pair], legacy: true });
    }
    let mut pairs = Vec::with_capacity(words.len());
    for word in words {
        let span = context.span(word.word.range());
        let Some(value) = word.value else {
            let word = brief(word.word.text);
            let message = format!("Syntax error - can't find = in {word:?}. Must be of the form: name=value");
            let hint = "put quotes around a value that holds blanks";
            context.report(Problem::new(message, span).with_hint(hint));
            continue;
        };
        if word.key.text.is_empty() {
            refuse_blank(span, context);
            continue;
        }
        pairs.push((context.spanned(&word.key), context.spanned(&value)));
    }
    Some(Pairs { pairs, legacy: false })
}

fn refuse_blank(span: Span, context: &mut Context<'_>) {
    let problem = Problem::new(format!("{} names can not be blank", context.name), span);
    context.report(problem.with_hint("write name=value without a blank before the ="));
}

fn onbuild(head: Head<'_>, bodies: &str, end: usize, context: &mut Context<'_>) -> Option<Kind> {
    Flags::read(head.flags, &[], context);
    let arguments = head.arguments;
    let Some(nested) = grammar::instruction(arguments.text).filter(|_| !arguments.text.is_empty()) else {
        refuse_empty(context);
        return None;
    };
    let name = nested.name.text.to_ascii_uppercase();
    let mut context = context.within(arguments.start);
    let refused = match name.as_str() {
        "ONBUILD" => "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned(),
        "FROM" | "MAINTAINER" => format!("{name} isn't allowed as an ONBUILD trigger"),
        _ => {
            let span = context.span(0..arguments.text.len());
            let trigger = Spanned::new(format!("{}{bodies}", arguments.text), span);
            let instruction = Box::new(build(nested, arguments.text, "", end, &mut context)?);
            return Some(Kind::Onbuild { trigger, instruction });
        }
    };
    let problem = Problem::new(refused, context.span(nested.name.range()));
    context.report(problem.with_hint("a trigger is any other instruction, written in full"));
    None
}
