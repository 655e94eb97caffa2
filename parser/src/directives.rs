//! The parser directives of a file's first lines: `# syntax=`, `# escape=`, `# check=`.
//!
//! They end with the first line that is none: an instruction, an ordinary comment, a blank line, an unknown key.

use crate::ast::Directives;
use crate::problem::{Problem, Problems};
use crate::span::{Span, Spanned};

/// The byte order mark that some editors put before the first line.
pub(crate) const BOM: &[u8] = b"\xEF\xBB\xBF";

/// The directives and where the rest of the file begins.
pub(crate) struct Zone {
    pub(crate) directives: Directives,
    /// Offset of the first line that is no directive.
    pub(crate) end: usize,
    /// The file says in another language's way that it is for another frontend.
    pub(crate) foreign: bool,
}

/// Reads the directives of `text`.
pub(crate) fn read(text: &[u8], problems: &mut Problems) -> Zone {
    let mut directives = Directives { escape: '\\', syntax: None, check: None };
    let mut at = if text.starts_with(BOM) { BOM.len() } else { 0 };
    let shebang = text[at..].starts_with(b"#!");
    if shebang {
        at = next_line(text, at);
    }
    let mut escape_seen = false;
    let mut prefix = None;
    while at < text.len() {
        let end = next_line(text, at);
        let Some(found) = directive(&text[at..end], at, prefix) else { break };
        prefix = Some(found.prefix);
        let duplicate = match found.key.as_str() {
            // A `#!` line is an ordinary comment to the language, so nothing after it can change the escape
            // character; only the look for a frontend and for check options passes it by.
            "escape" if shebang => break,
            "escape" => {
                match found.value.value.as_str() {
                    "\\" => directives.escape = '\\',
                    "`" => directives.escape = '`',
                    other => problems.push(
                        Problem::new(
                            format!("invalid escape token '{other}' does not match ` or \\"),
                            found.value.span,
                        )
                        .with_hint("write `# escape=\\` or `# escape=` followed by a backquote"),
                    ),
                }
                std::mem::replace(&mut escape_seen, true)
            }
            "syntax" => directives.syntax.replace(found.value).is_some(),
            _ => directives.check.replace(found.value).is_some(),
        };
        if duplicate {
            problems.push(
                Problem::new(format!("only one {} parser directive can be used", found.key), found.span)
                    .with_hint("remove this line"),
            );
        }
        at = end;
    }
    let mut foreign = prefix == Some("//");
    if directives.syntax.is_none() {
        directives.syntax = json_syntax(text);
        foreign |= directives.syntax.is_some();
    }
    foreign &= directives.syntax.as_ref().is_some_and(|syntax| !is_builtin_frontend(&syntax.value));
    Zone { directives, end: at, foreign }
}

/// What is wrong where a file is for a frontend that is not built in. Only whoever knows that no build argument
/// names another may say so.
pub fn foreign_frontend(directives: &Directives) -> Option<Problem> {
    let syntax = directives.syntax.as_ref().filter(|syntax| !is_builtin_frontend(&syntax.value))?;
    let message = format!("the frontend {:?} is not supported", crate::context::brief(&syntax.value));
    Some(Problem::new(message, syntax.span).with_hint("only docker/dockerfile is, and it is built in"))
}

/// Whether a `# syntax=` value names the frontend that is built in, so that nothing need be pulled for it.
/// Whatever follows the first blank is the frontend's own command line.
pub fn is_builtin_frontend(syntax: &str) -> bool {
    let reference = syntax.split_whitespace().next().unwrap_or_default();
    let reference = reference.split('@').next().unwrap_or_default();
    let path = reference
        .strip_prefix("docker.io/")
        .or_else(|| reference.strip_prefix("index.docker.io/"))
        .unwrap_or(reference);
    let name = path.split(':').next().unwrap_or_default();
    matches!(name, "docker/dockerfile" | "docker/dockerfile-upstream" | "dockerfile.v0")
}

struct Found {
    prefix: &'static str,
    key: String,
    value: Spanned<String>,
    span: Span,
}

/// `# key = value` with a known key, or `// syntax = value` as files for other languages have it.
fn directive(line: &[u8], offset: usize, expected: Option<&'static str>) -> Option<Found> {
    let line = std::str::from_utf8(line).ok()?;
    let body = line.trim_start();
    let prefix = if body.starts_with('#') { "#" } else { "//" };
    if expected.is_some_and(|expected| expected != prefix) {
        return None;
    }
    let (key, value) = body.strip_prefix(prefix)?.split_once('=')?;
    let key = key.trim().to_ascii_lowercase();
    let known = if prefix == "#" { ["syntax", "escape", "check"].as_slice() } else { ["syntax"].as_slice() };
    let value_text = value.trim();
    if !known.contains(&key.as_str()) || value_text.is_empty() {
        return None;
    }
    let start = offset + line.len() - value.trim_start().len();
    let value = Spanned::new(value_text.to_owned(), Span::new(start, start + value_text.len()));
    let span = Span::new(offset + line.len() - body.len(), start + value_text.len());
    Some(Found { prefix, key, value, span })
}

/// `{"syntax": "…"}`: a file of another language that begins with a JSON object.
fn json_syntax(text: &[u8]) -> Option<Spanned<String>> {
    let begin = text.iter().position(|byte| !byte.is_ascii_whitespace())?;
    if text[begin] != b'{' {
        return None;
    }
    let mut values = serde_json::Deserializer::from_slice(&text[begin..]).into_iter::<serde_json::Value>();
    let object = values.next()?.ok()?;
    let syntax = object.get("syntax")?.as_str()?.to_owned();
    Some(Spanned::new(syntax, Span::new(begin, begin + values.byte_offset())))
}

/// Offset of the line after the one that `at` is in.
pub(crate) fn next_line(text: &[u8], at: usize) -> usize {
    text[at..].iter().position(|byte| *byte == b'\n').map_or(text.len(), |found| at + found + 1)
}
