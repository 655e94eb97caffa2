//! The whole file: directives, then one instruction after another, gathered into stages.

use crate::ast::{Arg, Dockerfile, From, Instruction, Kind, Stage};
use crate::check::{self, CheckConfig, Warning};
use crate::context::Context;
use crate::directives;
use crate::flags::{Flags, Known, Type};
use crate::grammar::{self, Head};
use crate::heredoc::{self, Body, HeredocWord};
use crate::instruction;
use crate::limits::{MAX_FILE_BYTES, MAX_INSTRUCTIONS, MAX_WORDS};
use crate::lines::{Lines, LogicalLine};
use crate::problem::{Problem, Problems};
use crate::span::{Span, Spanned};
use std::collections::HashMap;

/// A Dockerfile that can be built from, and what the build checks say of it.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The file as data.
    pub dockerfile: Dockerfile,
    /// What the checks that need only the text found, in the order of the text, as `# check=` lets through.
    pub warnings: Vec<Warning>,
    /// The `# check=` options in force, for the checks that need more than the text.
    pub checks: CheckConfig,
}

/// Reads a Dockerfile, or finds every problem in it.
pub fn parse(text: &[u8]) -> Result<Parsed, Vec<Problem>> {
    parse_with_checks(text, None)
}

/// The same with check options that stand in for the file's own `# check=` directive, as the build argument
/// `BUILDKIT_DOCKERFILE_CHECK` gives them.
pub fn parse_with_checks(text: &[u8], options: Option<&str>) -> Result<Parsed, Vec<Problem>> {
    let mut problems = Problems::default();
    if text.len() > MAX_FILE_BYTES {
        let message = format!("the Dockerfile is larger than {MAX_FILE_BYTES} bytes");
        return Err(vec![
            Problem::new(message, Span::new(0, 0)).with_hint("COPY data instead of writing it here"),
        ]);
    }
    let zone = directives::read(text, &mut problems);
    if let Some(problem) = directives::foreign_frontend(&zone.directives).filter(|_| zone.foreign) {
        return Err(vec![problem]);
    }
    let mut file = File::new(zone.directives.escape);
    file.read(Lines::new(text, zone.end, zone.directives.escape), &mut problems);
    file.check_whole(text, &mut problems);
    let given = options.map(|options| Spanned::new(options.to_owned(), Span::default()));
    let directive = given.as_ref().or(zone.directives.check.as_ref());
    let checks = CheckConfig::of_file(directive, &file.notes.comments, &mut problems);
    if !problems.is_empty() {
        return Err(problems.into_sorted());
    }
    let dockerfile =
        Dockerfile { directives: zone.directives, global_args: file.global_args, stages: file.stages };
    let warnings = check::check(&dockerfile, &file.notes, &checks);
    Ok(Parsed { dockerfile, warnings, checks })
}

/// Reads one ONBUILD trigger as an image's config has it. Spans are those of `text`.
pub fn parse_trigger(text: &str, escape: char) -> Result<Instruction, Vec<Problem>> {
    let mut problems = Problems::default();
    if text.len() > MAX_FILE_BYTES {
        let message = format!("the trigger is larger than {MAX_FILE_BYTES} bytes");
        return Err(vec![Problem::new(message, Span::new(0, 0))]);
    }
    let mut file = File::new(escape);
    file.trigger = true;
    file.read(Lines::new(text.as_bytes(), 0, escape), &mut problems);
    let mut instructions = file.stages.into_iter().flat_map(|stage| stage.instructions);
    match (instructions.next(), instructions.next()) {
        _ if !problems.is_empty() => Err(problems.into_sorted()),
        (Some(instruction), None) => Ok(instruction),
        _ => {
            Err(vec![Problem::new("onbuild trigger should be a single expression", Span::new(0, text.len()))])
        }
    }
}

/// What the checks want to know and the AST does not say.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Blank lines between continued ones.
    pub(crate) empty_continuations: Vec<Span>,
    /// The comments directly above each instruction that has some, and that instruction.
    pub(crate) comments: Vec<(Vec<Spanned<String>>, Span)>,
    /// The ARG instructions before the first FROM: where, and the names.
    pub(crate) global_args: Vec<(Span, Vec<String>)>,
}

