//! Words that others sent, made fit for a message: short, on one line, without control characters or secrets.

/// How much of a foreign text a message may quote, in characters.
const QUOTED_CHARS: usize = 300;

/// One line of at most 300 characters, control characters and line breaks as spaces, `user:password@` hidden.
pub fn clean(text: &str) -> String {
    let mut line: String =
        text.chars().take(QUOTED_CHARS).map(|c| if is_plain(c) { c } else { ' ' }).collect();
    if text.chars().nth(QUOTED_CHARS).is_some() {
        line.push('…');
    }
    hide_userinfo(line.trim())
}

/// Puts `xxxxx` wherever the text holds one of the secrets.
pub fn redact(text: &str, secrets: &[impl AsRef<str>]) -> String {
    let mut out = text.to_owned();
    for secret in secrets.iter().map(AsRef::as_ref).filter(|secret| !secret.is_empty()) {
        out = out.replace(secret, "xxxxx");
    }
    out
}

/// Neither a control character nor one that reorders the line it stands in.
fn is_plain(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `https://user:password@host` becomes `https://xxxxx@host`.
fn hide_userinfo(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        out.push_str(before);
        out.push_str("://");
        let end = after.find(|c: char| c == '/' || c.is_whitespace()).unwrap_or(after.len());
        rest = match after[..end].rfind('@') {
            Some(at) => {
                out.push_str("xxxxx");
                &after[at..]
            }
            None => after,
        };
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_words_cannot_drive_the_terminal_or_leak() {
        assert_eq!(clean("a\x1b[2Jb\r\nc\u{202e}d"), "a [2Jb  c d");
        assert_eq!(clean(&"x".repeat(1000)).chars().count(), 301);
        assert_eq!(clean("see http://me:pw@h/x and https://t@k"), "see http://xxxxx@h/x and https://xxxxx@k");
        assert_eq!(clean("http://a@b@c/d@e"), "http://xxxxx@c/d@e");
        assert_eq!(redact("token abc and abc", &["abc", ""]), "token xxxxx and xxxxx");
    }
}
