//! Stages that take files from each other in a circle: none of them can be built first.

use forge_parser::Span;
use forge_parser::ast::{Dockerfile, Kind, Stage};

use super::error::PlanProblem;

/// What a stage takes files from: the other stage, and where it says so.
type Need = (usize, Span);

/// The first circle, if there is one. It is told whatever the target is, as with BuildKit.
pub fn find_cycle(dockerfile: &Dockerfile) -> Option<PlanProblem> {
    let stages = &dockerfile.stages;
    let needs: Vec<Vec<Need>> = (0..stages.len()).map(|index| needs_of(stages, index)).collect();
    let mut done = vec![false; stages.len()];
    for start in 0..stages.len() {
        if let Some(circle) = circle_from(start, &needs, &mut done) {
            return Some(problem(stages, &circle));
        }
    }
    None
}

/// Goes down from a stage, without recursion: there may be ten thousand of them in a row.
fn circle_from(start: usize, needs: &[Vec<Need>], done: &mut [bool]) -> Option<Vec<Need>> {
    if done[start] {
        return None;
    }
    // The way from `start` to here: each stage, the place that led to the next, and how many of its needs are behind.
    let mut way: Vec<(usize, usize)> = vec![(start, 0)];
    let mut on_way = vec![false; needs.len()];
    on_way[start] = true;
    while let Some((stage, at)) = way.last_mut() {
        let Some((next, _)) = needs[*stage].get(*at).copied() else {
            done[*stage] = true;
            on_way[*stage] = false;
            way.pop();
            continue;
        };
        *at += 1;
        if on_way[next] {
            let first = way.iter().position(|(stage, _)| *stage == next).unwrap_or(0);
            return Some(way[first..].iter().map(|(stage, at)| (*stage, needs[*stage][at - 1].1)).collect());
        }
        if !done[next] {
            on_way[next] = true;
            way.push((next, 0));
        }
    }
    None
}

fn needs_of(stages: &[Stage], index: usize) -> Vec<Need> {
    let mut needs = Vec::new();
    for instruction in &stages[index].instructions {
        match &instruction.kind {
            Kind::Copy(copy) => {
                needs.extend(
                    copy.from.iter().filter_map(|from| Some((find(stages, index, &from.value)?, from.span))),
                );
            }
            Kind::Run(run) => {
                let froms = run
                    .mounts
                    .iter()
                    .filter_map(|mount| mount.value.from.as_ref().map(|from| (from, mount.span)));
                needs.extend(froms.filter_map(|(from, span)| Some((find(stages, index, from)?, span))));
            }
            _ => {}
        }
    }
    needs
}

/// The stage that a `--from` means, be it before or behind.
fn find(stages: &[Stage], index: usize, from: &str) -> Option<usize> {
    let lower = from.to_lowercase();
    let is_named = |stage: &Stage| stage.from.name.as_ref().is_some_and(|name| name.value == lower);
    let before = stages[..index].iter().rposition(is_named);
    before
        .or_else(|| from.parse().ok().filter(|number| *number < stages.len()))
        .or_else(|| stages[index..].iter().position(is_named).map(|at| index + at))
}

fn problem(stages: &[Stage], circle: &[Need]) -> PlanProblem {
    let name = |index: usize| {
        let name = stages[index].from.name.as_ref();
        name.map_or_else(|| format!("stage-{index}"), |name| name.value.clone())
    };
    let (first, span) = circle[0];
    let message = format!("circular dependency detected on stage: {}", name(first));
    let way: Vec<String> = circle.iter().map(|(stage, _)| name(*stage)).chain([name(first)]).collect();
    PlanProblem::input(message, span).hint(format!("each takes files from the next: {}", way.join(" -> ")))
}
