//! Splitting what was expanded into words.

/// Splits at blanks that were not quoted.
#[derive(Default)]
pub(super) struct WordSplit {
    wanted: bool,
    words: Vec<String>,
    word: String,
}

impl WordSplit {
    /// Collects words, or nothing where nobody asks for them.
    pub(super) fn new(wanted: bool) -> Self {
        Self { wanted, ..Self::default() }
    }

    /// A character that separates words if it is a blank.
    pub(super) fn add_char(&mut self, next: char) {
        if !self.wanted {
            return;
        }
        if !next.is_whitespace() {
            self.word.push(next);
        } else if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }

    /// Text whose blanks separate words.
    pub(super) fn add(&mut self, text: &str) {
        if self.wanted {
            text.chars().for_each(|next| self.add_char(next));
        }
    }

    /// Text that is part of one word, blanks and all.
    pub(super) fn add_whole(&mut self, text: &str) {
        if self.wanted {
            self.word.push_str(text);
        }
    }

    pub(super) fn finish(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        self.words
    }
}
