//! `.dockerignore`: which paths of a context are not part of it.
//!
//! Not `.gitignore`: patterns are anchored at the context's root, the last one that matches a path *or any of
//! its parents* wins, and a trailing slash means nothing. The matcher goes down a tree with its walk: a directory
//! knows which patterns are still alive in it, so that no path is matched from its root again, and patterns whose
//! next name is literal are looked up and not tried.

use crate::glob::{Component, Glob, GlobError, components};
use crate::limits::{MAX_IGNORE_FILE_BYTES, MAX_IGNORE_PATTERNS};
use std::collections::HashMap;

/// Why a list of patterns cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreError {
    /// `!` and nothing behind it.
    #[error("illegal exclusion pattern: \"!\" (line {line})")]
    BareNegation {
        /// Which line or list entry, from 1.
        line: usize,
    },
    /// No pattern of Go's.
    #[error("syntax error in pattern: {pattern:?} (line {line})")]
    Syntax {
        /// As written.
        pattern: String,
        /// Which line or list entry, from 1.
        line: usize,
    },
    /// Not text.
    #[error("the line is not valid UTF-8 (line {line})")]
    Encoding {
        /// Which line, from 1.
        line: usize,
    },
    /// Too much of it.
    #[error("more than {MAX_IGNORE_PATTERNS} patterns, or more than {MAX_IGNORE_FILE_BYTES} bytes")]
    TooLarge,
}

/// The patterns of an ignore file or of `--exclude`.
#[derive(Clone, Debug, Default)]
pub struct IgnorePatterns {
    /// Whether each pattern takes back what others exclude.
    negated: Vec<bool>,
    /// What each pattern comes down to; see [`alternatives`].
    paths: Vec<PathPattern>,
}

#[derive(Clone, Debug)]
struct PathPattern {
    /// Which pattern it is of.
    index: usize,
    components: Vec<Component>,
}

/// A path pattern and how many of its components are behind us.
type Place = (usize, usize);

/// What a directory of a walk knows.
#[derive(Clone, Debug)]
pub struct IgnoreDirectory<'a> {
    patterns: &'a IgnorePatterns,
    /// The last pattern that matched this directory or a parent.
    winner: Option<usize>,
    by_name: HashMap<&'a [u8], Vec<Place>>,
    globs: Vec<(&'a Glob, Place)>,
    any_depth: Vec<Place>,
}

/// What is to be done with one entry of a directory.
#[derive(Clone, Debug)]
pub struct IgnoreEntry<'a> {
    /// It is not part of the context.
    pub excluded: bool,
    /// If it is a directory, something in it may be part of the context.
    pub descend: bool,
    patterns: &'a IgnorePatterns,
    winner: Option<usize>,
    alive: Vec<Place>,
}

impl IgnorePatterns {
    /// Reads an ignore file.
    pub fn parse(text: &[u8]) -> Result<Self, IgnoreError> {
        if text.len() > MAX_IGNORE_FILE_BYTES {
            return Err(IgnoreError::TooLarge);
        }
        let text = text.strip_prefix(crate::directives::BOM).unwrap_or(text);
        let mut patterns = Self::default();
        for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let number = number + 1;
            // Comments may hold any bytes, and only begin at the very start of a line.
            if line.starts_with(b"#") {
                continue;
            }
            let line = std::str::from_utf8(line).map_err(|_| IgnoreError::Encoding { line: number })?.trim();
            let (negated, body) = match line.strip_prefix('!') {
                Some(body) => (true, body.trim()),
                None => (false, line),
            };
            if negated && body.is_empty() {
                return Err(IgnoreError::BareNegation { line: number });
            }
            if !body.is_empty() {
                let cleaned = clean(body);
                let anchored = cleaned.strip_prefix('/').filter(|rest| !rest.is_empty());
                patterns.add(negated, anchored.unwrap_or(&cleaned), body, number)?;
            }
        }
        Ok(patterns)
    }

    /// Takes a list, as `--exclude` gives it: no comments.
    pub fn from_patterns(list: &[String]) -> Result<Self, IgnoreError> {
        let mut patterns = Self::default();
        for (number, entry) in list.iter().enumerate() {
            let number = number + 1;
            let entry = entry.trim();
            let (negated, body) = match entry.strip_prefix('!') {
                Some(body) => (true, body),
                None => (false, entry),
            };
            if negated && body.is_empty() {
                return Err(IgnoreError::BareNegation { line: number });
            }
            if !body.is_empty() {
                patterns.add(negated, &clean(body), body, number)?;
            }
        }
        Ok(patterns)
    }

    /// Nothing is excluded.
    pub fn is_empty(&self) -> bool {
        self.negated.is_empty()
    }

    /// Some pattern begins with `!`.
    pub fn has_negations(&self) -> bool {
        self.negated.contains(&true)
    }

    /// Whether `path`, relative and with slashes, is excluded. The root itself never is. This begins at the root each
    /// time: whoever has a tree's worth of paths takes [`Self::walker`].
    pub fn excludes(&self, path: &[u8]) -> bool {
        let mut directory = self.walker();
        let mut names =
            path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".").peekable();
        while let Some(name) = names.next() {
            let entry = directory.entry(name);
            if names.peek().is_none() || !entry.descend {
                return entry.excluded;
            }
            directory = entry.directory();
        }
        false
    }

    /// The root directory of a walk.
    pub fn walker(&self) -> IgnoreDirectory<'_> {
        let all = (0..self.paths.len()).map(|path| (path, 0)).collect();
        IgnoreDirectory::new(self, None, all)
    }

    fn add(&mut self, negated: bool, cleaned: &str, written: &str, line: usize) -> Result<(), IgnoreError> {
        if self.negated.len() == MAX_IGNORE_PATTERNS {
            return Err(IgnoreError::TooLarge);
        }
        let index = self.negated.len();
        self.negated.push(negated);
        let paths = alternatives(cleaned)
            .map_err(|_| IgnoreError::Syntax { pattern: written.chars().take(200).collect(), line })?;
        self.paths.extend(paths.into_iter().map(|components| PathPattern { index, components }));
        Ok(())
    }
}