struct File {
    escape: char,
    global_args: Vec<Spanned<Arg>>,
    stages: Vec<Stage>,
    notes: Notes,
    count: usize,
    words: usize,
    /// A FROM was seen, be it one that could not be read.
    from_seen: bool,
    /// An instruction before any FROM was reported.
    stray_seen: bool,
    /// The text is one instruction for a stage that is not here.
    trigger: bool,
}

impl File {
    fn new(escape: char) -> Self {
        Self {
            escape,
            global_args: Vec::new(),
            stages: Vec::new(),
            notes: Notes::default(),
            count: 0,
            words: 0,
            from_seen: false,
            stray_seen: false,
            trigger: false,
        }
    }

    fn read(&mut self, mut lines: Lines<'_>, problems: &mut Problems) {
        while let Some(line) = lines.next(problems) {
            self.count += 1;
            if self.count > MAX_INSTRUCTIONS {
                let message = format!("the Dockerfile has more than {MAX_INSTRUCTIONS} instructions");
                let problem = Problem::new(message, line.map.span(0, line.text.len().min(1)));
                problems.push(problem.with_hint("join RUN instructions, or split the file"));
                return;
            }
            self.notes.empty_continuations.extend(line.empty_continuation);
            if !line.broken && !self.instruction(line, &mut lines, problems) {
                return;
            }
        }
    }

    /// Takes one instruction in; false where nothing after it can be read.
    fn instruction(&mut self, line: LogicalLine, lines: &mut Lines<'_>, problems: &mut Problems) -> bool {
        let text = line.text.trim_end();
        let Some(head) = grammar::instruction(text) else {
            let problem = Problem::new("unknown instruction: ", line.map.span(0, 0));
            problems.push(problem.with_hint("the line holds nothing but a continuation mark: remove it"));
            return true;
        };
        self.words += instruction::count_words(&head);
        if self.words > MAX_WORDS {
            let message = format!("the Dockerfile has more than {MAX_WORDS} words");
            let problem = Problem::new(message, line.map.span(0, head.name.text.len()));
            problems.push(problem.with_hint("move lists and data into files"));
            return false;
        }
        let words = if text.contains("<<") && instruction::takes_heredocs(&head) {
            grammar::heredocs(text)
        } else {
            Vec::new()
        };
        let bodies = match lines.bodies(&words) {
            Ok(bodies) => bodies,
            Err(nth) => {
                let word = &words[nth];
                let problem =
                    Problem::new("unterminated heredoc", line.map.span(word.range.start, word.range.end));
                problems.push(
                    problem.with_hint(format!("write a line that holds {} and nothing else", word.name)),
                );
                return false;
            }
        };
        let end = bodies.last().map_or_else(|| line.map.span(0, text.len()).end, |body| body.end);
        self.with_bodies(&line, head, &words, &bodies, end, problems);
        true
    }

