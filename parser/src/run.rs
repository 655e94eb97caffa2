//! RUN: its flags, its mounts, its command.

use crate::ast::{Network, Run, Security};
use crate::context::{Context, brief};
use crate::flags::{Flags, Known, Type};
use crate::instruction::command;
use crate::mount;
use crate::problem::Problem;
use crate::span::Spanned;

pub(crate) const FLAGS: [Known; 4] =
    [("mount", Type::List), ("network", Type::Text), ("security", Type::Text), ("device", Type::List)];

pub(crate) fn run(text: &str, flags: &Flags, context: &mut Context<'_>) -> Option<Run> {
    let mut mounts = Vec::new();
    for option in flags.list("mount") {
        match mount::parse(&option.value) {
            Ok(mount) => mounts.push(Spanned::new(mount, option.span)),
            Err(error) => {
                context.report(Problem { message: error.to_string(), span: option.span, hint: error.hint() })
            }
        }
    }
    let network =
        choose(flags.text("network"), &NETWORKS, context, |value| format!("invalid network mode {value:?}"));
    let security = choose(flags.text("security"), &SECURITIES, context, |value| {
        format!("security {value:?} is not valid")
    });
    let command = command(text, context)?;
    let devices = flags.list("device").collect();
    Some(Run { command, heredocs: context.heredocs.to_vec(), mounts, network, security, devices })
}

const NETWORKS: [(&str, Network); 3] =
    [("default", Network::Default), ("none", Network::None), ("host", Network::Host)];

const SECURITIES: [(&str, Security); 2] = [("sandbox", Security::Sandbox), ("insecure", Security::Insecure)];

/// The value that a flag names, or a complaint that lists those there are.
fn choose<T: std::marker::Copy>(
    given: Option<Spanned<String>>,
    choices: &[(&str, T)],
    context: &mut Context<'_>,
    complaint: impl Fn(&str) -> String,
) -> Option<Spanned<T>> {
    let given = given?;
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == given.value) {
        return Some(Spanned::new(*value, given.span));
    }
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let problem = Problem::new(complaint(&brief(&given.value)), given.span);
    context.report(problem.with_hint(format!("it can be {}", names.join(", "))));
    None
}
