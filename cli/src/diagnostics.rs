//! Problems of a Dockerfile, drawn with the line they stand in.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use std::sync::OnceLock;

use forge_parser::{LineIndex, Span};

/// A Dockerfile, as far as messages need it.
#[derive(Debug)]
pub struct SourceFile {
    /// How it is called.
    pub name: String,
    /// Its text; what is not UTF-8 in it was replaced.
    pub text: String,
    /// Made when something is first drawn.
    lines: OnceLock<LineIndex>,
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
    /// A file of this name and text.
    pub fn new(name: String, text: String) -> Self {
        Self { name, text, lines: OnceLock::new() }
    }

    /// Draws an error.
    pub fn error(&self, report: &Report<'_>) -> String {
        self.draw(Level::ERROR, report)
    }

    fn draw(&self, level: Level<'_>, report: &Report<'_>) -> String {
        let mut group =
            level.primary_title(report.message).elements(Vec::<annotate_snippets::Element<'_>>::new());
        if let Some(span) = report.span {
            // Only its lines are handed over: a thousand problems of a large file would be drawn from all of it.
            let visible = self.visible(span);
            let start = self.text[..visible.start].rfind('\n').map_or(0, |at| at + 1);
            let end = self.text[visible.end..].find('\n').map_or(self.text.len(), |at| visible.end + at);
            let lines = self.lines.get_or_init(|| LineIndex::new(self.text.as_bytes()));
            let annotation = AnnotationKind::Primary.span(visible.start - start..visible.end - start);
            let source = Snippet::source(&self.text[start..end]).line_start(lines.line_col(start).0);
            group = group.element(source.path(&self.name).annotation(annotation));
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
