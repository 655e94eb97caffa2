//! Physical lines become logical ones: continuations joined, comments and blanks dropped, every byte's origin kept.
//!
//! This is written by hand and walks the file once, because a grammar for it would need unbounded look-ahead
//! (which heredocs there are, which character escapes) and turns quadratic. What a logical line *means* is the
//! grammar's business (`dockerfile.pest`).

use crate::heredoc::{Body, HeredocWord};
use crate::limits::MAX_LINE_BYTES;
use crate::problem::{Problem, Problems};
use crate::source_map::SourceMap;
use crate::span::{Span, Spanned};

/// One instruction's text.
#[derive(Debug)]
pub(crate) struct LogicalLine {
    /// The joined text, without leading blanks.
    pub(crate) text: String,
    pub(crate) map: SourceMap,
    /// The comment lines directly above, without `#` and blanks.
    pub(crate) comments: Vec<Spanned<String>>,
    /// The last blank line found between continued lines.
    pub(crate) empty_continuation: Option<Span>,
    /// The text could not be read as it stands; the problem is reported, the instruction is not worth parsing.
    pub(crate) broken: bool,
}

/// Walks a file.
pub(crate) struct Lines<'a> {
    text: &'a [u8],
    at: usize,
    escape: char,
}

/// A physical line without its line break.
struct Physical<'a> {
    bytes: &'a [u8],
    start: usize,
}

impl<'a> Lines<'a> {
    /// The lines of `text` from the offset `at` on.
    pub(crate) fn new(text: &'a [u8], at: usize, escape: char) -> Self {
        Self { text, at, escape }
    }

    /// The next instruction's text, or None at the end of the file.
    pub(crate) fn next(&mut self, problems: &mut Problems) -> Option<LogicalLine> {
        let mut comments = Vec::new();
        while let Some(physical) = self.physical() {
            let Some(line) = decode(&physical, problems) else {
                return Some(self.broken(comments, &physical));
            };
            let body = line.trim_start();
            if let Some(comment) = body.strip_prefix('#') {
                remember(&mut comments, comment, physical.start + line.len() - comment.len());
            } else if body.is_empty() {
                comments.clear();
            } else {
                let start = physical.start + line.len() - body.len();
                return Some(self.join(comments, body, start, problems));
            }
        }
        None
    }

    /// The bodies that follow the line just given, in order; None for the first that has no end.
    pub(crate) fn bodies(&mut self, words: &[HeredocWord]) -> Result<Vec<Body<'a>>, usize> {
        words.iter().enumerate().map(|(nth, word)| self.body(word).ok_or(nth)).collect()
    }

    fn body(&mut self, word: &HeredocWord) -> Option<Body<'a>> {
        let start = self.at;
        while let Some(physical) = self.physical() {
            let mut line = physical.bytes;
            if word.chomp {
                let tabs = line.iter().take_while(|byte| **byte == b'\t').count();
                line = &line[tabs..];
            }
            if line == word.name.as_bytes() {
                let end = physical.start + physical.bytes.len();
                return Some(Body { bytes: &self.text[start..physical.start], start, end });
            }
        }
        None
    }

    /// Joins the lines that continue `first`.
    fn join(
        &mut self,
        comments: Vec<Spanned<String>>,
        first: &str,
        start: usize,
        problems: &mut Problems,
    ) -> LogicalLine {
        let mut line = LogicalLine {
            text: String::new(),
            map: SourceMap::default(),
            comments,
            empty_continuation: None,
            broken: false,
        };
        line.map.push(0, start);
        let mut continued = self.append(&mut line.text, first);
        while continued {
            let Some(physical) = self.physical() else { break };
            let Some(next) = decode(&physical, problems) else {
                line.broken = true;
                continue;
            };
            let body = next.trim_start();
            if body.is_empty() {
                line.empty_continuation = Some(physical.span());
            } else if !body.starts_with('#') {
                line.map.push(line.text.len(), physical.start);
                continued = self.append(&mut line.text, next);
                if line.text.len() > MAX_LINE_BYTES {
                    // Nothing is gained by collecting more: it is an error already.
                    line.broken |= too_long(line.map.span(0, 1), line.broken, problems);
                    line.text.clear();
                }
            }
        }
        if let Some(nul) = line.text.find('\0') {
            let problem = Problem::new("the instruction contains a NUL byte", line.map.span(nul, nul + 1));
            problems.push(problem.with_hint("no command, path or variable can hold one: remove it"));
            line.broken = true;
        }
        line
    }

    /// Appends a physical line without its continuation mark; says whether there was one.
    fn append(&self, text: &mut String, line: &str) -> bool {
        let marked = line.trim_end_matches([' ', '\t']).strip_suffix(self.escape);
        match marked {
            // Twice the escape character is the character itself, and no continuation.
            Some(before) if !before.ends_with(self.escape) => {
                text.push_str(before);
                true
            }
            _ => {
                text.push_str(line);
                false
            }
        }
    }

    fn broken(&self, comments: Vec<Spanned<String>>, physical: &Physical<'_>) -> LogicalLine {
        let mut map = SourceMap::default();
        map.push(0, physical.start);
        LogicalLine { text: String::new(), map, comments, empty_continuation: None, broken: true }
    }

    fn physical(&mut self) -> Option<Physical<'a>> {
        if self.at >= self.text.len() {
            return None;
        }
        let start = self.at;
        self.at = crate::directives::next_line(self.text, start);
        let mut bytes = &self.text[start..self.at];
        while let [rest @ .., b'\r' | b'\n'] = bytes {
            bytes = rest;
        }
        Some(Physical { bytes, start })
    }
}

impl Physical<'_> {
    fn span(&self) -> Span {
        Span::new(self.start, self.start + self.bytes.len())
    }
}

/// The line as text. Comments may hold any bytes, since nobody reads them; instructions may not.
fn decode<'a>(physical: &Physical<'a>, problems: &mut Problems) -> Option<&'a str> {
    let bytes = physical.bytes;
    if bytes.len() > MAX_LINE_BYTES {
        too_long(Span::new(physical.start, physical.start + 1), false, problems);
        return None;
    }
    match std::str::from_utf8(bytes) {
        Ok(line) => Some(line),
        Err(_) if bytes.trim_ascii_start().starts_with(b"#") => Some("# "),
        Err(error) => {
            let at = physical.start + error.valid_up_to();
            let problem = Problem::new("the line is not valid UTF-8", Span::new(at, at + 1));
            problems.push(problem.with_hint("save the file as UTF-8"));
            None
        }
    }
}

fn too_long(span: Span, known: bool, problems: &mut Problems) -> bool {
    if !known {
        let message = format!("dockerfile line greater than max allowed size of {MAX_LINE_BYTES}");
        problems.push(Problem::new(message, span).with_hint("move the data into a file and COPY it"));
    }
    true
}

/// Keeps a comment; an empty one separates what is above it from the instruction.
fn remember(comments: &mut Vec<Spanned<String>>, comment: &str, start: usize) {
    let text = comment.trim();
    if text.is_empty() {
        comments.clear();
    } else {
        let start = start + comment.len() - comment.trim_start().len();
        comments.push(Spanned::new(text.to_owned(), Span::new(start, start + text.len())));
    }
}
