//! Whether a word can be an image's name at all. Taking one apart is the registry's business.

/// `[host[:port]/]path[:tag][@digest]` by the distribution's grammar, or a stage's name, which looks the same.
pub(crate) fn is_image_name(name: &str) -> bool {
    let (name, digest) = match name.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (name, None),
    };
    // A colon before a slash belongs to the host's port.
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    let path = match path.split_once('/') {
        Some((host, rest)) if is_host(host) => rest,
        _ => path,
    };
    path.split('/').all(is_component) && tag.is_none_or(is_tag) && digest.is_none_or(is_digest)
}

/// What comes before the first slash is a host if it cannot be a user.
fn is_host(text: &str) -> bool {
    let looks_like_host =
        text.contains(['.', ':']) || text == "localhost" || text.contains(char::is_uppercase);
    looks_like_host && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-:[]".contains(c))
}

fn is_component(text: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(word)
        && text.ends_with(word)
        && text.chars().all(|c| word(c) || "._-".contains(c))
        && !["..", "___", "._", "_.", ".-", "-.", "_-", "-_"].iter().any(|bad| text.contains(bad))
}

fn is_tag(text: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        !algorithm.is_empty() && hex.len() >= 32 && hex.chars().all(|c| c.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in [
            "alpine",
            "alpine:3.20",
            "a/b/c",
            "localhost:5000/x",
            "ghcr.io/a/b:v1",
            "a__b",
            "a--b",
            "scratch",
        ] {
            assert!(is_image_name(name), "{name}");
        }
        let digest = format!("alpine@sha256:{}", "0".repeat(64));
        assert!(is_image_name(&digest));
        for name in
            ["", "alpine:", ":3", "Alpine", "a//b", "a/", "/a", "a:b:c d", "-a", "a..b", "a@sha256:0", "a b"]
        {
            assert!(!is_image_name(name), "{name}");
        }
    }
}
