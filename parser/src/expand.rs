//! Words are expanded: `$x`, `${x:-y}` and their kin, quotes and escapes.
//!
//! What the stage's variables are is the caller's business; this only asks for them. Every expansion is bounded
//! in depth, size and work, because `ENV A=$A$A` forty times over is a file of a few hundred bytes.

use crate::limits::{MAX_EXPANSION_BYTES, MAX_EXPANSION_DEPTH};
use crate::pattern::{Pattern, PatternError, Steps};
use std::collections::{BTreeMap, HashMap};

/// Where values of variables come from.
pub trait Scope {
    /// The value of `name`; None where it is not set.
    fn get(&self, name: &str) -> Option<String>;
}

impl Scope for HashMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        HashMap::get(self, name).cloned()
    }
}

impl Scope for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        BTreeMap::get(self, name).cloned()
    }
}

/// The last pair of a name counts.
impl Scope for Vec<(String, String)> {
    fn get(&self, name: &str) -> Option<String> {
        Scope::get(self.as_slice(), name)
    }
}

impl Scope for &[(String, String)] {
    fn get(&self, name: &str) -> Option<String> {
        <[(String, String)] as Scope>::get(self, name)
    }
}

impl Scope for [(String, String)] {
    fn get(&self, name: &str) -> Option<String> {
        self.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    }
}

impl<F: Fn(&str) -> Option<String>> Scope for F {
    fn get(&self, name: &str) -> Option<String> {
        self(name)
    }
}

/// Why a word cannot be expanded; worded as people script against it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// `${}`, `${:…}`, `${{`.
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// `${x` and no more.
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    /// `${x/y` and no more.
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    /// `${x^y}` and whatever else there is not.
    #[error("unsupported modifier ({0}) in substitution")]
    UnsupportedModifier(String),
    /// `"` without its fellow.
    #[error("unexpected end of statement while looking for matching double-quote")]
    OpenDoubleQuote,
    /// `'` without its fellow.
    #[error("unexpected end of statement while looking for matching single-quote")]
    OpenSingleQuote,
    /// `${name:?message}` where the variable is unset or empty.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// What the file says of it.
        message: String,
    },
    /// The pattern of `${x#y}` or `${x/y/z}`.
    #[error("invalid pattern ({pattern}) in substitution: {error}")]
    Pattern {
        /// As it was after its own expansion.
        pattern: String,
        /// What is wrong.
        error: PatternError,
    },
    /// The result would be too large.
    #[error("expanded to more than {MAX_EXPANSION_BYTES} bytes")]
    TooLarge,
    /// `${…}` in `${…}` beyond all measure.
    #[error("substitutions are nested more than {MAX_EXPANSION_DEPTH} deep")]
    TooDeep,
}

/// Expands the words of one Dockerfile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expander {
    /// The escape character in force.
    pub escape: char,
}

/// An expanded word and what became of its variables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The result.
    pub text: String,
    /// Names that the scope does not know, in order, each once.
    pub undefined: Vec<String>,
    /// All names looked up, in order, each once.
    pub used: Vec<String>,
}

impl Expander {
    /// Expands a word; quotes and escapes go.
    pub fn word(&self, word: &str, scope: &dyn Scope) -> Result<Expanded, ExpandError> {
        let mut lexer = Lexer::new(word, self.escape, scope);
        let text = lexer.until(None, false)?.text;
        Ok(lexer.finish(text))
    }

    /// Expands a word that may become several, or none: what variables bring in is split at blanks.
    pub fn words(&self, word: &str, scope: &dyn Scope) -> Result<(Vec<String>, Expanded), ExpandError> {
        let mut lexer = Lexer::new(word, self.escape, scope);
        let result = lexer.until(None, false)?;
        Ok((result.words.finish(), lexer.finish(result.text)))
    }

    /// Expands the body of a heredoc: quotes are characters like any other, and the escape character is the
    /// backslash whatever the directive says.
    pub fn raw(&self, text: &str, scope: &dyn Scope) -> Result<Expanded, ExpandError> {
        let mut lexer = Lexer::new(text, '\\', scope);
        lexer.quotes = Quotes::Ordinary;
        let text = lexer.until(None, false)?.text;
        Ok(lexer.finish(text))
    }

