//! Checks of what stands in the stages.

use super::Warning;
use super::secrets::looks_like_secret;
use crate::ast::{Command, Dockerfile, Instruction, Kind, Stage};
use crate::parse::Notes;
use crate::span::{Span, Spanned};
use std::collections::HashMap;

/// What a stage hands down to those that are built from it.
#[derive(Clone, Copy, Default)]
struct Inherited {
    shell_set: bool,
    workdir_set: bool,
}

pub(super) fn check(dockerfile: &Dockerfile, found: &mut Vec<Warning>) {
    check_casing(dockerfile, found);
    for arg in &dockerfile.global_args {
        check_secret("ARG", &arg.name, arg.span, found);
    }
    let mut stages: HashMap<&str, Inherited> = HashMap::new();
    for stage in &dockerfile.stages {
        let mut state = stages.get(stage.from.image.value.as_str()).copied().unwrap_or_default();
        let mut last: HashMap<&str, Span> = HashMap::new();
        for instruction in &stage.instructions {
            check_instruction(instruction, &mut state, found);
            let once = match &instruction.kind {
                Kind::Cmd(_) => "CMD",
                Kind::Entrypoint(_) => "ENTRYPOINT",
                Kind::Healthcheck(_) => "HEALTHCHECK",
                _ => continue,
            };
            if let Some(ignored) = last.insert(once, instruction.span) {
                found.push(Warning::multiple_instructions_disallowed(once, ignored));
            }
        }
        if let Some(name) = &stage.from.name {
            stages.insert(&name.value, state);
        }
    }
}

fn check_instruction(instruction: &Instruction, state: &mut Inherited, found: &mut Vec<Warning>) {
    let span = instruction.span;
    match &instruction.kind {
        Kind::Arg(args) => {
            args.iter().for_each(|arg| check_secret("ARG", &arg.name, arg.span, found));
        }
        Kind::Env(pairs) => {
            if pairs.legacy {
                found.push(Warning::legacy_key_value_format("ENV", span));
            }
            pairs.pairs.iter().for_each(|(key, _)| check_secret("ENV", &key.value, key.span, found));
        }
        Kind::Label(pairs) if pairs.legacy => {
            found.push(Warning::legacy_key_value_format("LABEL", span));
        }
        Kind::Cmd(Command::Shell(_)) if !state.shell_set => {
            found.push(Warning::json_args_recommended("CMD", span));
        }
        Kind::Entrypoint(Command::Shell(_)) if !state.shell_set => {
            found.push(Warning::json_args_recommended("ENTRYPOINT", span));
        }
        Kind::Shell(_) => state.shell_set = true,
        Kind::Workdir(path) => {
            // A path that begins with a variable may well be absolute.
            let unquoted = path.value.trim_start_matches(['"', '\'']);
            if !state.workdir_set && !unquoted.starts_with(['/', '$']) {
                found.push(Warning::workdir_relative_path(&path.value, path.span));
            }
            state.workdir_set = true;
        }
        Kind::Maintainer(_) => found.push(Warning::maintainer_deprecated(span)),
        Kind::Expose(ports) => ports.iter().for_each(|port| check_port(port, found)),
        _ => {}
    }
}

fn check_port(port: &Spanned<String>, found: &mut Vec<Warning>) {
    if port.value.contains('$') {
        return;
    }
    if port.value.contains(':') {
        found.push(Warning::expose_invalid_format(&port.value, port.span));
    }
    if let Some((_, protocol)) = port.value.split_once('/')
        && protocol != protocol.to_lowercase()
    {
        found.push(Warning::expose_proto_casing(&port.value, port.span));
    }
}

fn check_secret(instruction: &str, name: &str, span: Span, found: &mut Vec<Warning>) {
    if looks_like_secret(name) {
        found.push(Warning::secrets_used_in_arg_or_env(instruction, name, span));
    }
}

/// All instructions should be written in the case that most are written in.
fn check_casing(dockerfile: &Dockerfile, found: &mut Vec<Warning>) {
    let instructions = || dockerfile.stages.iter().flat_map(keywords);
    let lower = instructions().filter(|(keyword, _)| *keyword == keyword.to_ascii_lowercase()).count();
    let upper = instructions().filter(|(keyword, _)| *keyword == keyword.to_ascii_uppercase()).count();
    for (keyword, span) in instructions() {
        let (wanted, casing) = if lower > upper {
            (keyword.to_ascii_lowercase(), "lowercase")
        } else {
            (keyword.to_ascii_uppercase(), "uppercase")
        };
        if wanted != keyword {
            found.push(Warning::consistent_instruction_casing(keyword, casing, span));
        }
    }
}

/// The names of a stage's instructions as written.
fn keywords(stage: &Stage) -> impl Iterator<Item = (&str, Span)> {
    let of = |source: &str| source.find(char::is_whitespace).unwrap_or(source.len());
    let from = (&stage.source[..of(&stage.source)], stage.span);
    let others = stage.instructions.iter().map(move |one| (&one.source[..of(&one.source)], one.span));
    std::iter::once(from).chain(others)
}

/// The comment directly above a stage or an ARG should describe it.
pub(super) fn check_descriptions(dockerfile: &Dockerfile, notes: &Notes, found: &mut Vec<Warning>) {
    let mut above: HashMap<usize, &str> = HashMap::new();
    for (comments, instruction) in &notes.comments {
        let plain = comments.iter().rev().find(|comment| super::comment_option(&comment.value).is_none());
        if let Some(comment) = plain {
            above.insert(instruction.start, &comment.value);
        }
    }
    let mut check = |definition: &str, names: &[&str], span: Span| {
        let Some(first) = above.get(&span.start).map(|comment| comment.split(' ').next().unwrap_or_default())
        else {
            return;
        };
        if let Some(name) = names.first().filter(|_| !names.contains(&first)) {
            let example = if names.len() > 1 { "<arg_key>" } else { name };
            found.push(Warning::invalid_definition_description(definition, example, span));
        }
    };
    for (span, names) in &notes.global_args {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        check("ARG", &names, *span);
    }
    for stage in &dockerfile.stages {
        if let Some(name) = &stage.from.name {
            check("build stage", &[&name.value], stage.span);
        }
        for instruction in &stage.instructions {
            if let Kind::Arg(args) = &instruction.kind {
                let names: Vec<&str> = args.iter().map(|arg| arg.name.as_str()).collect();
                check("ARG", &names, instruction.span);
            }
        }
    }
}
