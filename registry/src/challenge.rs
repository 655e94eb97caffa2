//! `WWW-Authenticate`: what a registry wants to see before it answers (RFC 9110 §11, distribution's token spec).
//!
//! The parser takes anything and never fails: what it cannot read it skips. Its input is bounded.

use crate::limits::{CHALLENGE_BYTES, CHALLENGES};

/// One way to log in that the registry offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// User name and password with each request.
    Basic,
    /// A token from a token server.
    Bearer(Bearer),
}

/// What a bearer challenge says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bearer {
    /// The token server's address.
    pub realm: String,
    /// What to tell the token server about who asks for the token.
    pub service: Option<String>,
    /// The rights that the token must carry, separated by spaces.
    pub scope: Option<String>,
    /// Why the token that was sent was not enough.
    pub error: Option<String>,
}

/// Reads the challenges of all `WWW-Authenticate` headers of an answer. Schemes that forge does not know and
/// bearer challenges without realm are left out.
pub fn parse<'a>(headers: impl Iterator<Item = &'a str>) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    let mut budget = CHALLENGE_BYTES;
    for header in headers {
        if header.len() > budget {
            break;
        }
        budget -= header.len();
        Parser { rest: header }.challenges(&mut challenges);
    }
    challenges.truncate(CHALLENGES);
    challenges
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn challenges(&mut self, out: &mut Vec<Challenge>) {
        while self.skip_to_token() {
            let scheme = self.token();
            // `scheme = x` outside a challenge is no scheme.
            if self.eat_equals() {
                self.value();
                continue;
            }
            let bearer = self.parameters();
            match scheme.to_ascii_lowercase().as_str() {
                "basic" => out.push(Challenge::Basic),
                "bearer" if !bearer.realm.is_empty() => out.push(Challenge::Bearer(bearer)),
                _ => {}
            }
        }
    }

    /// Parameters up to the next scheme: a token that no `=` follows.
    fn parameters(&mut self) -> Bearer {
        let mut bearer = Bearer::default();
        while self.skip_to_token() {
            let before = self.rest;
            let name = self.token();
            if !self.eat_equals() {
                self.rest = before;
                break;
            }
            let value = self.value();
            match name.to_ascii_lowercase().as_str() {
                "realm" => bearer.realm = value,
                "service" => bearer.service = Some(value),
                "scope" => bearer.scope = Some(value),
                "error" => bearer.error = Some(value),
                _ => {}
            }
        }
        bearer
    }

    fn skip_to_token(&mut self) -> bool {
        self.rest = self.rest.trim_start_matches(|c| !is_token(c));
        !self.rest.is_empty()
    }

    fn token(&mut self) -> &'a str {
        let end = self.rest.find(|c| !is_token(c)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        token
    }

    fn eat_equals(&mut self) -> bool {
        let Some(rest) = self.rest.trim_start().strip_prefix('=') else { return false };
        self.rest = rest.trim_start();
        true
    }

    fn value(&mut self) -> String {
        match self.rest.strip_prefix('"') {
            Some(rest) => {
                self.rest = rest;
                self.quoted()
            }
            None => {
                let end = self.rest.find([',', ' ', '\t']).unwrap_or(self.rest.len());
                let (value, rest) = self.rest.split_at(end);
                self.rest = rest;
                value.to_owned()
            }
        }
    }

    /// The rest of a quoted string; one that never ends goes to the end.
    fn quoted(&mut self) -> String {
        let mut value = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return value;
                }
                '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
                other => value.push(other),
            }
        }
        self.rest = "";
        value
    }
}

/// RFC 9110's `tchar`.
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let [service, scope] = [service, scope].map(|text| text.map(str::to_owned));
        Challenge::Bearer(Bearer { realm: realm.into(), service, scope, error: None })
    }

    #[test]
    fn challenges_as_registries_write_them() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/debian:pull""#;
        let rows: [(&[&str], Vec<Challenge>); 14] = [
            (
                &[hub],
                vec![bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    Some("repository:library/debian:pull"),
                )],
            ),
            (&[r#"Basic realm="x""#], vec![Challenge::Basic]),
            (&["basic"], vec![Challenge::Basic]),
            (&["BASIC realm=unquoted"], vec![Challenge::Basic]),
            (&[r#"Bearer realm="r""#, "Basic"], vec![bearer("r", None, None), Challenge::Basic]),
            (
                &[r#"Basic realm="a", Bearer realm="r",service=s"#],
                vec![Challenge::Basic, bearer("r", Some("s"), None)],
            ),
            (&[r#"Bearer realm="r", Basic"#], vec![bearer("r", None, None), Challenge::Basic]),
            (&[r#"Bearer  REALM = "r" , scope = "a b,c""#], vec![bearer("r", None, Some("a b,c"))]),
            (&[r#"Bearer realm="a\"b\\c""#], vec![bearer(r#"a"b\c"#, None, None)]),
            (&[r#"Bearer realm="never ends"#], vec![bearer("never ends", None, None)]),
            (&["Negotiate abc==, Basic"], vec![Challenge::Basic]),
            (&["Bearer", "Bearer realm=", ""], vec![]),
            (&[r#"Digest realm="x", nonce="Basic", Bearer realm=r"#], vec![bearer("r", None, None)]),
            (&["=,=,;\"\"\\", "ü Basic"], vec![Challenge::Basic]),
        ];
        for (headers, want) in rows {
            assert_eq!(parse(headers.iter().copied()), want, "{headers:?}");
        }
    }

    #[test]
    fn a_flood_of_challenges_is_cut_short() {
        let flood = "Basic, ".repeat(2_000);
        assert_eq!(parse([flood.as_str()].into_iter()).len(), CHALLENGES);
        let huge = format!("Basic realm=\"{}\"", "x".repeat(CHALLENGE_BYTES));
        assert_eq!(parse([huge.as_str()].into_iter()), vec![]);
        assert_eq!(parse((0..10_000).map(|_| "Basic")).len(), CHALLENGES);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "(Bearer|Basic|realm|[=\",\\\\ ;ü]|[a-z]{1,3}|\\PC){0,40}") {
            parse([text.as_str()].into_iter());
        }
    }
}
