//! What names mean: what a stage or a `--from` is built on, which stage is the target, and which stages it needs.

use forge_parser::ast::{Dockerfile, Instruction, Kind, Stage};
use forge_parser::expand::Expander;
use forge_parser::{Spanned, did_you_mean};
use forge_store::Platform;

use super::error::PlanProblem;
use super::remote::Remote;
use super::stages::Planner;
use crate::op::{Access, HttpSource};
use crate::world::Named;

/// What a stage, or a `--from`, is built on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// An earlier stage, by its number.
    Stage(usize),
    /// A directory named by `--build-context`.
    Context(String),
    /// A URL or a repository named by `--build-context`.
    Remote(Remote),
    /// An image for a platform.
    Image(String, Platform),
}

/// Why a `--from` means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSource {
    /// A stage that comes later.
    #[error("cannot copy from stage {from:?}, it needs to be defined before current stage {current:?}")]
    Later {
        /// As written.
        from: String,
        /// The stage that says so.
        current: String,
    },
    /// No stage before this one has this number.
    #[error("invalid stage index {0}")]
    Index(usize),
}

impl NoSource {
    /// The same for a mount.
    pub fn of_mount(&self, target: &str) -> String {
        match self {
            Self::Later { from, .. } => format!(
                "cannot mount from stage {from:?} to {target:?}, stage needs to be defined before current command"
            ),
            Self::Index(_) => self.to_string(),
        }
    }
}

impl Planner<'_> {
    pub(super) fn base_of(&mut self, index: usize) -> Result<(Base, Platform), PlanProblem> {
        let stage = &self.dockerfile.stages[index];
        let from = &stage.from;
        let platform = match &from.platform {
            None => self.options.platform.clone(),
            Some(word) => self.stage_platform(word)?,
        };
        let image = self.expand_global(&from.image)?;
        if image.is_empty() {
            let message = format!("base name ({}) should not be blank", from.image.value);
            let hint = "give the ARG a default before the first FROM, or pass --build-arg";
            return Err(PlanProblem::input(message, from.image.span).hint(hint));
        }
        if let Some(named) = from.name.as_ref().and_then(|name| self.world.named(name, &platform)) {
            return Ok((named_base(named, &platform), platform));
        }
        let earlier = self.dockerfile.stages[..index].iter().rposition(|stage| is_named(stage, &image));
        let base = match earlier {
            Some(earlier) => Base::Stage(earlier),
            None => match self.world.named(&image, &platform) {
                Some(named) => named_base(named, &platform),
                None if image == "scratch" => Base::Scratch,
                None => Base::Image(image, platform.clone()),
            },
        };
        Ok((base, platform))
    }

    fn stage_platform(&self, word: &Spanned<String>) -> Result<Platform, PlanProblem> {
        let text = self.expand_global(word)?;
        if text.is_empty() {
            let message = format!("empty platform value from expression {}", word.value);
            return Err(PlanProblem::input(message, word.span));
        }
        text.parse()
            .map_err(|e| PlanProblem::input(format!("failed to parse platform {text}: {e}"), word.span))
    }

    pub(super) fn expand_global(&self, word: &Spanned<String>) -> Result<String, PlanProblem> {
        let expander = Expander { escape: self.dockerfile.directives.escape };
        let expanded = expander.word(&word.value, &self.globals);
        Ok(expanded.map_err(|e| PlanProblem::input(e.to_string(), word.span))?.text)
    }

    /// What a `--from` of stage `index` means.
    pub fn find_source(&self, index: usize, from: &str) -> Result<Base, NoSource> {
        let stages = &self.dockerfile.stages;
        let lower = from.to_lowercase();
        if let Some(found) = stages[..index].iter().rposition(|stage| is_named(stage, &lower)) {
            return Ok(Base::Stage(found));
        }
        if let Ok(number) = from.parse::<usize>() {
            return if number < index { Ok(Base::Stage(number)) } else { Err(NoSource::Index(number)) };
        }
        if let Some(named) = self.world.named(from, &self.options.platform) {
            return Ok(named_base(named, &self.options.platform));
        }
        if stages[index..].iter().any(|stage| is_named(stage, &lower)) {
            return Err(NoSource::Later { from: from.to_owned(), current: self.stage_name(index) });
        }
        Ok(if lower == "scratch" {
            Base::Scratch
        } else {
            Base::Image(from.to_owned(), self.options.platform.clone())
        })
    }

    /// Whether --build-context put something in the place of the whole stage.
    pub(super) fn is_replaced(&self, index: usize) -> bool {
        let name = self.dockerfile.stages[index].from.name.as_ref();
        name.is_some_and(|name| self.world.named(name, &self.bases[index].1).is_some())
    }

    /// Which stages the target needs, itself included.
    pub(super) fn needed(&self) -> Vec<bool> {
        let mut needed = vec![false; self.dockerfile.stages.len()];
        let mut pending = vec![self.target];
        while let Some(index) = pending.pop() {
            if std::mem::replace(&mut needed[index], true) {
                continue;
            }
            if let Base::Stage(base) = self.bases[index].0 {
                pending.push(base);
            }
            for from in self.froms(index) {
                if let Ok(Base::Stage(source)) = self.find_source(index, &from) {
                    pending.push(source);
                }
            }
        }
        needed
    }

    /// Every `--from` of a stage, those in its base's triggers included.
    pub(super) fn froms(&self, index: usize) -> Vec<String> {
        let mut froms = Vec::new();
        if self.is_replaced(index) {
            return froms;
        }
        self.dockerfile.stages[index].instructions.iter().for_each(|own| add_froms(own, &mut froms));
        match &self.bases[index].0 {
            Base::Stage(base) => {
                for instruction in &self.dockerfile.stages[*base].instructions {
                    if let Kind::Onbuild { instruction, .. } = &instruction.kind {
                        add_froms(instruction, &mut froms);
                    }
                }
            }
            Base::Image(reference, platform) => {
                let found = self.found.get(&(reference.clone(), platform.clone()));
                let config = found.and_then(|found| found.as_ref().ok()).map(|image| &image.config.config);
                for text in config.into_iter().flat_map(|config| &config.on_build) {
                    // What is wrong with a trigger is said where it is carried out.
                    let trigger = forge_parser::parse_trigger(text, '\\');
                    trigger.iter().for_each(|trigger| add_froms(trigger, &mut froms));
                }
            }
            Base::Scratch | Base::Context(_) | Base::Remote(_) => {}
        }
        froms
    }
}

