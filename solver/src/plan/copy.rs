//! COPY and ADD: sources, destination, ownership.

use std::sync::Arc;

use forge_parser::ast::{Add, Copy, CopyFlags, Heredoc, Instruction, Source};
use forge_parser::{Chmod, Span, Spanned, Warning, is_git_reference, is_url, redacted};

use super::base::Base;
use super::error::PlanProblem;
use super::lower::Lowering;
use super::path::{destination, rooted, too_long};
use crate::op::{CopyOp, CopySource, Op, Selection, Unpack};
use crate::{TroubleKind, VertexId};

/// What COPY and ADD have in common, before expansion.
struct Words<'a> {
    name: &'static str,
    sources: &'a [Spanned<Source>],
    dest: &'a Spanned<String>,
    flags: &'a CopyFlags,
    parents: bool,
    unpack: Unpack,
    /// ADD: its sources may be remote.
    add: Option<&'a Add>,
}

impl Lowering<'_, '_> {
    pub(super) fn copy(&mut self, copy: &Copy, instruction: &Instruction) -> Result<(), PlanProblem> {
        let base = match &copy.from {
            None => Base::Context("context".into()),
            Some(from) => {
                let found = self.planner.find_source(self.index, &from.value);
                found.map_err(|error| PlanProblem::input(error.to_string(), from.span))?
            }
        };
        let words = Words {
            name: "COPY",
            sources: &copy.sources,
            dest: &copy.dest,
            flags: &copy.flags,
            parents: copy.parents,
            unpack: Unpack::Never,
            add: None,
        };
        self.files(&words, base, instruction)
    }

    pub(super) fn add(&mut self, add: &Add, instruction: &Instruction) -> Result<(), PlanProblem> {
        let words = Words {
            name: "ADD",
            sources: &add.sources,
            dest: &add.dest,
            flags: &add.flags,
            parents: false,
            unpack: if add.unpack == Some(false) { Unpack::Never } else { Unpack::IfArchive },
            add: Some(add),
        };
        self.files(&words, Base::Context("context".into()), instruction)
    }

    fn files(&mut self, words: &Words<'_>, base: Base, instruction: &Instruction) -> Result<(), PlanProblem> {
        let dest_text = self.word(&words.dest.value)?;
        let chown = self.optional_flag(&words.flags.chown)?;
        let chmod = self.optional_flag(&words.flags.chmod)?;
        if let (Some(mode), Some(flag)) = (&chmod, &words.flags.chmod) {
            Chmod::parse(mode).map_err(|e| PlanProblem::input(e.to_string(), flag.span))?;
        }
        if let (Some(owner), Some(flag)) = (&chown, &words.flags.chown) {
            self.check_owner(owner, flag.span)?;
        }
        let label = self.step_label(instruction)?;
        let mut shown = Vec::new();
        let mut sources = Vec::new();
        let mut inputs: Vec<VertexId> = Vec::new();
        for source in words.sources {
            let (copied, text) = self.source(source, words, &base, &mut inputs)?;
            sources.push(copied);
            shown.push(text);
        }
        let dest = destination(self.state.workdir(), &dest_text);
        self.check_dest(words, &sources, &dest)?;
        let created_by = created_by(words, chown.as_deref(), chmod.as_deref(), &shown, &dest_text);
        let op = CopyOp {
            sources,
            dest,
            // As BuildKit: what --chmod asks for cannot be had without looking, so --link is dropped.
            link: words.flags.link && chmod.is_none(),
            chown,
            chmod,
            parents: words.parents,
            reset_owner: matches!(base, Base::Context(_)),
        };
        self.push(Op::Copy(op), inputs, label, created_by)
    }

    /// One source: where its files come from, and how history names it.
    fn source(
        &mut self,
        source: &Spanned<Source>,
        words: &Words<'_>,
        base: &Base,
        inputs: &mut Vec<VertexId>,
    ) -> Result<(CopySource, String), PlanProblem> {
        let path = match &source.value {
            Source::Heredoc(heredoc) => {
                return Ok((self.inline(heredoc)?, format!("<<{}", heredoc.name)));
            }
            Source::Path(path) => self.word(path)?,
        };
        let (vertex, selection, unpack) = match words.add {
            Some(add) if is_remote(&path) => {
                let (remote, selection) = self.remote(&path, add, source.span)?;
                // What comes from elsewhere is unpacked only where that is asked for.
                let unpack = if add.unpack == Some(true) { Unpack::IfArchive } else { Unpack::Never };
                (self.planner.remote_vertex(remote, source.span), selection, unpack)
            }
            None if is_remote(&path) => {
                let what = if is_git_reference(&path) { "a git ref" } else { "a URL" };
                let message = format!("source can't be {what} for COPY");
                return Err(PlanProblem::input(message, source.span).hint("use ADD for it"));
            }
            _ => {
                if let Some(flag) = words.add.and_then(|add| add.checksum.as_ref()) {
                    let message = "checksum requires HTTP(S) or Git sources";
                    return Err(PlanProblem::input(message, flag.span).hint("remove --checksum"));
                }
                let selection = self.selection(&path, words, base, source)?;
                (self.planner.source_vertex(base, self.span)?, selection, words.unpack)
            }
        };
        let place = inputs.iter().position(|known| *known == vertex).unwrap_or_else(|| {
            inputs.push(vertex);
            inputs.len() - 1
        });
        // Place 0 is what is copied onto.
        let copied = CopySource::Files { input: place + 1, selection, unpack };
        Ok((copied, redacted(&path)))
    }

