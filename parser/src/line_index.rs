//! From a byte offset to what people call a place: line and column.

/// Where each line of a text begins.
#[derive(Clone, Debug)]
pub struct LineIndex {
    text: Vec<u8>,
    starts: Vec<usize>,
}

impl LineIndex {
    /// Indexes `text`; lines end at `\n`.
    pub fn new(text: &[u8]) -> Self {
        let after_breaks = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
        Self { text: text.to_vec(), starts: std::iter::once(0).chain(after_breaks).collect() }
    }

    /// Line and column, both from 1, of a byte. The column counts characters; a byte order mark counts as none.
    pub fn line_col(&self, offset: usize) -> (usize, usize) {
        let offset = offset.min(self.text.len());
        let line = self.starts.partition_point(|start| *start <= offset) - 1;
        let mut before = &self.text[self.starts[line]..offset];
        if line == 0 {
            before = before.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(before);
        }
        (line + 1, String::from_utf8_lossy(before).chars().count() + 1)
    }

    /// How many lines there are; a text that ends in a line break has no empty line after it.
    pub fn line_count(&self) -> usize {
        match self.starts.last() {
            Some(last) if *last == self.text.len() => self.starts.len() - 1,
            _ => self.starts.len(),
        }
    }
}