/// What stands for a name that `--build-context` gave.
fn named_base(named: Named, platform: &Platform) -> Base {
    match named {
        Named::Directory(name) => Base::Context(name),
        Named::Image(reference) => Base::Image(reference, platform.clone()),
        // As BuildKit calls a file that is a context of its own.
        Named::Http(url) => {
            Base::Remote(Remote::Http(HttpSource { url, checksum: None, mtime: None }, "context".into()))
        }
        Named::Git(reference) => {
            let keep = reference.keep_git_dir.unwrap_or(false);
            Base::Remote(Remote::Git(*reference, keep, Access::User))
        }
    }
}

fn is_named(stage: &Stage, name: &str) -> bool {
    stage.from.name.as_ref().is_some_and(|own| own.value == name)
}

/// The `--from`s of a COPY or of a RUN's mounts.
fn add_froms(instruction: &Instruction, froms: &mut Vec<String>) {
    match &instruction.kind {
        Kind::Copy(copy) => froms.extend(copy.from.iter().map(|from| from.value.clone())),
        Kind::Run(run) => froms.extend(run.mounts.iter().filter_map(|mount| mount.value.from.clone())),
        _ => {}
    }
}

pub(super) fn find_target(dockerfile: &Dockerfile, target: Option<&str>) -> Result<usize, PlanProblem> {
    let Some(name) = target else { return Ok(dockerfile.stages.len() - 1) };
    let lower = name.to_lowercase();
    if let Some(found) = dockerfile.stages.iter().rposition(|stage| is_named(stage, &lower)) {
        return Ok(found);
    }
    if let Some(number) = name.parse().ok().filter(|number| *number < dockerfile.stages.len()) {
        return Ok(number);
    }
    let names: Vec<&str> =
        dockerfile.stages.iter().filter_map(|s| s.from.name.as_ref()).map(|n| n.value.as_str()).collect();
    let near = did_you_mean(&lower, names.iter().copied()).map(|near| format!(" (did you mean {near}?)"));
    let message = format!("target stage {name:?} could not be found{}", near.unwrap_or_default());
    let hint = match names.is_empty() {
        true => "no stage of this Dockerfile has a name: write FROM … AS name".to_owned(),
        false => format!("stages: {}", names.join(", ")),
    };
    Err(PlanProblem {
        kind: crate::TroubleKind::Input,
        message,
        span: dockerfile.stages.last().map(|stage| stage.span),
        hint: Some(hint),
    })
}
