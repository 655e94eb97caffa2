//! `--call`: a Dockerfile looked at instead of built. The shapes of text and JSON are those of BuildKit's
//! subrequests, which editors and CI scripts read.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use forge_parser::expand::Expander;
use forge_parser::{LineIndex, Outline, Parsed, Span, Target, Warning};
use serde_json::{Value, json};

use super::request::usage;
use crate::args::Build;
use crate::dockerfile::LoadedDockerfile;
use crate::failure::{Failure, Kind};

/// What is asked of the Dockerfile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// To be built.
    Build,
    /// What the build checks say of it.
    Check,
    /// What its target takes.
    Outline,
    /// What targets it has.
    Targets,
}

/// `--call=METHOD[,format=json]`, or `--check`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// What is asked.
    pub method: Method,
    /// Answered in JSON.
    pub json: bool,
}

impl Call {
    /// Reads the flags.
    pub fn new(args: &Build) -> Result<Self, Failure> {
        let mut call = Self { method: if args.check { Method::Check } else { Method::Build }, json: false };
        for part in args.call.iter().flat_map(|text| text.split(',')) {
            match part.strip_prefix("format=").map_or((part, None), |format| ("", Some(format))) {
                (_, Some("json")) => call.json = true,
                (_, Some("text")) => call.json = false,
                ("build", None) => {}
                ("check" | "lint", None) => call.method = Method::Check,
                ("outline", None) => call.method = Method::Outline,
                ("targets", None) => call.method = Method::Targets,
                _ => {
                    let hint = "write check, outline, targets or build, and perhaps ,format=json";
                    return Err(usage(&format!("--call: there is no `{part}`"), hint));
                }
            }
        }
        Ok(call)
    }

    /// The answer of a method that needs the text alone; none for those that need a plan.
    pub fn answer(
        self,
        parsed: &Parsed,
        loaded: &LoadedDockerfile,
        args: &BTreeMap<String, String>,
        target: Option<&str>,
    ) -> Result<Option<String>, Failure> {
        let shown = Shown { lines: LineIndex::new(&loaded.bytes), loaded };
        match self.method {
            Method::Build | Method::Check => Ok(None),
            Method::Targets => {
                let targets = forge_parser::targets(&parsed.dockerfile);
                Ok(Some(if self.json { shown.targets_json(&targets) } else { targets_text(&targets) }))
            }
            Method::Outline => {
                let outline = forge_parser::outline(&parsed.dockerfile, target).ok_or_else(|| {
                    let message = format!("target stage {:?} could not be found", target.unwrap_or_default());
                    Failure::new(Kind::Input, message, Some("list them with --call=targets".into()))
                })?;
                let values = values(parsed, &outline, args);
                Ok(Some(match self.json {
                    true => shown.outline_json(&outline, &values),
                    false => outline_text(&outline, &values),
                }))
            }
        }
    }

    /// What the checks found: all of it, and how it should end.
    pub fn findings(self, warnings: &[Warning], loaded: &LoadedDockerfile) -> (String, Result<(), Failure>) {
        let shown = Shown { lines: LineIndex::new(&loaded.bytes), loaded };
        let text = if self.json { shown.check_json(warnings) } else { shown.check_text(warnings) };
        let end = if warnings.is_empty() { Ok(()) } else { Err(Failure::silent(Kind::Exit(1))) };
        (text, end)
    }

    /// A check that found the file wrong, told where JSON is expected.
    pub fn refusal(self, failure: &Failure) -> Option<String> {
        let told = self.method == Method::Check && self.json && !failure.reports.is_empty();
        told.then(|| {
            let error = json!({ "message": failure.reports.join("\n\n") });
            pretty(&json!({ "warnings": [], "sources": [], "buildError": error }))
        })
    }
}

/// A Dockerfile that is shown: places become lines of it.
struct Shown<'a> {
    lines: LineIndex,
    loaded: &'a LoadedDockerfile,
}