    fn optional_flag(&mut self, flag: &Option<Spanned<String>>) -> Result<Option<String>, PlanProblem> {
        flag.as_ref().map(|flag| self.word(&flag.value)).transpose()
    }

    fn inline(&mut self, heredoc: &Heredoc) -> Result<CopySource, PlanProblem> {
        let content = if heredoc.expand { self.raw(&heredoc.content)? } else { heredoc.content.clone() };
        Ok(CopySource::Inline { name: heredoc.name.clone(), content: Arc::from(content) })
    }

    /// What a source word selects. Whether it is there is asked at the end of planning, for all of them side by side.
    fn selection(
        &mut self,
        path: &str,
        words: &Words<'_>,
        base: &Base,
        source: &Spanned<Source>,
    ) -> Result<Selection, PlanProblem> {
        let pivot = words.parents.then(|| pivot(path)).flatten();
        let pattern = rooted(path);
        let selection = Selection {
            required: !forge_parser::glob::has_meta(&pattern),
            pattern,
            pivot,
            excludes: words.flags.excludes.iter().map(|pattern| pattern.value.clone()).collect(),
            deep_wildcards: words.parents,
        };
        if let Base::Context(context) = base
            && self.planner.world.is_ignored(context, &selection.pattern)
        {
            self.planner.warn(Warning::copy_ignored_file(words.name, path, self.span));
        }
        if let Base::Context(context) = base
            && !self.planner.options.check_only
        {
            self.planner.wanted.push((context.clone(), selection.clone(), source.span));
        }
        Ok(selection)
    }

    /// A name as owner, where there cannot be anything that knows it: nothing was put into the stage yet.
    fn check_owner(&self, owner: &str, span: Span) -> Result<(), PlanProblem> {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_empty = matches!(self.planner.graph.vertex(self.state.files).op, Op::Scratch);
        let (user, group) = owner.split_once(':').map_or((owner, None), |(user, group)| (user, Some(group)));
        let (name, file) = match group {
            _ if !is_number(user) => (user, "user"),
            Some(group) if !is_number(group) => (group, "group"),
            _ => return Ok(()),
        };
        if !is_empty {
            return Ok(());
        }
        let message = format!("unable to find {file} {name}: the stage has no files yet");
        Err(PlanProblem::input(message, span).hint("give numbers, or copy /etc/passwd and /etc/group before"))
    }

    /// Several files at one name: BuildKit lets the last one win, which nobody means. And names that no file can have.
    fn check_dest(&self, words: &Words<'_>, sources: &[CopySource], dest: &str) -> Result<(), PlanProblem> {
        let inline = sources.iter().filter_map(|source| match source {
            CopySource::Inline { name, .. } => Some(name.as_str()),
            _ => None,
        });
        if let Some(why) = inline.chain([dest]).find_map(too_long) {
            let message = format!("{}: the destination is {why}", words.name);
            return Err(PlanProblem::input(message, words.dest.span).hint("choose a shorter one"));
        }
        if sources.len() > 1 && !dest.ends_with('/') && !words.parents {
            let name = words.name;
            return Err(PlanProblem {
                kind: TroubleKind::Input,
                message: format!(
                    "When using {name} with more than one source file, the destination must be a directory and end with a /"
                ),
                span: Some(words.dest.span),
                hint: Some(format!("write {dest}/")),
            });
        }
        Ok(())
    }
}

fn is_remote(path: &str) -> bool {
    is_url(path) || is_git_reference(path)
}

/// How many path elements stand before `/./`.
fn pivot(path: &str) -> Option<usize> {
    let (before, _) = path.split_once("/./")?;
    let before = rooted(before);
    Some(before.split('/').filter(|element| !element.is_empty()).count())
}

fn created_by(
    words: &Words<'_>,
    chown: Option<&str>,
    chmod: Option<&str>,
    sources: &[String],
    dest: &str,
) -> String {
    let mut text = words.name.to_owned();
    if words.parents {
        text.push_str(" --parents");
    }
    for (name, value) in [("chown", chown), ("chmod", chmod)] {
        if let Some(value) = value {
            text.push_str(&format!(" --{name}={value}"));
        }
    }
    for source in sources {
        text.push(' ');
        text.push_str(source);
    }
    format!("{text} {dest} # buildkit")
}
