//! The patterns of `${v#p}`, `${v%p}` and `${v/p/r}`: `*` and `?`, no brackets.
//!
//! Matching is a table over (pattern, value) instead of a search, so that no pattern makes it explode; the
//! table's size is what a whole expansion may spend.

use crate::limits::MAX_PATTERN_STEPS;

/// Why a pattern cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A backslash before something that needs none.
    #[error("invalid escape '\\{0}'")]
    Escape(char),
    /// Too long a pattern for too long a value.
    #[error("the pattern and the value are too long")]
    TooCostly,
    /// The replaced value would be too large.
    #[error("the result is too long")]
    TooLarge,
}

/// What matching has cost so far.
#[derive(Debug, Default)]
pub(super) struct Steps(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// `?`: anything but a line break.
    One,
    /// `*`: any number of these.
    Many,
}

#[derive(Clone, Debug)]
pub(super) struct Pattern(Vec<Token>);

impl Pattern {
    pub(super) fn new(text: &str) -> Result<Self, PatternError> {
        let mut tokens = Vec::new();
        let mut rest = text.chars().peekable();
        while let Some(next) = rest.next() {
            tokens.push(match next {
                '*' => Token::Many,
                '?' => Token::One,
                '\\' => match rest.next() {
                    // `}` and `/` are escaped for the sake of `${…}`, the others for the pattern's own.
                    Some(escaped @ ('}' | '/' | '*' | '?' | '\\')) => Token::Literal(escaped),
                    other => return Err(PatternError::Escape(other.unwrap_or(char::REPLACEMENT_CHARACTER))),
                },
                other => Token::Literal(other),
            });
        }
        Ok(Self(tokens))
    }

    /// `value` without the shortest or longest start that matches.
    pub(super) fn trim_start(
        self,
        value: &str,
        longest: bool,
        steps: &mut Steps,
    ) -> Result<String, PatternError> {
        let value: Vec<char> = value.chars().collect();
        let table = Table::new(&self.0, &value, steps)?;
        let end = table.matched(0, longest).unwrap_or(0);
        Ok(value[end..].iter().collect())
    }

    /// `value` without the shortest or longest end that matches.
    pub(super) fn trim_end(
        mut self,
        value: &str,
        longest: bool,
        steps: &mut Steps,
    ) -> Result<String, PatternError> {
        self.0.reverse();
        let value: Vec<char> = value.chars().rev().collect();
        let table = Table::new(&self.0, &value, steps)?;
        let end = table.matched(0, longest).unwrap_or(0);
        Ok(value[end..].iter().rev().collect())
    }

    /// `value` with the first match, or all, replaced. Matches are the longest from the leftmost place on.
    pub(super) fn replace(
        self,
        value: &str,
        replacement: &str,
        all: bool,
        limit: usize,
        steps: &mut Steps,
    ) -> Result<String, PatternError> {
        let value: Vec<char> = value.chars().collect();
        let table = Table::new(&self.0, &value, steps)?;
        let mut result = String::new();
        let (mut copied, mut from) = (0, 0);
        while let Some((start, end)) =
            (from..=value.len()).find_map(|at| Some((at, table.matched(at, true)?)))
        {
            result.extend(&value[copied..start]);
            // An empty match directly behind another match is none.
            if end > copied || start == 0 || start > copied {
                result.push_str(replacement);
            }
            copied = end;
            from = if end > start { end } else { end + 1 };
            if result.len() > limit {
                return Err(PatternError::TooLarge);
            }
            if !all {
                break;
            }
        }
        result.extend(&value[copied..]);
        Ok(result)
    }
}

/// For every place in the pattern and in the value: whether the one's rest matches from the other on.
struct Table<'a> {
    pattern: &'a [Token],
    value: &'a [char],
    can: Vec<u64>,
    /// Words of 64 places for each place of the pattern.
    stride: usize,
}

impl<'a> Table<'a> {
    fn new(pattern: &'a [Token], value: &'a [char], steps: &mut Steps) -> Result<Self, PatternError> {
        steps.0 = steps.0.saturating_add((pattern.len() as u64 + 1).saturating_mul(value.len() as u64 + 1));
        if steps.0 > MAX_PATTERN_STEPS {
            return Err(PatternError::TooCostly);
        }
        let stride = value.len() / 64 + 1;
        let mut table = Self { pattern, value, can: vec![0; stride * (pattern.len() + 1)], stride };
        (0..=value.len()).for_each(|at| table.set(pattern.len(), at));
        for (place, token) in pattern.iter().enumerate().rev() {
            for at in (0..=value.len()).rev() {
                let here = value.get(at);
                let matches = match token {
                    Token::Literal(letter) => here == Some(letter) && table.get(place + 1, at + 1),
                    Token::One => here.is_some_and(|c| *c != '\n') && table.get(place + 1, at + 1),
                    Token::Many => {
                        table.get(place + 1, at)
                            || here.is_some_and(|c| *c != '\n') && table.get(place, at + 1)
                    }
                };
                if matches {
                    table.set(place, at);
                }
            }
        }
        Ok(table)
    }

    /// Where the match that begins at `at` ends, if there is one.
    fn matched(&self, mut at: usize, longest: bool) -> Option<usize> {
        if !self.get(0, at) {
            return None;
        }
        for (place, token) in self.pattern.iter().enumerate() {
            if *token != Token::Many {
                at += 1;
                continue;
            }
            let more = |at: usize| self.value.get(at).is_some_and(|c| *c != '\n') && self.get(place, at + 1);
            while if longest { more(at) } else { !self.get(place + 1, at) } {
                at += 1;
            }
        }
        Some(at)
    }

    fn get(&self, place: usize, at: usize) -> bool {
        self.can[place * self.stride + at / 64] >> (at % 64) & 1 == 1
    }

    fn set(&mut self, place: usize, at: usize) {
        self.can[place * self.stride + at / 64] |= 1 << (at % 64);
    }
}
