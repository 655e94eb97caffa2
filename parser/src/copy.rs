//! COPY and ADD: sources, destination, and what can be said of both before anything is looked up.

use crate::ast::{Add, Copy, CopyFlags, Heredoc, Source};
use crate::chmod::Chmod;
use crate::context::{Context, brief};
use crate::flags::{Flags, Known, Type};
use crate::grammar::{self, CopyWord};
use crate::instruction::refuse_array;
use crate::json::{self, Json};
use crate::problem::Problem;
use crate::remote::{is_git_reference, is_url};
use crate::span::Spanned;

pub(crate) const COPY_FLAGS: [Known; 6] = [
    ("from", Type::Text),
    ("chown", Type::Text),
    ("chmod", Type::Text),
    ("link", Type::Boolean),
    ("parents", Type::Boolean),
    ("exclude", Type::List),
];

pub(crate) const ADD_FLAGS: [Known; 7] = [
    ("chown", Type::Text),
    ("chmod", Type::Text),
    ("link", Type::Boolean),
    ("keep-git-dir", Type::Boolean),
    ("checksum", Type::Text),
    ("unpack", Type::Boolean),
    ("exclude", Type::List),
];

pub(crate) fn copy(text: &str, flags: &Flags, context: &mut Context<'_>) -> Option<Copy> {
    let Operands { sources, dest, json } = operands(text, context)?;
    for source in &sources {
        let Source::Path(path) = &source.value else { continue };
        let what = match path {
            path if is_git_reference(path) => "a git ref",
            path if is_url(path) => "a URL",
            _ => continue,
        };
        let problem = Problem::new(format!("source can't be {what} for COPY"), source.span);
        context.report(problem.with_hint("use ADD for it"));
    }
    let from = flags.text("from");
    if let Some(from) = from.as_ref().filter(|from| from.value.contains('$')) {
        let message = "variable expansion is not supported for --from, define a new stage with FROM using ARG \
                       from global scope as a workaround";
        let hint = format!("write `FROM {} AS source` above this stage, and --from=source", from.value);
        context.report(Problem::new(message, from.span).with_hint(hint));
    }
    let parents = flags.boolean("parents") == Some(true);
    Some(Copy { sources, dest, json, from, flags: shared(flags, context), parents })
}

pub(crate) fn add(text: &str, flags: &Flags, context: &mut Context<'_>) -> Option<Add> {
    let Operands { sources, dest, json } = operands(text, context)?;
    let checksum = flags.text("checksum");
    if let Some(checksum) = &checksum {
        check_checksum(checksum, &sources, context);
    }
    Some(Add {
        sources,
        dest,
        json,
        flags: shared(flags, context),
        checksum,
        keep_git_dir: flags.boolean("keep-git-dir"),
        unpack: flags.boolean("unpack"),
    })
}

struct Operands {
    sources: Vec<Spanned<Source>>,
    dest: Spanned<String>,
    json: bool,
}

fn operands(text: &str, context: &mut Context<'_>) -> Option<Operands> {
    let (mut words, json) = match json::read(text) {
        Json::Strings(strings) => {
            let path = |(word, range)| Spanned::new(Source::Path(word), context.span(range));
            (strings.into_iter().map(path).collect::<Vec<_>>(), true)
        }
        Json::No => (sources(text, context), false),
        Json::NotOnlyStrings => {
            refuse_array(text, context);
            return None;
        }
    };
    let dest = words.pop();
    let Some(dest) = dest.filter(|_| !words.is_empty()) else {
        let message = format!(
            "{} requires at least two arguments, but only one was provided. Destination could not be determined",
            context.name
        );
        context.refuse(message, "write the sources and then the destination");
        return None;
    };
    match dest.value {
        Source::Path(path) => Some(Operands { sources: words, dest: Spanned::new(path, dest.span), json }),
        Source::Heredoc(_) => {
            let message = format!("{} cannot accept a heredoc as a destination", context.name);
            context.report(Problem::new(message, dest.span).with_hint("write the destination last"));
            None
        }
    }
}

/// The words, each heredoc with the body that was found for it.
fn sources(text: &str, context: &mut Context<'_>) -> Vec<Spanned<Source>> {
    let mut bodies = context.heredocs.iter().cloned();
    let words = grammar::copy_words(text).into_iter();
    words
        .map(|word| match word {
            CopyWord::Path(path) => {
                Spanned::new(Source::Path(path.text.to_owned()), context.span(path.range()))
            }
            CopyWord::Heredoc(word) => {
                let span = context.span(word.range.clone());
                let body = bodies.next().filter(|body| body.name == word.name);
                Spanned::new(
                    Source::Heredoc(body.unwrap_or_else(|| missing(&word.name, span, context))),
                    span,
                )
            }
        })
        .collect()
}

/// A heredoc whose body was not looked for, since the line as a whole is not made of whole words.
fn missing(name: &str, span: crate::span::Span, context: &mut Context<'_>) -> Heredoc {
    let problem = Problem::new("unterminated heredoc", span);
    context.report(problem.with_hint("a quote in this line is not closed, so that no heredoc is read"));
    Heredoc { name: name.to_owned(), content: String::new(), expand: false, chomp: false, fd: None }
}

fn shared(flags: &Flags, context: &mut Context<'_>) -> CopyFlags {
    let chmod = flags.text("chmod");
    if let Some(chmod) = chmod.as_ref().filter(|chmod| !chmod.value.contains('$'))
        && let Err(error) = Chmod::parse(&chmod.value)
    {
        let hint = "write 644 or u=rw,go=r, for instance";
        context.report(Problem::new(error.to_string(), chmod.span).with_hint(hint));
    }
    CopyFlags {
        chown: flags.text("chown"),
        chmod,
        link: flags.boolean("link") == Some(true),
        excludes: flags.list("exclude").collect(),
    }
}

fn check_checksum(checksum: &Spanned<String>, sources: &[Spanned<Source>], context: &mut Context<'_>) {
    let remote = |source: &Spanned<Source>| match &source.value {
        // A variable may still turn out to be one.
        Source::Path(path) => is_url(path) || is_git_reference(path) || path.contains('$'),
        Source::Heredoc(_) => false,
    };
    let message = match sources {
        [source] if remote(source) => return,
        [_] => "checksum requires HTTP(S) or Git sources",
        _ => "checksum can't be specified for multiple sources",
    };
    let hint =
        format!("remove --checksum={}, or give each remote source its own ADD", brief(&checksum.value));
    context.report(Problem::new(message, checksum.span).with_hint(hint));
}
