//! Text from builds, shown on a terminal: colours pass, everything else that a terminal would obey is shown.

/// Makes text harmless: SGR sequences (`ESC [ … m`) and tabs pass, other control and bidi characters are shown
/// as `\u{…}`.
pub fn for_terminal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(length) = sgr_length(rest) {
            out.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        if c == '\t' || !(c.is_control() || is_bidi(c)) {
            out.push(c);
        } else {
            out.extend(c.escape_unicode());
        }
        rest = &rest[c.len_utf8()..];
    }
    out
}

/// The length of the SGR sequence that `text` begins with.
fn sgr_length(text: &str) -> Option<usize> {
    let body = text.strip_prefix("\x1b[")?;
    let end = body.bytes().position(|b| !(b.is_ascii_digit() || b == b';'))?;
    (body.as_bytes()[end] == b'm').then_some(end + 3)
}

/// Characters that reorder what stands around them.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_pass_and_commands_do_not() {
        for (text, want) in [
            ("plain\ttext é", "plain\ttext é"),
            ("\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"),
            ("\x1b[2J", "\\u{1b}[2J"),
            ("\x1b]52;c;aGk=\x07", "\\u{1b}]52;c;aGk=\\u{7}"),
            ("a\rb", "a\\u{d}b"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("\u{202e}txt", "\\u{202e}txt"),
            ("\x1b[31", "\\u{1b}[31"),
        ] {
            assert_eq!(for_terminal(text), want);
        }
    }
}
