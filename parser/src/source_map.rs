//! From a logical line back to the bytes it was made of.

use crate::span::Span;

/// The pieces that a logical line was joined from. Bytes within a piece map one to one.
#[derive(Clone, Debug, Default)]
pub(crate) struct SourceMap {
    /// `(offset in the logical line, offset in the file)`, both ascending.
    pieces: Vec<(usize, usize)>,
}

impl SourceMap {
    /// The file's bytes from `original` on become the logical line's from `logical` on.
    pub(crate) fn push(&mut self, logical: usize, original: usize) {
        // A piece that turned out empty is replaced by what follows it.
        if self.pieces.last().is_some_and(|(at, _)| *at == logical) {
            self.pieces.pop();
        }
        self.pieces.push((logical, original));
    }

    /// The file's byte that became this byte of the logical line.
    fn original(&self, logical: usize) -> usize {
        let piece = self.pieces.partition_point(|(at, _)| *at <= logical).saturating_sub(1);
        self.pieces.get(piece).map_or(logical, |(at, original)| original + (logical - at))
    }

    /// The file's bytes behind `start..end` of the logical line.
    pub(crate) fn span(&self, start: usize, end: usize) -> Span {
        let first = self.original(start);
        // The end is taken from the last byte inside, so that a word at the end of a piece stops there.
        let last = if end > start { self.original(end - 1) + 1 } else { first };
        Span::new(first, last)
    }
}
