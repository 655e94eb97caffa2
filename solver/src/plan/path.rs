//! Paths inside an image: slashes only, cleaned as Go's `path.Clean` does it.

use crate::limits::{NAME_BYTES_MAX, PATH_BYTES_MAX};

/// What Linux will not take of a path, if it is too long: found here, where the line is known, and not by whoever
/// unpacks the layer.
pub fn too_long(path: &str) -> Option<String> {
    let longest = path.split('/').map(str::len).max().unwrap_or_default();
    if longest > NAME_BYTES_MAX {
        return Some(format!("a name of {longest} bytes, and Linux takes {NAME_BYTES_MAX}"));
    }
    let whole = path.len();
    (whole > PATH_BYTES_MAX).then(|| format!("a path of {whole} bytes, and Linux takes {PATH_BYTES_MAX}"))
}

/// An absolute path, cleaned: no `.`, `..` or double slashes; `..` stops at the root.
pub fn absolute(base: &str, path: &str) -> String {
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("{base}/{path}") };
    let mut elements: Vec<&str> = Vec::new();
    for element in joined.split('/') {
        match element {
            "" | "." => {}
            ".." => drop(elements.pop()),
            other => elements.push(other),
        }
    }
    format!("/{}", elements.join("/"))
}

/// A path relative to the root, cleaned: what COPY's sources are. `""` is the root.
pub fn rooted(path: &str) -> String {
    absolute("/", path)[1..].to_owned()
}

/// A COPY destination: absolute, with a slash at its end where the text names a directory by its form.
pub fn destination(workdir: &str, text: &str) -> String {
    let is_dir = text.is_empty() || text == "." || text.ends_with('/') || text.ends_with("/.");
    let path = absolute(workdir, text);
    if is_dir && path != "/" { format!("{path}/") } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_keep_what_their_form_says() {
        for (workdir, text, want) in [
            ("/", ".", "/"),
            ("/", "./", "/"),
            ("/app", "./", "/app/"),
            ("/app", "", "/app/"),
            ("/app", "x", "/app/x"),
            ("/app", "../x/", "/x/"),
            ("/app", "/y", "/y"),
            ("/app", "/y/.", "/y/"),
            ("/", "../../..", "/"),
        ] {
            assert_eq!(destination(workdir, text), want, "{workdir} {text}");
        }
        assert_eq!(rooted("/a/./b/../c"), "a/c");
        assert_eq!(rooted("../../etc"), "etc");
        assert_eq!(rooted("."), "");
    }
}
