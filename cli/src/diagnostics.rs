//! Problems of a Dockerfile, drawn with the line they stand in.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use forge_parser::Span;

/// A Dockerfile, as far as messages need it.
#[derive(Debug)]
pub struct SourceFile {
    /// How it is called.
    pub name: String,
    /// Its text; what is not UTF-8 in it was replaced.
    pub text: String,
}

/// One problem to draw.
#[derive(Debug)]
pub struct Report<'a> {
    /// The first line.
    pub message: &'a str,
    /// Where, if it has a place.
    pub span: Option<Span>,
    /// The user's next step.
    pub hint: Option<&'a str>,
}

/// How many lines of one instruction are shown: the first ones say enough.
const MOST_LINES: usize = 6;

impl SourceFile {
    /// Draws an error.
    pub fn error(&self, report: &Report<'_>) -> String {
        self.draw(Level::ERROR, report)
    }

    fn draw(&self, level: Level<'_>, report: &Report<'_>) -> String {
        let mut group =
            level.primary_title(report.message).elements(Vec::<annotate_snippets::Element<'_>>::new());
        if let Some(span) = report.span {
            let annotation = AnnotationKind::Primary.span(self.visible(span));
            group = group.element(Snippet::source(&self.text).path(&self.name).annotation(annotation));
        }
        if let Some(hint) = report.hint {
            group = group.element(Level::HELP.message(hint));
        }
        Renderer::plain().render(&[group])
    }

    /// The span cut to whole characters of the text, to a few lines, and without blanks at its end.
    fn visible(&self, span: Span) -> std::ops::Range<usize> {
        let floor = |mut at: usize| {
            at = at.min(self.text.len());
            while !self.text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let start = floor(span.start);
        let part = self.text[start..floor(span.end).max(start)].trim_end();
        let lines: usize = part.split_inclusive('\n').take(MOST_LINES).map(str::len).sum();
        let part = part[..lines].trim_end();
        start..start + part.len()
    }
}
