//! The reading of one word: quotes, escapes, `$name` and `${…}`.
//!
//! It goes over the characters once and descends only for `${…}`, to a bounded depth.

use super::pattern::{Pattern, Steps};
use super::word_split::WordSplit;
use super::{ExpandError, Expanded, Scope};
use crate::limits::{MAX_EXPANSION_BYTES, MAX_EXPANSION_DEPTH};
use std::collections::BTreeMap;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Quotes {
    /// They protect, and go.
    Removed,
    /// They protect, and stay.
    Kept,
    /// They mean nothing.
    Ordinary,
}

pub(super) struct Lexer<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    escape: char,
    pub(super) quotes: Quotes,
    pub(super) keep_unset: bool,
    /// The words are wanted too, and not only the text.
    pub(super) split: bool,
    raw_escapes: bool,
    depth: usize,
    /// Bytes held by all the sections that are being read, one within the other.
    held: usize,
    steps: Steps,
    scope: &'a dyn Scope,
    /// What was looked up already: a value is asked for once, however often its name occurs.
    values: BTreeMap<String, Option<String>>,
    used: Vec<String>,
}

pub(super) struct Section {
    pub(super) text: String,
    pub(super) words: WordSplit,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, escape: char, scope: &'a dyn Scope) -> Self {
        Self {
            rest: text.chars().peekable(),
            escape,
            quotes: Quotes::Removed,
            keep_unset: false,
            split: false,
            raw_escapes: false,
            depth: 0,
            held: 0,
            steps: Steps::default(),
            scope,
            values: BTreeMap::new(),
            used: Vec::new(),
        }
    }

    pub(super) fn finish(self, text: String) -> Expanded {
        let unknown = |name: &&String| self.values.get(*name).is_some_and(Option::is_none);
        let undefined = self.used.iter().filter(unknown).cloned().collect();
        Expanded { text, undefined, used: self.used }
    }

    /// Everything up to `stop`, which is consumed, or to the end.
    pub(super) fn until(&mut self, stop: Option<char>, raw_escapes: bool) -> Result<Section, ExpandError> {
        let outer = (std::mem::replace(&mut self.raw_escapes, raw_escapes), self.held);
        let result = self.section(stop);
        (self.raw_escapes, self.held) = outer;
        result
    }

    fn section(&mut self, stop: Option<char>) -> Result<Section, ExpandError> {
        let outer = self.held;
        let mut text = String::new();
        let mut words = WordSplit::new(self.split && stop.is_none());
        while let Some(&next) = self.rest.peek() {
            if stop == Some(next) {
                self.rest.next();
                return Ok(Section { text, words });
            }
            match next {
                '$' => {
                    let value = self.dollar()?;
                    words.add(&value);
                    text.push_str(&value);
                }
                '\'' if self.quotes != Quotes::Ordinary => {
                    let quoted = self.single_quoted()?;
                    words.add_whole(&quoted);
                    text.push_str(&quoted);
                }
                '"' if self.quotes != Quotes::Ordinary => {
                    let quoted = self.double_quoted()?;
                    words.add_whole(&quoted);
                    text.push_str(&quoted);
                }
                next if next == self.escape => {
                    self.rest.next();
                    if self.raw_escapes {
                        words.add_whole(next.encode_utf8(&mut [0; 4]));
                        text.push(next);
                    }
                    // An escape character at the very end escapes nothing and goes.
                    let Some(escaped) = self.rest.next() else { break };
                    words.add_whole(escaped.encode_utf8(&mut [0; 4]));
                    text.push(escaped);
                }
                next => {
                    self.rest.next();
                    words.add_char(next);
                    text.push(next);
                }
            }
            self.hold(outer, &text)?;
        }
        // Only the caller knows what was left open.
        if stop.is_some() { Err(ExpandError::MissingBrace) } else { Ok(Section { text, words }) }
    }

    fn single_quoted(&mut self) -> Result<String, ExpandError> {
        let kept = self.quotes == Quotes::Kept;
        let mut text = String::new();
        text.extend(self.rest.next().filter(|_| kept));
        for next in self.rest.by_ref() {
            if next == '\'' {
                text.extend(kept.then_some(next));
                return Ok(text);
            }
            text.push(next);
        }
        Err(ExpandError::OpenSingleQuote)
    }

    fn double_quoted(&mut self) -> Result<String, ExpandError> {
        let outer = self.held;
        let kept = self.quotes == Quotes::Kept;
        let mut text = String::new();
        text.extend(self.rest.next().filter(|_| kept));
        loop {
            match self.rest.peek() {
                None => return Err(ExpandError::OpenDoubleQuote),
                Some('"') => {
                    text.extend(self.rest.next().filter(|_| kept));
                    self.held = outer;
                    return Ok(text);
                }
                Some('$') => text.push_str(&self.dollar()?),
                Some(&next) => {
                    self.rest.next();
                    text.extend(self.in_double_quotes(next));
                }
            }
            self.hold(outer, &text)?;
        }
    }

    /// In double quotes the escape character escapes only what would mean something there.
    fn in_double_quotes(&mut self, next: char) -> impl Iterator<Item = char> + use<> {
        if next != self.escape {
            return None.into_iter().chain(Some(next));
        }
        let raw = self.raw_escapes.then_some(next);
        let second = match self.rest.peek() {
            None => None,
            Some(&escaped) if escaped == '"' || escaped == '$' || escaped == self.escape => self.rest.next(),
            Some(_) => Some(next),
        };
        raw.into_iter().chain(second)
    }

    fn dollar(&mut self) -> Result<String, ExpandError> {
        self.rest.next();
        if self.rest.peek() != Some(&'{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            let keep_unset = self.keep_unset;
            return Ok(match self.value(&name) {
                None if keep_unset => format!("${name}"),
                value => value.unwrap_or_default().to_owned(),
            });
        }
        self.rest.next();
        match self.rest.peek() {
            None => return Err(ExpandError::MissingBrace),
            Some('{' | '}' | ':') => return Err(ExpandError::BadSubstitution),
            Some(_) => {}
        }
        if self.depth == MAX_EXPANSION_DEPTH {
            return Err(ExpandError::TooDeep);
        }
        self.depth += 1;
        let result = self.braces();
        self.depth -= 1;
        result
    }

    /// What follows `${`.
    fn braces(&mut self) -> Result<String, ExpandError> {
        let name = self.name();
        let keep_unset = self.keep_unset;
        match self.rest.next() {
            None => Err(ExpandError::MissingBrace),
            Some('}') => Ok(match self.value(&name) {
                None if keep_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default().to_owned(),
            }),
            Some(':') => {
                let modifier = self.rest.next().ok_or(ExpandError::MissingBrace)?;
                self.alternative(&name, modifier, true)
            }
            Some(modifier @ ('+' | '-' | '?')) => self.alternative(&name, modifier, false),
            Some(modifier @ ('#' | '%')) => self.trim(&name, modifier),
            Some('/') => self.replace(&name),
            Some(other) => Err(ExpandError::UnsupportedModifier(other.to_string())),
        }
    }

    /// `${name-word}`, `${name+word}`, `${name?word}`, and with a colon.
    fn alternative(&mut self, name: &str, modifier: char, colon: bool) -> Result<String, ExpandError> {
        let word = self.modified(Some('}'), false, ExpandError::MissingBrace)?;
        let written = if colon { format!(":{modifier}") } else { modifier.to_string() };
        if !matches!(modifier, '-' | '+' | '?') {
            return Err(ExpandError::UnsupportedModifier(written));
        }
        let keep_unset = self.keep_unset;
        let value = self.value(name);
        if keep_unset && value.is_none() {
            return Ok(format!("${{{name}{written}{word}}}"));
        }
        let present = value.filter(|value| !(colon && value.is_empty()));
        match (modifier, present) {
            ('-', Some(value)) => Ok(value.to_owned()),
            ('-', None) => Ok(word),
            ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(value)) => Ok(value.to_owned()),
            (_, None) => {
                let what =
                    if value.is_none() { "is not allowed to be unset" } else { "is not allowed to be empty" };
                let message = if word.is_empty() { what.to_owned() } else { word };
                Err(ExpandError::Required { name: name.to_owned(), message })
            }
        }
    }

    /// `${name#pattern}`, `##`, `%`, `%%`.
    fn trim(&mut self, name: &str, modifier: char) -> Result<String, ExpandError> {
        let word = self.modified(Some('}'), true, ExpandError::MissingBrace)?;
        if self.keep_unset && self.value(name).is_none() {
            return Ok(format!("${{{name}{modifier}{word}}}"));
        }
        let mut steps = std::mem::take(&mut self.steps);
        let value = self.value(name).unwrap_or_default();
        let (longest, pattern) = match word.strip_prefix(modifier) {
            Some(pattern) => (true, pattern),
            None => (false, word.as_str()),
        };
        let fail = |error| ExpandError::Pattern { pattern: pattern.to_owned(), error };
        let trimmed = Pattern::new(pattern).and_then(|pattern| match modifier {
            '#' => pattern.trim_start(value, longest, &mut steps),
            _ => pattern.trim_end(value, longest, &mut steps),
        });
        let trimmed = trimmed.map_err(fail);
        self.steps = steps;
        trimmed
    }

    /// `${name/pattern/replacement}`, and with two slashes.
    fn replace(&mut self, name: &str) -> Result<String, ExpandError> {
        let all = self.rest.next_if_eq(&'/').is_some();
        let pattern = self.modified(Some('/'), true, ExpandError::MissingSlash)?;
        let replacement = self.modified(Some('}'), true, ExpandError::MissingBrace)?;
        if self.keep_unset && self.value(name).is_none() {
            let slashes = if all { "//" } else { "/" };
            return Ok(format!("${{{name}{slashes}{pattern}/{replacement}}}"));
        }
        let mut steps = std::mem::take(&mut self.steps);
        let value = self.value(name).unwrap_or_default();
        let replaced = Pattern::new(&pattern)
            .and_then(|pattern| pattern.replace(value, &replacement, all, MAX_EXPANSION_BYTES, &mut steps));
        self.steps = steps;
        let replaced = replaced.map_err(|error| ExpandError::Pattern { pattern, error })?;
        Ok(replaced)
    }

    /// A part of `${…}`. Where the text ends within it, that is what is reported, not what it led to.
    fn modified(
        &mut self,
        stop: Option<char>,
        raw_escapes: bool,
        at_end: ExpandError,
    ) -> Result<String, ExpandError> {
        match self.until(stop, raw_escapes) {
            Ok(section) => Ok(section.text),
            Err(error @ (ExpandError::TooLarge | ExpandError::TooDeep)) => Err(error),
            Err(_) if self.rest.peek().is_none() => Err(at_end),
            Err(error) => Err(error),
        }
    }

    /// Counts what the section at hand has become, on top of those around it.
    fn hold(&mut self, outer: usize, text: &str) -> Result<(), ExpandError> {
        self.held = outer + text.len();
        if self.held > MAX_EXPANSION_BYTES { Err(ExpandError::TooLarge) } else { Ok(()) }
    }

    /// A name; empty where there is none. The shell's special parameters are names that nothing sets.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.rest.peek() {
            Some(first) if first.is_numeric() => {
                while let Some(digit) = self.rest.next_if(|c| c.is_numeric()) {
                    name.push(digit);
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => name.extend(self.rest.next()),
            _ => {
                while let Some(letter) = self.rest.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    name.push(letter);
                }
            }
        }
        name
    }

    fn value(&mut self, name: &str) -> Option<&str> {
        if !self.values.contains_key(name) {
            self.used.push(name.to_owned());
            self.values.insert(name.to_owned(), self.scope.get(name));
        }
        self.values.get(name).and_then(Option::as_deref)
    }
}
