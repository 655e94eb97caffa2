//! Checks of FROM lines: names, platforms, and what becomes of their ARGs.

use super::Warning;
use crate::ast::{Dockerfile, Stage};
use crate::expand::{Expander, Scope};
use crate::platform_args;
use crate::reference::is_image_name;
use crate::span::Span;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn check(dockerfile: &Dockerfile, found: &mut Vec<Warning>) {
    let expander = Expander { escape: dockerfile.directives.escape };
    let scope = default_scope(dockerfile, expander);
    let mut declared: BTreeSet<&str> = dockerfile.global_args.iter().map(|arg| arg.name.as_str()).collect();
    declared.extend(platform_args::NAMES);
    let mut names = BTreeSet::new();
    for stage in &dockerfile.stages {
        check_name(stage, &mut names, found);
        let image = (&stage.from.image.value, stage.from.image.span);
        let platform = stage.from.platform.as_ref().map(|platform| (&platform.value, platform.span));
        for (word, span) in std::iter::once(image).chain(platform) {
            if let Ok(expanded) = expander.word(word, &scope) {
                let unknown = expanded.used.iter().filter(|name| !declared.contains(name.as_str()));
                found.extend(
                    unknown.map(|name| Warning::undefined_arg_in_from(name, declared.iter().copied(), span)),
                );
            }
        }
        check_default(stage, expander, &scope, found);
        if let Some((platform, span)) = platform {
            check_platform(stage, platform, span, expander, &scope, found);
        }
    }
}

fn check_name<'a>(stage: &'a Stage, names: &mut BTreeSet<&'a str>, found: &mut Vec<Warning>) {
    let Some(name) = &stage.from.name else { return };
    let mut words = stage.source.split_whitespace();
    let keyword = words.next().unwrap_or_default();
    let as_and_name: Vec<&str> = words.rev().take(2).collect();
    let [written, as_keyword] = as_and_name[..] else { return };
    if written != name.value {
        found.push(Warning::stage_name_casing(written, name.span));
    }
    let is_lower = |word: &str| word == word.to_lowercase();
    let is_upper = |word: &str| word == word.to_uppercase();
    let matches =
        if is_lower(keyword) { is_lower(as_keyword) } else { !is_upper(keyword) || is_upper(as_keyword) };
    if !matches {
        found.push(Warning::from_as_casing(as_keyword, keyword, stage.span));
    }
    if matches!(name.value.as_str(), "scratch" | "context") {
        found.push(Warning::reserved_stage_name(&name.value, name.span));
    }
    if !names.insert(name.value.as_str()) {
        found.push(Warning::duplicate_stage_name(&name.value, name.span));
    }
}

/// Whether FROM still has an image where nobody gives its ARGs a value.
fn check_default(stage: &Stage, expander: Expander, scope: &dyn Scope, found: &mut Vec<Warning>) {
    let image = &stage.from.image;
    if let Ok(expanded) = expander.word(&image.value, scope)
        && !expanded.used.is_empty()
        && !is_image_name(&expanded.text)
    {
        found.push(Warning::invalid_default_arg_in_from(&image.value, image.span));
    }
}

fn check_platform(
    stage: &Stage,
    platform: &str,
    span: Span,
    expander: Expander,
    scope: &dyn Scope,
    found: &mut Vec<Warning>,
) {
    let Ok(expanded) = expander.word(platform, scope) else { return };
    if expanded.used.is_empty() {
        // A stage that is named after its platform means it.
        let name = stage.from.name.as_ref().map_or("", |name| name.value.as_str());
        let arch = expanded.text.split('/').nth(1).unwrap_or_default();
        if !expanded.text.is_empty() && (arch.is_empty() || !name.contains(arch)) {
            found.push(Warning::from_platform_flag_const_disallowed(platform, span));
        }
    } else if expanded.used == ["TARGETPLATFORM"] && expanded.text == platform_args::EXAMPLE_PLATFORM {
        found.push(Warning::redundant_target_platform(platform, span));
    }
}

/// The global ARGs as they are when no build argument is given, on some platform.
fn default_scope(dockerfile: &Dockerfile, expander: Expander) -> BTreeMap<String, String> {
    let mut scope = platform_args::example();
    for arg in &dockerfile.global_args {
        let default = arg.default.as_deref().map(|default| expander.word(default, &scope));
        if let Some(Ok(value)) = default {
            scope.insert(arg.name.clone(), value.text);
        }
    }
    scope
}
