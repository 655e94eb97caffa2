//! What can be told before anybody is asked: files that are not in the context, stages that are not before. The base
//! images of the build may be far away, and a slip of the pen need not wait for them.

use forge_parser::ast::{Instruction, Kind, MountKind, Source};
use forge_parser::expand::Expander;
use forge_parser::{Span, did_you_mean, glob, is_git_reference, is_url};

use super::base::Base;
use super::error::PlanProblem;
use super::path::rooted;
use super::scope::Env;
use super::stages::Planner;
use crate::op::Selection;
use crate::{TroubleKind, WorldError};

impl Planner<'_> {
    /// What is wrong with the needed stages as they are written. Words with variables in them wait for their values.
    pub(super) fn early_problems(&self, needed: &[bool]) -> Vec<PlanProblem> {
        let mut problems = Vec::new();
        if self.options.check_only {
            return problems;
        }
        let stages = self.dockerfile.stages.iter().enumerate();
        for (index, stage) in stages.filter(|(index, _)| needed[*index] && !self.is_replaced(*index)) {
            for instruction in &stage.instructions {
                problems.extend(self.early_problem(index, instruction));
            }
        }
        problems
    }

    fn early_problem(&self, index: usize, instruction: &Instruction) -> Vec<PlanProblem> {
        let main = Base::Context("context".into());
        match &instruction.kind {
            Kind::Copy(copy) => {
                let base = match &copy.from {
                    None => main,
                    Some(from) => match self.find_source(index, &from.value) {
                        Ok(base) => base,
                        Err(error) => return vec![PlanProblem::input(error.to_string(), from.span)],
                    },
                };
                let sources = copy.sources.iter().filter_map(|source| match &source.value {
                    Source::Path(path) => Some((path.as_str(), source.span)),
                    Source::Heredoc(_) => None,
                });
                sources.filter_map(|(path, span)| self.missing(&base, path, copy.parents, span)).collect()
            }
            Kind::Add(add) => {
                let sources = add.sources.iter().filter_map(|source| match &source.value {
                    Source::Path(path) => Some((path.as_str(), source.span)),
                    Source::Heredoc(_) => None,
                });
                sources.filter_map(|(path, span)| self.missing(&main, path, false, span)).collect()
            }
            Kind::Run(run) => {
                let binds = run.mounts.iter().filter(|mount| mount.value.kind == MountKind::Bind);
                let missing = binds.filter_map(|mount| {
                    let base = match &mount.value.from {
                        None => main.clone(),
                        Some(from) => match self.find_source(index, from) {
                            Ok(base) => base,
                            Err(error) => {
                                let target = mount.value.target.as_deref().unwrap_or_default();
                                return Some(PlanProblem::input(error.of_mount(target), mount.span));
                            }
                        },
                    };
                    self.missing(&base, mount.value.source.as_deref()?, false, mount.span)
                });
                missing.collect()
            }
            _ => Vec::new(),
        }
    }

    /// The problem of a source that names a file which is not in its directory.
    fn missing(&self, base: &Base, written: &str, parents: bool, span: Span) -> Option<PlanProblem> {
        let Base::Context(context) = base else { return None };
        if written.contains('$') {
            return None;
        }
        let expander = Expander { escape: self.dockerfile.directives.escape };
        let path = expander.word(written, &Env::default()).ok()?.text;
        let pattern = rooted(&path);
        if is_url(&path) || is_git_reference(&path) || glob::has_meta(&pattern) {
            return None;
        }
        let selection = Selection { required: true, deep_wildcards: parents, ..Selection::path(pattern) };
        let found = self.world.find(context, &selection);
        found.err().map(|error| PlanProblem::world(error, Some(span)))
    }

    /// An image that cannot be had: perhaps a stage was meant.
    pub(super) fn no_image(&self, error: WorldError, reference: &str, span: Span) -> PlanProblem {
        let mut problem = PlanProblem::world(error, Some(span));
        let names = self.dockerfile.stages.iter().filter_map(|stage| stage.from.name.as_ref());
        let near = did_you_mean(&reference.to_lowercase(), names.map(|name| name.value.as_str()));
        let absent = matches!(problem.kind, TroubleKind::NotFound | TroubleKind::Registry);
        if let Some(near) = near.filter(|_| absent && !reference.contains(['/', ':', '@'])) {
            problem.hint = Some(format!("no stage is called {reference}; did you mean {near}?"));
        }
        problem
    }

    /// Stages that the target does not need, by name.
    pub(super) fn unneeded(&self, needed: &[bool]) -> Vec<String> {
        (0..needed.len()).filter(|index| !needed[*index]).map(|index| self.stage_name(index)).collect()
    }
}
