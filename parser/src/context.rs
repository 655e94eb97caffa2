//! What the reading of one instruction has at hand.

use crate::ast::Heredoc;
use crate::grammar::Piece;
use crate::problem::{Problem, Problems};
use crate::source_map::SourceMap;
use crate::span::{Span, Spanned};
use std::ops::Range;

/// A part of a logical line that knows where it came from, and a place for complaints.
pub(crate) struct Context<'a> {
    pub(crate) escape: char,
    /// The instruction's name in capitals.
    pub(crate) name: &'a str,
    /// Where the name stands.
    pub(crate) name_span: Span,
    /// The heredocs that follow the line.
    pub(crate) heredocs: &'a [Heredoc],
    map: &'a SourceMap,
    /// Where the text at hand begins in the logical line.
    base: usize,
    problems: &'a mut Problems,
}

impl<'a> Context<'a> {
    pub(crate) fn new(
        escape: char,
        heredocs: &'a [Heredoc],
        map: &'a SourceMap,
        problems: &'a mut Problems,
    ) -> Self {
        Self { escape, name: "", name_span: Span::default(), heredocs, map, base: 0, problems }
    }

    /// The same for the instruction `name` whose text begins at `base`.
    pub(crate) fn instruction<'b>(&'b mut self, name: &'b str, range: Range<usize>) -> Context<'b> {
        let name_span = self.span(range);
        Context {
            escape: self.escape,
            name,
            name_span,
            heredocs: self.heredocs,
            map: self.map,
            base: self.base,
            problems: self.problems,
        }
    }

    /// The same for a part of the text.
    pub(crate) fn within<'b>(&'b mut self, start: usize) -> Context<'b>
    where
        'a: 'b,
    {
        Context {
            escape: self.escape,
            name: self.name,
            name_span: self.name_span,
            heredocs: self.heredocs,
            map: self.map,
            base: self.base + start,
            problems: self.problems,
        }
    }

    pub(crate) fn span(&self, range: Range<usize>) -> Span {
        self.map.span(self.base + range.start, self.base + range.end)
    }

    pub(crate) fn spanned(&self, piece: &Piece<'_>) -> Spanned<String> {
        Spanned::new(piece.text.to_owned(), self.span(piece.range()))
    }

    pub(crate) fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// A complaint about the instruction as a whole.
    pub(crate) fn refuse(&mut self, message: String, hint: &str) {
        let problem = Problem::new(message, self.name_span).with_hint(hint);
        self.report(problem);
    }
}

/// At most this much of a name is repeated in a message.
const MAX_QUOTED: usize = 100;

/// A name for use in a message, shortened where it is absurd.
pub(crate) fn brief(name: &str) -> String {
    match name.char_indices().nth(MAX_QUOTED) {
        Some((cut, _)) => format!("{}…", &name[..cut]),
        None => name.to_owned(),
    }
}