    /// Expands what is known and leaves everything else as it was written, for showing a step to the user: unset
    /// variables stay `$X`, quotes and escapes stay. What cannot be expanded is shown as it is.
    pub fn keep_unset(&self, text: &str, scope: &dyn Scope) -> String {
        let mut lexer = Lexer::new(text, self.escape, scope);
        lexer.quotes = Quotes::Kept;
        lexer.keep_unset = true;
        lexer.until(None, true).map_or_else(|_| text.to_owned(), |result| result.text)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    /// They protect, and go.
    Removed,
    /// They protect, and stay.
    Kept,
    /// They mean nothing.
    Ordinary,
}

struct Lexer<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    escape: char,
    quotes: Quotes,
    keep_unset: bool,
    raw_escapes: bool,
    depth: usize,
    steps: Steps,
    scope: &'a dyn Scope,
    /// What was looked up already: a value is asked for once, however often its name occurs.
    values: BTreeMap<String, Option<String>>,
    used: Vec<String>,
}

struct Section {
    text: String,
    words: WordSplit,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str, escape: char, scope: &'a dyn Scope) -> Self {
        Self {
            rest: text.chars().peekable(),
            escape,
            quotes: Quotes::Removed,
            keep_unset: false,
            raw_escapes: false,
            depth: 0,
            steps: Steps::default(),
            scope,
            values: BTreeMap::new(),
            used: Vec::new(),
        }
    }

    fn finish(self, text: String) -> Expanded {
        let unknown = |name: &&String| self.values.get(*name).is_some_and(Option::is_none);
        let undefined = self.used.iter().filter(unknown).cloned().collect();
        Expanded { text, undefined, used: self.used }
    }

    /// Everything up to `stop`, which is consumed, or to the end.
    fn until(&mut self, stop: Option<char>, raw_escapes: bool) -> Result<Section, ExpandError> {
        let outer = std::mem::replace(&mut self.raw_escapes, raw_escapes);
        let result = self.section(stop);
        self.raw_escapes = outer;
        result
    }

    fn section(&mut self, stop: Option<char>) -> Result<Section, ExpandError> {
        let mut text = String::new();
        let mut words = WordSplit::default();
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
                        words.add_char_whole(next);
                        text.push(next);
                    }
                    // An escape character at the very end escapes nothing and goes.
                    let Some(escaped) = self.rest.next() else { break };
                    words.add_char_whole(escaped);
                    text.push(escaped);
                }
                next => {
                    self.rest.next();
                    words.add_char(next);
                    text.push(next);
                }
            }
            bounded(&text)?;
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
        let kept = self.quotes == Quotes::Kept;
        let mut text = String::new();
        text.extend(self.rest.next().filter(|_| kept));
        loop {
            match self.rest.peek() {
                None => return Err(ExpandError::OpenDoubleQuote),
                Some('"') => {
                    text.extend(self.rest.next().filter(|_| kept));
                    return Ok(text);
                }
                Some('$') => text.push_str(&self.dollar()?),
                Some(&next) => {
                    self.rest.next();
                    text.extend(self.in_double_quotes(next));
                }
            }
            bounded(&text)?;
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
        bounded(&replaced)?;
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
            Err(_) if self.rest.peek().is_none() => Err(at_end),
            Err(error) => Err(error),
        }
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

fn bounded(text: &str) -> Result<(), ExpandError> {
    if text.len() > MAX_EXPANSION_BYTES { Err(ExpandError::TooLarge) } else { Ok(()) }
}

/// Splits at blanks that were not quoted.
#[derive(Default)]
struct WordSplit {
    words: Vec<String>,
    word: String,
}

impl WordSplit {
    fn add_char(&mut self, next: char) {
        if !next.is_whitespace() {
            self.word.push(next);
        } else if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }

    fn add_char_whole(&mut self, next: char) {
        self.word.push(next);
    }

    fn add(&mut self, text: &str) {
        text.chars().for_each(|next| self.add_char(next));
    }

    fn add_whole(&mut self, text: &str) {
        self.word.push_str(text);
    }

    fn finish(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        self.words
    }
}