/// How many lines around a place are shown, where it is one line and where it is more.
const PADDING: (usize, usize) = (4, 2);

impl Shown<'_> {
    /// The lines of a place: first and last, from 1.
    fn range(&self, span: Span) -> (usize, usize) {
        let (first, _) = self.lines.line_col(span.start);
        let (last, _) = self.lines.line_col(span.end.saturating_sub(1).max(span.start));
        (first, last)
    }

    fn location(&self, span: Span) -> Value {
        let (first, last) = self.range(span);
        let at = |line: usize| json!({ "line": line, "character": 0 });
        json!({ "sourceIndex": 0, "ranges": [{ "start": at(first), "end": at(last) }] })
    }

    fn data(&self) -> String {
        STANDARD.encode(&self.loaded.bytes)
    }

    /// The lines around a place, those of the place marked; as BuildKit prints them.
    fn excerpt(&self, span: Span) -> String {
        let lines: Vec<&str> = self.loaded.source.text.split('\n').collect();
        let (first, last) = self.range(span);
        let (mut start, mut end) = (first, last.min(lines.len()));
        let (padding, mut added) = (if first == last { PADDING.0 } else { PADDING.1 }, 0);
        while added < padding {
            if start > 1 {
                start -= 1;
                added += 1;
            }
            if end < lines.len() {
                end += 1;
                added += 1;
            }
            added += 1;
        }
        let rule = "-".repeat(20);
        let mut text = format!("{}:{first}\n{rule}\n", self.loaded.source.name);
        for number in start..=end {
            let mark = if (first..=last).contains(&number) { ">>>" } else { "   " };
            let line = crate::progress::for_terminal(lines[number - 1].trim_end_matches('\r'));
            let _ = writeln!(text, " {number:>3} | {mark} {line}");
        }
        text + &rule
    }

    fn check_text(&self, warnings: &[Warning]) -> String {
        let mut text = match warnings.len() {
            0 => return "Check complete, no warnings found.".to_owned(),
            1 => "Check complete, 1 warning has been found!".to_owned(),
            n => format!("Check complete, {n} warnings have been found!"),
        };
        for warning in warnings {
            let Warning { rule, message, span, hint } = warning;
            let _ = write!(text, "\n\nWARNING: {rule} - {}\n{message}\n", rule.url());
            if let Some(hint) = hint {
                let _ = writeln!(text, "help: {hint}");
            }
            text.push_str(&self.excerpt(*span));
        }
        text
    }

    fn check_json(&self, warnings: &[Warning]) -> String {
        let warning = |warning: &Warning| {
            json!({
                "ruleName": warning.rule.name(),
                "description": warning.rule.description(),
                "url": warning.rule.url(),
                "detail": warning.message,
                "location": self.location(warning.span),
            })
        };
        let source = json!({
            "filename": self.loaded.source.name,
            "language": "Dockerfile",
            "data": self.data(),
        });
        pretty(&json!({ "warnings": warnings.iter().map(warning).collect::<Vec<_>>(), "sources": [source] }))
    }

    fn targets_json(&self, targets: &[Target]) -> String {
        let target = |target: &Target| {
            let mut value = json!({ "base": target.base, "location": self.location(target.span) });
            set(&mut value, "name", target.name.as_deref());
            set(&mut value, "description", target.description.as_deref());
            set(&mut value, "platform", target.platform.as_deref());
            if target.default {
                value["default"] = true.into();
            }
            value
        };
        pretty(
            &json!({ "targets": targets.iter().map(target).collect::<Vec<_>>(), "sources": [self.data()] }),
        )
    }

    fn outline_json(&self, outline: &Outline, values: &BTreeMap<String, String>) -> String {
        let mut value = json!({ "sources": [self.data()] });
        set(&mut value, "name", outline.name.as_deref());
        set(&mut value, "description", outline.description.as_deref());
        let args = outline.args.iter().map(|arg| {
            let mut value = json!({ "name": arg.name, "location": self.location(arg.span) });
            set(&mut value, "description", arg.description.as_deref());
            set(&mut value, "value", values.get(&arg.name).map(String::as_str));
            value
        });
        let mount = |mount: &forge_parser::outline::OutlineMount| {
            let mut value = json!({ "name": mount.id, "location": self.location(mount.span) });
            if mount.required {
                value["required"] = true.into();
            }
            value
        };
        let caches = outline
            .caches
            .iter()
            .map(|cache| json!({ "ID": cache.id, "location": self.location(cache.span) }));
        let lists: [(&str, Vec<Value>); 4] = [
            ("args", args.collect()),
            ("secrets", outline.secrets.iter().map(mount).collect()),
            ("ssh", outline.ssh.iter().map(mount).collect()),
            ("cache", caches.collect()),
        ];
        for (name, list) in lists {
            if !list.is_empty() {
                value[name] = list.into();
            }
        }
        pretty(&value)
    }
}

