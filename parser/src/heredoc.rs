//! Here-documents: the word that announces one and the body that follows.

use crate::ast::Heredoc;
use std::ops::Range;

/// `[fd]<<[-]NAME` as it stands in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeredocWord {
    /// The delimiter without its quotes.
    pub(crate) name: String,
    /// No part of the delimiter was quoted.
    pub(crate) expand: bool,
    pub(crate) chomp: bool,
    pub(crate) fd: Option<u32>,
    /// Where the word stands in the logical line.
    pub(crate) range: Range<usize>,
}

/// The lines up to the delimiter.
#[derive(Clone, Debug)]
pub(crate) struct Body<'a> {
    pub(crate) bytes: &'a [u8],
    /// Where it begins in the file.
    pub(crate) start: usize,
    /// The end of the delimiter's line.
    pub(crate) end: usize,
}

/// Puts word and body together.
pub(crate) fn heredoc(word: &HeredocWord, content: &str) -> Heredoc {
    Heredoc {
        name: word.name.clone(),
        content: if word.chomp { chomped(content) } else { content.to_owned() },
        expand: word.expand,
        chomp: word.chomp,
        fd: word.fd,
    }
}

/// Without the tabs that lines begin with.
fn chomped(content: &str) -> String {
    content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}
