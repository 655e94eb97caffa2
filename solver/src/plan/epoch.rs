//! `SOURCE_DATE_EPOCH`: seconds since 1970, or the name of something that has a time of its own: `context`, a named
//! context, or a stage that does nothing but fetch one remote source.

use forge_parser::ast::{Add, Kind, Source, Stage};
use forge_parser::expand::Expander;
use forge_parser::{Span, Spanned, is_git_reference, is_url};
use forge_store::Digest;

use super::error::PlanProblem;
use super::remote::{Remote, repository};
use super::scope::Env;
use super::stages::Planner;
use crate::TroubleKind;
use crate::op::{Access, HttpSource};
use crate::world::{Dated, Named, WorldError};

/// The build argument's name.
pub const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";

impl Planner<'_> {
    /// The time that no time of the image is later than, if the user or a global ARG gives one.
    pub(super) fn find_epoch(&self) -> Result<Option<i64>, PlanProblem> {
        let given = self.options.build_args.get(SOURCE_DATE_EPOCH);
        let value = given.or_else(|| self.globals.values.get(SOURCE_DATE_EPOCH)).map(String::as_str);
        let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(None) };
        if let Ok(seconds) = value.parse() {
            return Ok(Some(seconds));
        }
        if self.options.check_only {
            return Ok(None);
        }
        if value == "context" {
            let time = self.world.time_of(Dated::Context);
            return self.dated(time, "the build context", None);
        }
        if let Some(named) = self.world.named(value, &self.options.platform) {
            let time = self.time_of_named(named);
            return self.dated(time, &format!("the build context {value:?}"), None);
        }
        let stages = &self.dockerfile.stages;
        let is_named = |stage: &&Stage| {
            stage.from.name.as_ref().is_some_and(|name| name.value.eq_ignore_ascii_case(value))
        };
        let stage = stages.iter().find(is_named).ok_or_else(|| PlanProblem {
            kind: TroubleKind::Input,
            message: format!("invalid SOURCE_DATE_EPOCH: {value}"),
            span: None,
            hint: Some(
                "give seconds since 1970, `context`, or the name of a build context or a stage".into(),
            ),
        })?;
        let time = match self.only_source(stage)? {
            Remote::Http(source, _) => self.world.time_of(Dated::Http(&source)),
            Remote::Git(reference, _, access) => self.world.time_of(Dated::Git(&reference, access)),
        };
        self.dated(time, &format!("what stage {value:?} fetches"), Some(stage.span))
    }

    fn time_of_named(&self, named: Named) -> Result<Option<i64>, WorldError> {
        match named {
            Named::Http(url) => {
                self.world.time_of(Dated::Http(&HttpSource { url, checksum: None, mtime: None }))
            }
            Named::Git(reference) => self.world.time_of(Dated::Git(&reference, Access::User)),
            Named::Directory(_) | Named::Image(_) => Ok(None),
        }
    }

    /// BuildKit goes on without a time; then an image that should be the same each time silently is not.
    fn dated(
        &self,
        time: Result<Option<i64>, WorldError>,
        what: &str,
        span: Option<Span>,
    ) -> Result<Option<i64>, PlanProblem> {
        match time {
            Ok(Some(time)) => Ok(Some(time)),
            Ok(None) => Err(PlanProblem {
                kind: TroubleKind::Input,
                message: format!("invalid SOURCE_DATE_EPOCH: {what} has no time of its own"),
                span,
                hint: Some(
                    "repositories, archives and URLs with Last-Modified have one; or give seconds".into(),
                ),
            }),
            Err(error) => Err(PlanProblem::world(error, span)),
        }
    }

    /// The one remote source of a stage that does nothing else.
    fn only_source(&self, stage: &Stage) -> Result<Remote, PlanProblem> {
        if self.expand_global(&stage.from.image)? != "scratch" {
            let message = "SOURCE_DATE_EPOCH stage must use FROM scratch";
            return Err(PlanProblem::input(message, stage.from.image.span));
        }
        let mut env = Env(self.globals.values.clone().into_iter().collect());
        env.0.retain(|(name, _)| name != SOURCE_DATE_EPOCH);
        let mut source = None;
        let one =
            |span| PlanProblem::input("SOURCE_DATE_EPOCH stage must contain exactly one remote ADD", span);
        for instruction in &stage.instructions {
            match &instruction.kind {
                Kind::Arg(args) => {
                    for arg in args {
                        let value = match (self.options.build_args.get(&arg.name), &arg.default) {
                            (Some(given), _) => given.clone(),
                            (None, Some(default)) => self.epoch_word(default, arg.span, &env)?,
                            (None, None) => continue,
                        };
                        env.set(&arg.name, &value);
                    }
                }
                Kind::Add(_) if source.is_some() => return Err(one(instruction.span)),
                Kind::Add(add) => source = Some(self.only_add(add, instruction.span, &env)?),
                _ => {
                    let name = instruction.source.split_whitespace().next().unwrap_or_default();
                    let message = format!(
                        "SOURCE_DATE_EPOCH stage does not meet source-only requirements: unsupported {} instruction",
                        name.to_uppercase()
                    );
                    return Err(PlanProblem::input(message, instruction.span));
                }
            }
        }
        source.ok_or_else(|| one(stage.span))
    }

    fn only_add(&self, add: &Add, span: Span, env: &Env) -> Result<Remote, PlanProblem> {
        let [Spanned { value: Source::Path(path), .. }] = add.sources.as_slice() else {
            let message = "SOURCE_DATE_EPOCH stage must contain exactly one remote ADD source";
            return Err(PlanProblem::input(message, span));
        };
        let word = self.epoch_word(path, span, env)?;
        let checksum = match &add.checksum {
            Some(flag) => Some(Spanned::new(self.epoch_word(&flag.value, flag.span, env)?, flag.span)),
            None => None,
        };
        if is_git_reference(&word) {
            return repository(&word, add.keep_git_dir, checksum, span);
        }
        if !is_url(&word) {
            let message = "SOURCE_DATE_EPOCH stage source must be a single HTTP(S) or Git ADD";
            return Err(PlanProblem::input(message, span));
        }
        let checksum = checksum.map(|flag| {
            flag.value.parse::<Digest>().map_err(|error| PlanProblem::input(error.to_string(), flag.span))
        });
        Ok(Remote::Http(
            HttpSource { url: word, checksum: checksum.transpose()?, mtime: None },
            String::new(),
        ))
    }

    fn epoch_word(&self, text: &str, span: Span, env: &Env) -> Result<String, PlanProblem> {
        let expanded = Expander { escape: self.dockerfile.directives.escape }.word(text, env);
        Ok(expanded.map_err(|error| PlanProblem::input(error.to_string(), span))?.text)
    }
}
