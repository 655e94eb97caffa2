//! Sources that are not paths: which words name a URL or a git repository.

/// `http://…` or `https://…`.
pub fn is_url(source: &str) -> bool {
    has_scheme(source, "http") || has_scheme(source, "https")
}

/// A git repository by its looks: `git://…`, `ssh://…`, `user@host:path`, or an http URL whose path ends in
/// `.git`. (`github.com/…` is one as a build context, but as a source it may as well be a path.)
pub fn is_git_reference(source: &str) -> bool {
    let before_fragment = source.split('#').next().unwrap_or_default();
    if is_url(source) {
        let path = before_fragment.split('?').next().unwrap_or_default();
        let path = path.split_once("://").map_or("", |(_, rest)| rest);
        return path.split_once('/').is_some_and(|(_, path)| path.ends_with(".git"));
    }
    has_scheme(source, "git") || has_scheme(source, "ssh") || is_scp(before_fragment)
}

/// A text for people, histories and logs: whoever an address in it says to be is hidden, unless that is a mere user
/// of ssh.
pub fn redacted(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        let is_ssh = before.to_ascii_lowercase().ends_with("ssh");
        let host_end = after.find(|c: char| "/?#".contains(c) || c.is_whitespace()).unwrap_or(after.len());
        rest = match after[..host_end].rfind('@') {
            Some(at) if !is_ssh || after[..at].contains(':') => {
                shown.push_str("xxxxx");
                &after[at..]
            }
            _ => after,
        };
    }
    shown + rest
}

/// The name that ADD gives to what a URL leads to: the last element of its path.
///
/// It never leads anywhere: what cannot be one plain name is `__unnamed__`, as a URL without a path is.
pub fn file_name_of_url(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let path = rest.split_once('/').map_or("", |(_, path)| path);
    let decoded = crate::git_reference::decode(path);
    let name = decoded.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let is_plain = !name.is_empty()
        && !matches!(name, "." | "..")
        && name.len() <= 255
        && !name.contains(|c: char| c.is_control() || c == '\u{fffd}');
    if is_plain { name.to_owned() } else { "__unnamed__".to_owned() }
}

/// `user@host:path`.
fn is_scp(source: &str) -> bool {
    let Some((user, rest)) = source.split_once('@') else { return false };
    let Some((host, _)) = rest.split_once(':') else { return false };
    let plain = |text: &str, also: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(c))
    };
    plain(user, "-_") && plain(host, "-.")
}

fn has_scheme(source: &str, scheme: &str) -> bool {
    source
        .get(..scheme.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(scheme) && source[scheme.len()..].starts_with("://"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_urls_are_plain_names() {
        for (url, want) in [
            ("http://h/a/b.tgz?x=/y#z", "b.tgz"),
            ("http://h/a%20b", "a b"),
            ("http://h/a/", "a"),
            ("http://h", "__unnamed__"),
            ("http://h/", "__unnamed__"),
            ("http://h/a/..", "__unnamed__"),
            ("http://h/%2e%2e", "__unnamed__"),
            ("http://h/..%2f..%2fetc%2fpasswd", "passwd"),
            ("http://h/a%2f..", "__unnamed__"),
            ("http://h/a%00b", "__unnamed__"),
            ("http://h/a%0ab", "__unnamed__"),
            ("http://h/%ff", "__unnamed__"),
            ("http://h/.bashrc", ".bashrc"),
            ("http://h/a%zz", "a%zz"),
        ] {
            assert_eq!(file_name_of_url(url), want, "{url}");
        }
        assert_eq!(redacted("https://u:p@h/x?a@b"), "https://xxxxx@h/x?a@b");
        assert_eq!(redacted("https://h/x@y"), "https://h/x@y");
        assert_eq!(
            redacted("ADD http://a:b@h ssh://git@h ssh://u:p@h/ c@d"),
            "ADD http://xxxxx@h ssh://git@h ssh://xxxxx@h/ c@d"
        );
    }

    #[test]
    fn kinds_of_sources() {
        for url in ["http://a/b", "https://a/b", "HTTPS://a/b", "https://a/b.git"] {
            assert!(is_url(url), "{url}");
        }
        for path in ["a/b", "./http://x", "httpx://a", "http:/a", "", "ftp://a/b", "é"] {
            assert!(!is_url(path), "{path}");
        }
        for git in [
            "git://h/p",
            "ssh://git@h/p",
            "git@github.com:moby/buildkit.git",
            "https://h/p.git",
            "https://h/p.git#main:sub",
            "https://h/p.git?ref=main",
            "user@host.xz:path#v1",
        ] {
            assert!(is_git_reference(git), "{git}");
        }
        for other in
            ["https://h/p.tar", "github.com/moby/buildkit", "a@b", "@h:p", "u@:p", "a/b@c:d", "https://x.git"]
        {
            assert!(!is_git_reference(other), "{other}");
        }
    }
}
