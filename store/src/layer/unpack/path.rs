//! Entries' names as paths in the tree.

use super::error::Refusal;

/// A path in the tree, by its names: no `/` at either end or doubled, no `.` and no `..`. Empty for the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TreePath(Vec<u8>);

impl TreePath {
    /// Cleans an entry's name: absolute is relative to the root, `a/../b` is `b` whatever `a` is, and a `..` that
    /// would leave the tree is refused (as BuildKit does since 0bad7f46d).
    pub(super) fn of_entry(name: &[u8]) -> Result<Self, Refusal> {
        let mut path = Vec::with_capacity(name.len());
        for part in name.split(|b| *b == b'/') {
            match part {
                b"" | b"." => {}
                b".." if path.is_empty() => return Err(Refusal::Escapes),
                b".." => path.truncate(path.iter().rposition(|b| *b == b'/').unwrap_or(0)),
                part => {
                    if !path.is_empty() {
                        path.push(b'/');
                    }
                    path.extend_from_slice(part);
                }
            }
        }
        Ok(Self(path))
    }

    /// The bytes, without a leading slash.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The directory's path and the last name; `None` for the root.
    pub(super) fn split(&self) -> Option<(&[u8], &[u8])> {
        split(&self.0)
    }
}

/// Parent and last name of a path without a slash at its end; the parent of a single name is empty, the root.
pub(super) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => Some((&path[..slash], &path[slash + 1..])),
        None if path.is_empty() => None,
        None => Some((b"", path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths_in_the_tree() {
        for (name, path) in [
            (&b""[..], Some(&b""[..])),
            (b".", Some(b"")),
            (b"/.", Some(b"")),
            (b"a/..", Some(b"")),
            (b"a", Some(b"a")),
            (b"/a", Some(b"a")),
            (b"//a//b/", Some(b"a/b")),
            (b"./a/./b/.", Some(b"a/b")),
            (b"a/../b", Some(b"b")),
            (b"a/b/../c", Some(b"a/c")),
            (b"...", Some(b"...")),
            (b"a\\..\\b", Some(b"a\\..\\b")),
            (b"..", None),
            (b"/..", None),
            (b"../a", None),
            (b"a/../../b", None),
            (b"./../a", None),
        ] {
            let found = TreePath::of_entry(name);
            assert_eq!(found.as_ref().ok().map(TreePath::bytes), path, "{}", name.escape_ascii());
        }
    }
}