/// Adds a text that is there and not empty.
fn set(value: &mut Value, name: &str, text: Option<&str>) {
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        value[name] = text.into();
    }
}

fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

/// What the ARGs of an outline are worth: given, or by default; one ARG may use those before it.
fn values(parsed: &Parsed, outline: &Outline, given: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let expander = Expander { escape: parsed.dockerfile.directives.escape };
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    for arg in &outline.args {
        let value = match (given.get(&arg.name), &arg.default) {
            (Some(given), _) => Some(given.clone()),
            // What needs the machine or the base image is shown as it is written.
            (None, Some(default)) => match expander.word(default, &values) {
                Ok(expanded) if expanded.undefined.is_empty() => Some(expanded.text),
                _ => Some(default.clone()),
            },
            (None, None) => None,
        };
        values.extend(value.map(|value| (arg.name.clone(), value)));
    }
    values
}

fn targets_text(targets: &[Target]) -> String {
    let mut rows = vec![["TARGET".to_owned(), "DESCRIPTION".to_owned()]];
    for target in targets {
        let name = match (&target.name, target.default) {
            (Some(name), true) => format!("{name} (default)"),
            (Some(name), false) => name.clone(),
            (None, true) => "(default)".to_owned(),
            (None, false) => String::new(),
        };
        rows.push([name, target.description.clone().unwrap_or_default()]);
    }
    table(&rows, 2)
}

fn outline_text(outline: &Outline, values: &BTreeMap<String, String>) -> String {
    let mut parts = Vec::new();
    if outline.name.is_some() || outline.description.is_some() {
        let name = outline.name.clone().unwrap_or_else(|| "(default)".into());
        let mut rows = vec![["TARGET:".to_owned(), name]];
        rows.extend(outline.description.clone().map(|text| ["DESCRIPTION:".to_owned(), text]));
        parts.push(table(&rows, 1));
    }
    if !outline.args.is_empty() {
        let mut rows = vec![["BUILD ARG".to_owned(), "VALUE".to_owned(), "DESCRIPTION".to_owned()]];
        rows.extend(outline.args.iter().map(|arg| {
            let value = values.get(&arg.name).cloned().unwrap_or_default();
            [arg.name.clone(), value, arg.description.clone().unwrap_or_default()]
        }));
        parts.push(table(&rows, 3));
    }
    for (title, mounts) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        if !mounts.is_empty() {
            let mut rows = vec![[title.to_owned(), "REQUIRED".to_owned()]];
            let required = |required: bool| if required { "true".to_owned() } else { String::new() };
            rows.extend(mounts.iter().map(|mount| [mount.id.clone(), required(mount.required)]));
            parts.push(table(&rows, 3));
        }
    }
    parts.join("\n\n")
}

/// Columns side by side, `gap` blanks between them.
fn table<const N: usize>(rows: &[[String; N]], gap: usize) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0) + gap;
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{:<width$}", crate::progress::for_terminal(cell));
        }
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}
