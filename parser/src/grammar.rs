//! The door to the grammar: one function for each thing that a logical line can be asked.

use crate::heredoc::HeredocWord;
use pest::Parser;
use pest::iterators::Pair;
use std::ops::Range;

/// What `dockerfile.pest` generates.
#[derive(pest_derive::Parser)]
#[grammar = "dockerfile.pest"]
struct Grammar;

/// A part of the text that was parsed, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    pub(crate) text: &'a str,
    pub(crate) start: usize,
}

impl Piece<'_> {
    pub(crate) fn range(&self) -> Range<usize> {
        self.start..self.start + self.text.len()
    }
}

/// An instruction taken apart.
#[derive(Debug)]
pub(crate) struct Head<'a> {
    pub(crate) name: Piece<'a>,
    pub(crate) flags: Vec<RawFlag>,
    /// What follows the flags, without blanks around it.
    pub(crate) arguments: Piece<'a>,
}

/// `--name[=value]`, quotes and escapes resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawFlag {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
    /// The whole flag.
    pub(crate) range: Range<usize>,
    /// Its value, if it has one.
    pub(crate) value_range: Range<usize>,
}

/// One word of ENV, LABEL or ARG: a `name=value`, or a word that has no `=`.
#[derive(Debug)]
pub(crate) struct Assignment<'a> {
    pub(crate) word: Piece<'a>,
    pub(crate) key: Piece<'a>,
    pub(crate) value: Option<Piece<'a>>,
}

/// One source or the destination of COPY and ADD.
#[derive(Debug)]
pub(crate) enum CopyWord<'a> {
    Path(Piece<'a>),
    Heredoc(HeredocWord),
}

/// Takes a whole logical line apart; None for a blank one.
pub(crate) fn instruction(line: &str) -> Option<Head<'_>> {
    let parsed = parse(Rule::instruction, line)?;
    let mut head = Head {
        name: Piece { text: "", start: 0 },
        flags: Vec::new(),
        arguments: Piece { text: "", start: line.len() },
    };
    for pair in parsed.into_inner() {
        match pair.as_rule() {
            Rule::name => head.name = piece(&pair),
            Rule::flag => head.flags.push(flag(pair)),
            Rule::arguments => head.arguments = trimmed(piece(&pair)),
            _ => {}
        }
    }
    Some(head)
}

/// Words between blanks.
pub(crate) fn words(text: &str) -> Vec<Piece<'_>> {
    inner(Rule::words, text).filter(|pair| pair.as_rule() == Rule::word).map(|pair| piece(&pair)).collect()
}

/// The words of COPY and ADD.
pub(crate) fn copy_words(text: &str) -> Vec<CopyWord<'_>> {
    inner(Rule::copy, text)
        .filter_map(|pair| match pair.as_rule() {
            Rule::word => Some(CopyWord::Path(piece(&pair))),
            Rule::heredoc => Some(CopyWord::Heredoc(heredoc(pair))),
            _ => None,
        })
        .collect()
}

/// `image [AS name]`: None where it is anything else.
pub(crate) fn from(text: &str) -> Option<(Piece<'_>, Option<Piece<'_>>)> {
    let mut image = None;
    let mut name = None;
    for pair in parse(Rule::from, text)?.into_inner() {
        match pair.as_rule() {
            Rule::image => image = Some(piece(&pair)),
            Rule::stage_name => name = Some(piece(&pair)),
            _ => {}
        }
    }
    Some((image?, name))
}

/// The type of a HEALTHCHECK and what follows it.
pub(crate) fn healthcheck(text: &str) -> Option<(Piece<'_>, Option<Piece<'_>>)> {
    let mut inner = parse(Rule::healthcheck, text)?.into_inner();
    let kind = piece(&inner.next()?);
    let command = inner.next().filter(|pair| pair.as_rule() == Rule::command).map(|pair| piece(&pair));
    Some((kind, command))
}

/// The words of ENV, LABEL and ARG.
pub(crate) fn assignments(text: &str, escape: char) -> Vec<Assignment<'_>> {
    let rule = if escape == '`' { Rule::pairs_backquote } else { Rule::pairs_backslash };
    inner(rule, text).filter(|pair| pair.as_rule() != Rule::EOI).map(assignment).collect()
}

/// `key the rest`: None where there is but one word.
pub(crate) fn legacy(text: &str) -> Option<(Piece<'_>, Piece<'_>)> {
    let mut inner = parse(Rule::legacy, text)?.into_inner();
    Some((piece(&inner.next()?), piece(&inner.next()?)))
}