impl<'a> IgnoreDirectory<'a> {
    fn new(patterns: &'a IgnorePatterns, winner: Option<usize>, alive: Vec<Place>) -> Self {
        let mut directory =
            Self { patterns, winner, by_name: HashMap::new(), globs: Vec::new(), any_depth: Vec::new() };
        for (path, mut at) in alive {
            let components = &patterns.paths[path].components;
            // `**` stands for no directory too: what follows it is alive at once.
            loop {
                match components.get(at) {
                    Some(Component::AnyDepth) => directory.any_depth.push((path, at)),
                    Some(Component::Literal(name)) => {
                        directory.by_name.entry(name).or_default().push((path, at));
                        break;
                    }
                    Some(Component::Glob(glob)) => {
                        directory.globs.push((glob, (path, at)));
                        break;
                    }
                    None => break,
                }
                at += 1;
            }
        }
        directory
    }

    /// What is to be done with the entry `name`.
    pub fn entry(&self, name: &[u8]) -> IgnoreEntry<'a> {
        let mut winner = self.winner;
        let mut alive = self.any_depth.clone();
        let named = self.by_name.get(name).into_iter().flatten().copied();
        let globbed = self.globs.iter().filter(|(glob, _)| glob.matches(name)).map(|(_, place)| *place);
        for (path, at) in named.chain(globbed) {
            let pattern = &self.patterns.paths[path];
            if at + 1 == pattern.components.len() {
                winner = winner.max(Some(pattern.index));
            } else {
                alive.push((path, at + 1));
            }
        }
        alive.sort_unstable();
        alive.dedup();
        let excluded = winner.is_some_and(|winner| !self.patterns.negated[winner]);
        let descend = !excluded || alive.iter().any(|(path, _)| self.patterns.may_take_back(*path, winner));
        IgnoreEntry { excluded, descend, patterns: self.patterns, winner, alive }
    }
}

impl IgnorePatterns {
    /// Whether the path pattern, should it match something deeper, would win there.
    fn may_take_back(&self, path: usize, winner: Option<usize>) -> bool {
        let index = self.paths[path].index;
        self.negated[index] && Some(index) > winner
    }
}

impl<'a> IgnoreEntry<'a> {
    /// The entry as a directory to walk on in.
    pub fn directory(self) -> IgnoreDirectory<'a> {
        IgnoreDirectory::new(self.patterns, self.winner, self.alive)
    }
}

/// Each `**` within a name, as in `a**b`, doubles the ways to read a pattern; nobody needs more of them.
const MAX_READINGS: usize = 16;

/// What a cleaned pattern comes down to. `**` between slashes is any number of directories; at the end it stands
/// for everything below, which is what a single star matches, since what is in a match matches too. Within a name
/// it is nothing, or the rest of that name and more directories: `a**b` is `ab` or `a*/**/b`.
fn alternatives(pattern: &str) -> Result<Vec<Vec<Component>>, GlobError> {
    let mut rest = pattern;
    let mut readings = vec![String::new()];
    while let Some((before, after)) = split_at_stars(rest) {
        readings.iter_mut().for_each(|reading| reading.push_str(before));
        if after.is_empty() {
            rest = "*";
            break;
        }
        let literal = !after.contains(['*', '?', '[', '\\']) && !after.starts_with('/');
        if literal && rest.len() == pattern.len() && before.is_empty() {
            // `**.go` is matched against the end of the whole path, so that its star reaches into the name.
            readings = vec!["**/*".to_owned()];
            rest = after;
            break;
        }
        let mut further = Vec::new();
        for reading in &mut readings {
            if reading.is_empty() || reading.ends_with('/') {
                reading.push_str("**/");
            } else {
                further.push(format!("{reading}*/**/"));
            }
        }
        readings.extend(further);
        if readings.len() > MAX_READINGS {
            return Err(GlobError);
        }
        // The stars take a slash behind them along, wherever they stand.
        rest = after.strip_prefix('/').unwrap_or(after);
    }
    readings.iter().map(|reading| anchored(&format!("{reading}{rest}"))).collect()
}

/// The text before and after the first `**`, stars in brackets or behind a backslash not counting.
fn split_at_stars(part: &str) -> Option<(&str, &str)> {
    let bytes = part.as_bytes();
    let (mut at, mut bracket) = (0, false);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'[' => bracket = true,
            b']' => bracket = false,
            b'*' if !bracket && bytes.get(at + 1) == Some(&b'*') => {
                return Some((&part[..at], &part[at + 2..]));
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// The components; a path that no entry can have (`/`, `.`, `..`) keeps a name that nothing bears.
fn anchored(path: &str) -> Result<Vec<Component>, GlobError> {
    let impossible = path.split('/').any(|part| matches!(part, "" | "." | ".."));
    let mut parts = components(path, true)?;
    // Any depth twice is any depth; thousands of stars in a row would cost their square in each directory.
    let any = |part: &Component| matches!(part, Component::AnyDepth);
    parts.dedup_by(|one, other| any(one) && any(other));
    Ok(if impossible { vec![Component::Literal(Vec::new())] } else { parts })
}

/// Go's `filepath.Clean`: `.` and empty components go, `..` takes its parent with it.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut kept: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if kept.last().is_some_and(|last| *last != "..") => drop(kept.pop()),
            ".." if rooted => {}
            part => kept.push(part),
        }
    }
    let joined = kept.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}