    fn with_bodies(
        &mut self,
        line: &LogicalLine,
        head: Head<'_>,
        words: &[HeredocWord],
        bodies: &[Body<'_>],
        end: usize,
        problems: &mut Problems,
    ) {
        let text = line.text.trim_end();
        let mut heredocs = Vec::with_capacity(bodies.len());
        let mut appended = String::new();
        for (word, body) in words.iter().zip(bodies) {
            match std::str::from_utf8(body.bytes) {
                Ok(content) => {
                    heredocs.push(heredoc::heredoc(word, content));
                    appended.push('\n');
                    appended.push_str(content);
                    appended.push_str(&word.name);
                }
                Err(error) => {
                    let at = body.start + error.valid_up_to();
                    let problem = Problem::new("the heredoc is not valid UTF-8", Span::new(at, at + 1));
                    problems.push(problem.with_hint("COPY files that are no text"));
                    return;
                }
            }
        }
        let span = Span::new(line.map.span(0, 0).start, end);
        if !line.comments.is_empty() {
            self.notes.comments.push((line.comments.clone(), span));
        }
        let name = head.name.text.to_ascii_uppercase();
        let mut context = Context::new(self.escape, &heredocs, &line.map, problems);
        if name == "FROM" && !self.trigger {
            self.from_seen = true;
            let mut context = context.instruction(&name, head.name.range());
            if let Some(from) = from(head, &mut context) {
                let doc = doc(&line.comments);
                self.stages.push(Stage {
                    from,
                    span,
                    source: text.to_owned(),
                    doc,
                    instructions: Vec::new(),
                });
            }
            return;
        }
        if name == "FROM" || self.trigger && (name == "ONBUILD" || name == "MAINTAINER") {
            let mut context = context.instruction(&name, head.name.range());
            context.refuse(
                format!("{name} isn't allowed as an ONBUILD trigger"),
                "remove it from the base image",
            );
            return;
        }
        let place = context.span(head.name.range());
        if let Some(instruction) = instruction::build(head, text, &appended, end, &mut context) {
            self.place(documented(instruction, &line.comments), place, problems);
        }
    }

    /// Adds an instruction to where it belongs.
    fn place(&mut self, instruction: Instruction, name: Span, problems: &mut Problems) {
        match (self.stages.last_mut(), instruction.kind) {
            (Some(stage), kind) if self.from_seen => {
                stage.instructions.push(Instruction { kind, ..instruction });
            }
            (None, kind) if self.trigger => {
                let image = Spanned::new(String::new(), Span::default());
                let from = From { image, platform: None, name: None };
                let instructions = vec![Instruction { kind, ..instruction }];
                let span = Span::default();
                self.stages.push(Stage { from, span, source: String::new(), doc: None, instructions });
            }
            (Some(stage), kind) => stage.instructions.push(Instruction { kind, ..instruction }),
            (None, Kind::Arg(args)) if !self.from_seen => {
                let names = args.iter().map(|arg| arg.name.clone()).collect();
                self.notes.global_args.push((instruction.span, names));
                self.global_args.extend(args);
            }
            // Behind a FROM that could not be read there is enough to complain about already.
            (None, _) if self.from_seen || std::mem::replace(&mut self.stray_seen, true) => {}
            (None, _) => {
                let problem = Problem::new("no build stage in current context", name);
                problems.push(problem.with_hint("begin with FROM; only ARG may come before it"));
            }
        }
    }

    /// Complaints that concern no single line.
    fn check_whole(&self, text: &[u8], problems: &mut Problems) {
        if !problems.is_empty() {
            return;
        }
        let message = if text.is_empty() {
            "the Dockerfile cannot be empty"
        } else if self.count == 0 {
            "file with no instructions"
        } else if !self.from_seen {
            "dockerfile contains no stages to build"
        } else {
            return;
        };
        problems.push(Problem::new(message, Span::new(0, 0)).with_hint("begin with FROM and a base image"));
    }
}

const FROM_FLAGS: [Known; 1] = [("platform", Type::Text)];

fn from(head: Head<'_>, context: &mut Context<'_>) -> Option<From> {
    let flags = Flags::read(head.flags, &FROM_FLAGS, context);
    let mut context = context.within(head.arguments.start);
    let Some((image, name)) = grammar::from(head.arguments.text) else {
        let hint = "write FROM image, or FROM image AS name";
        context.refuse("FROM requires either one or three arguments".to_owned(), hint);
        return None;
    };
    let name = match name {
        None => None,
        Some(written) => {
            let name = written.text.to_lowercase();
            let span = context.span(written.range());
            if !is_stage_name(&name) {
                let message = format!(
                    "invalid name for build stage: {:?}, name can't start with a number or contain symbols",
                    crate::context::brief(written.text)
                );
                let hint = "begin with a letter; go on with letters, digits, '-', '_' and '.'";
                context.report(Problem::new(message, span).with_hint(hint));
            }
            Some(Spanned::new(name, span))
        }
    };
    Some(From { image: context.spanned(&image), platform: flags.text("platform"), name })
}

fn is_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.'))
}

/// The comments above FROM. What configures checks documents nothing.
fn doc(comments: &[Spanned<String>]) -> Option<String> {
    let lines: Vec<&str> = comments
        .iter()
        .map(|comment| comment.value.as_str())
        .filter(|comment| check::comment_option(comment).is_none())
        .collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// ARGs with the comments that describe them: `# name text`.
fn documented(mut instruction: Instruction, comments: &[Spanned<String>]) -> Instruction {
    if let Kind::Arg(args) = &mut instruction.kind
        && !comments.is_empty()
    {
        // The first comment of a name counts.
        let described: HashMap<&str, &str> =
            comments.iter().rev().filter_map(|comment| comment.value.split_once(' ')).collect();
        for arg in args {
            arg.value.doc = described.get(arg.value.name.as_str()).map(|text| text.trim().to_owned());
        }
    }
    instruction
}