/// A JSON array that holds nothing but strings: each string and where it stands.
pub(crate) fn json(text: &str) -> Option<Vec<(String, Range<usize>)>> {
    let strings = parse(Rule::json, text)?.into_inner().filter(|pair| pair.as_rule() == Rule::json_string);
    Some(
        strings
            .map(|pair| {
                let range = pair.as_span().start()..pair.as_span().end();
                (crate::json::unescape(pair.into_inner().map(|chunk| chunk.as_str())), range)
            })
            .collect(),
    )
}

/// The heredocs that a line announces, in order.
pub(crate) fn heredocs(line: &str) -> Vec<HeredocWord> {
    inner(Rule::heredocs, line)
        .filter(|pair| pair.as_rule() == Rule::heredoc)
        .map(heredoc)
        .filter(|word| !word.name.is_empty())
        .collect()
}

/// The fields of a `--mount`, CSV quoting resolved; None where it is not CSV.
pub(crate) fn mount_fields(text: &str) -> Option<Vec<String>> {
    let fields = parse(Rule::mount, text)?.into_inner().filter(|pair| pair.as_rule() == Rule::mount_field);
    Some(
        fields
            .map(|field| match field.into_inner().next() {
                Some(quoted) if quoted.as_rule() == Rule::mount_quoted => {
                    quoted.into_inner().as_str().replace("\"\"", "\"")
                }
                plain => plain.map(|pair| pair.as_str().to_owned()).unwrap_or_default(),
            })
            .collect(),
    )
}

fn parse(rule: Rule, text: &str) -> Option<Pair<'_, Rule>> {
    Grammar::parse(rule, text).ok()?.next()
}

fn inner(rule: Rule, text: &str) -> impl Iterator<Item = Pair<'_, Rule>> {
    parse(rule, text).into_iter().flat_map(Pair::into_inner)
}

fn piece<'a>(pair: &Pair<'a, Rule>) -> Piece<'a> {
    Piece { text: pair.as_str(), start: pair.as_span().start() }
}

fn trimmed(piece: Piece<'_>) -> Piece<'_> {
    let cut = piece.text.len() - piece.text.trim_start().len();
    Piece { text: piece.text.trim(), start: piece.start + cut }
}

fn flag(pair: Pair<'_, Rule>) -> RawFlag {
    let span = pair.as_span();
    let mut flag = RawFlag {
        name: String::new(),
        value: None,
        range: span.start()..span.end(),
        value_range: span.end()..span.end(),
    };
    for part in pair.into_inner() {
        let range = part.as_span().start()..part.as_span().end();
        if part.as_rule() == Rule::flag_name {
            flag.name = unquoted(part);
        } else {
            flag.value_range = range;
            flag.value = Some(unquoted(part));
        }
    }
    flag
}

/// The text of the innermost pairs: what is left when quotes and escape characters are taken away.
fn unquoted(pair: Pair<'_, Rule>) -> String {
    // `flatten` also lists the pairs that contain others; only the leaves are text.
    pair.into_inner().flatten().filter(|chunk| is_text(chunk.as_rule())).map(|chunk| chunk.as_str()).collect()
}

fn is_text(rule: Rule) -> bool {
    matches!(
        rule,
        Rule::flag_escaped
            | Rule::flag_in_double
            | Rule::flag_in_single
            | Rule::flag_key
            | Rule::flag_text
            | Rule::name_escaped_quoted
            | Rule::name_in_double
            | Rule::name_in_single
            | Rule::name_escaped
            | Rule::name_text
    )
}

fn assignment(pair: Pair<'_, Rule>) -> Assignment<'_> {
    let word = piece(&pair);
    let mut inner = pair.into_inner();
    if let (Some(key), Some(value)) = (inner.next(), inner.next()) {
        return Assignment { word, key: piece(&key), value: Some(piece(&value)) };
    }
    // The first `=` separates even where it stands in quotes or behind an escape, as in `"a=b"`.
    let (key, value) = match word.text.split_once('=') {
        Some((key, value)) => (key, Some(Piece { text: value, start: word.start + key.len() + 1 })),
        None => (word.text, None),
    };
    Assignment { key: Piece { text: key, start: word.start }, value, word }
}

fn heredoc(pair: Pair<'_, Rule>) -> HeredocWord {
    let range = pair.as_span().start()..pair.as_span().end();
    let mut word = HeredocWord { name: String::new(), expand: true, chomp: false, fd: None, range };
    for part in pair.into_inner() {
        match part.as_rule() {
            Rule::fd => word.fd = part.as_str().parse().ok(),
            Rule::chomp => word.chomp = !part.as_str().is_empty(),
            Rule::delimiter => {
                let quoted =
                    |chunk: &Pair<'_, Rule>| matches!(chunk.as_rule(), Rule::name_double | Rule::name_single);
                word.expand = !part.clone().into_inner().any(|chunk| quoted(&chunk));
                word.name = unquoted(part);
            }
            _ => {}
        }
    }
    word
}
