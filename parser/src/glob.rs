//! Wildcards of one path component, as Go's `filepath.Match` has them: `*`, `?`, `[a-z]`, `[^x]`, `\x`.
//!
//! A `*` is retried only from the last one seen, so matching costs at most pattern × name.

/// A pattern that is not one; worded as Go does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct GlobError;

/// A pattern for one path component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    tokens: Vec<Token>,
}

/// A path's pattern, taken apart at its slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Component {
    /// No wildcard: the name, its escapes resolved.
    Literal(Vec<u8>),
    /// A pattern for one name.
    Glob(Glob),
    /// `**`: any number of directories, none included.
    AnyDepth,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Literal(char),
    One,
    Many,
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl Glob {
    /// Reads a pattern for one component; a slash in it matches nothing.
    pub fn new(pattern: &str) -> Result<Self, GlobError> {
        let mut tokens = Vec::new();
        let mut rest = pattern.chars().peekable();
        while let Some(next) = rest.next() {
            let token = match next {
                '*' => Token::Many,
                '?' => Token::One,
                '\\' => Token::Literal(rest.next().ok_or(GlobError)?),
                '[' => class(&mut rest)?,
                literal => Token::Literal(literal),
            };
            // Two stars in a row say no more than one.
            if token != Token::Many || tokens.last() != Some(&Token::Many) {
                tokens.push(token);
            }
        }
        Ok(Self { tokens })
    }

    /// Whether the whole of `component` matches. A byte that is no UTF-8 counts as one unknown character.
    pub fn matches(&self, component: &[u8]) -> bool {
        let mut name = Vec::with_capacity(component.len());
        for chunk in component.utf8_chunks() {
            name.extend(chunk.valid().chars().map(Some));
            name.extend(chunk.invalid().iter().map(|_| None));
        }
        let (mut token, mut at) = (0, 0);
        // Where to go on after a mismatch: behind the last star, one character further each time.
        let mut retry: Option<(usize, usize)> = None;
        while at < name.len() {
            match self.tokens.get(token) {
                Some(Token::Many) => {
                    token += 1;
                    retry = Some((token, at));
                }
                Some(wanted) if wanted.accepts(name[at]) => {
                    token += 1;
                    at += 1;
                }
                _ => {
                    let Some((behind_star, from)) = retry else { return false };
                    token = behind_star;
                    at = from + 1;
                    retry = Some((behind_star, at));
                }
            }
        }
        self.tokens[token..].iter().all(|token| *token == Token::Many)
    }

    /// The one name that matches, if the pattern has no wildcard.
    pub fn literal(&self) -> Option<String> {
        let literal = |token: &Token| if let Token::Literal(c) = token { Some(*c) } else { None };
        self.tokens.iter().map(literal).collect()
    }
}

impl Token {
    fn accepts(&self, found: Option<char>) -> bool {
        match self {
            Self::Literal(wanted) => found == Some(*wanted),
            Self::One => true,
            Self::Many => false,
            Self::Class { negated, ranges } => {
                let inside = found.is_some_and(|c| ranges.iter().any(|(low, high)| *low <= c && c <= *high));
                inside != *negated
            }
        }
    }
}

/// Whether a COPY source holds a wildcard, so that it may match several names or none.
pub fn has_meta(pattern: &str) -> bool {
    let mut rest = pattern.chars();
    while let Some(next) = rest.next() {
        match next {
            '\\' => drop(rest.next()),
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

/// Splits a pattern at its slashes; empty components and `.` are dropped. `**` is any depth only where
/// `any_depth` says so (COPY `--parents`), elsewhere it is a star like another.
pub fn components(pattern: &str, any_depth: bool) -> Result<Vec<Component>, GlobError> {
    let named = pattern.split('/').filter(|part| !part.is_empty() && *part != ".");
    named
        .map(|part| {
            if any_depth && part == "**" {
                return Ok(Component::AnyDepth);
            }
            let glob = Glob::new(part)?;
            Ok(match glob.literal() {
                Some(name) => Component::Literal(name.into_bytes()),
                None => Component::Glob(glob),
            })
        })
        .collect()
}

/// What follows `[`.
fn class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, GlobError> {
    let negated = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && rest.next_if_eq(&']').is_some() {
            return Ok(Token::Class { negated, ranges });
        }
        let low = class_char(rest)?;
        let high = if rest.next_if_eq(&'-').is_some() { class_char(rest)? } else { low };
        ranges.push((low, high));
    }
}

fn class_char(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<char, GlobError> {
    match rest.next() {
        None | Some('-' | ']') => Err(GlobError),
        Some('\\') => rest.next().ok_or(GlobError),
        Some(other) => Ok(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matching_is_gos() {
        // Cases of Go's own test of filepath.Match that concern one component.
        for (pattern, name, wanted) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "abc", true),
            ("a*b*c*d*e*", "axbxcxdxe", true),
            ("a*b*c*d*e*", "axbxcxdxexxx", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^b-d]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("a[^a][^a][^a]b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("[\\]a]", "]", true),
            ("[\\-]", "-", true),
            ("[x\\-]", "x", true),
            ("[x\\-]", "-", true),
            ("[x\\-]", "z", false),
            ("[\\-x]", "a", false),
            ("*x", "xxx", true),
            ("[z-a]", "m", false),
            ("", "", true),
            ("", "a", false),
            ("?", "", false),
        ] {
            assert_eq!(Glob::new(pattern).unwrap().matches(name.as_bytes()), wanted, "{pattern} {name}");
        }
        for pattern in
            ["[]a]", "[-]", "[x-]", "[-x]", "\\", "[a-b-c]", "[", "[^", "[^bc", "a[", "[\\", "[a\\"]
        {
            assert_eq!(Glob::new(pattern), Err(GlobError), "{pattern}");
        }
        assert!(Glob::new("a?b").unwrap().matches(b"a\xFFb"));
    }

    #[test]
    fn many_stars_do_not_explode() {
        let glob = Glob::new(&"*a".repeat(500)).unwrap();
        assert!(!glob.matches(&[b'a'; 499]));
        assert!(glob.matches(&[b'a'; 5_000]));
    }

    #[test]
    fn paths_fall_into_components() {
        let parts = components("a\\*/./b*//**/c", true).unwrap();
        assert_eq!(parts[0], Component::Literal(b"a*".to_vec()));
        assert!(matches!(&parts[1], Component::Glob(_)));
        assert_eq!(parts[2..], [Component::AnyDepth, Component::Literal(b"c".to_vec())]);
        assert!(matches!(components("**", false).unwrap()[0], Component::Glob(_)));
        assert!(has_meta("a[b") && has_meta("a*") && !has_meta("a\\*b") && !has_meta("\\"));
    }
}
