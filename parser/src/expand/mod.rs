//! Words are expanded: `$x`, `${x:-y}` and their kin, quotes and escapes.
//!
//! What the stage's variables are is the caller's business; this only asks for them. Every expansion is bounded
//! in depth, size and work, because `ENV A=$A$A` forty times over is a file of a few hundred bytes.

mod lexer;
mod pattern;
mod scope;
mod word_split;

pub use pattern::PatternError;
pub use scope::Scope;

use crate::limits::{MAX_EXPANSION_BYTES, MAX_EXPANSION_DEPTH};
use lexer::{Lexer, Quotes};

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
        lexer.split = true;
        let section = lexer.until(None, false)?;
        Ok((section.words.finish(), lexer.finish(section.text)))
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
