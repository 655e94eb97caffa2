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
