//! Which files a COPY source takes.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use forge_solver::matching::{Component, IgnoreDirectory, IgnorePatterns, components, has_meta};
use forge_solver::op::Selection;
use forge_store::rootdir::{FileKind, Stat};

use super::error::FilesError;
use super::view::{TreeView, resolve};

/// One thing that a source word matched.
#[derive(Clone, Debug)]
pub struct Match {
    /// Where it is: its symlinks are resolved.
    pub path: PathBuf,
    /// How it was named: decides what it is called at its destination.
    pub name: PathBuf,
    /// What it is.
    pub stat: Stat,
}

/// Everything that a selection names and does not leave out, in order of the names.
///
/// # Errors
/// [`FilesError::NotFound`] if the selection is required and nothing is there.
pub fn select(view: &dyn TreeView, selection: &Selection) -> Result<Vec<Match>, FilesError> {
    let pattern = || FilesError::Pattern { pattern: selection.pattern.clone() };
    let parts = components(&selection.pattern, selection.deep_wildcards).map_err(|_| pattern())?;
    let mut names = Vec::new();
    expand(view, PathBuf::new(), &parts, &mut names)?;
    names.sort();
    names.dedup();
    let mut found = Vec::new();
    for name in names {
        let path = resolve(view, &name, true)?;
        if let Some(stat) = view.stat(&path)? {
            found.push(Match { path, name, stat });
        }
    }
    if found.is_empty() && selection.required {
        let path = PathBuf::from(&selection.pattern);
        let ignored = resolve(view, &path, true).is_ok_and(|path| view.is_hidden(&path));
        return Err(FilesError::NotFound { path, ignored });
    }
    let left_out = excludes(selection)?;
    if !left_out.is_empty() {
        found.retain(|found| !is_left_out(found, selection, &left_out));
    }
    Ok(found)
}

/// Whether `--exclude` leaves out a match itself. Its patterns are relative to where the match was found, for
/// `--parents` to where its path begins; a directory that is named in full is itself where they begin.
fn is_left_out(found: &Match, selection: &Selection, patterns: &IgnorePatterns) -> bool {
    let is_dir = found.stat.kind == FileKind::Directory;
    if !selection.deep_wildcards {
        let named = is_dir && !has_meta(&selection.pattern);
        let name = found.name.file_name().unwrap_or_default();
        return !named && patterns.excludes(name.as_bytes());
    }
    let mut directory = patterns.walker();
    let mut names = kept(found, selection).peekable();
    while let Some(name) = names.next() {
        let entry = directory.entry(name.as_bytes());
        let goes_on = names.peek().is_some() || is_dir;
        if entry.excluded && !(goes_on && entry.descend) {
            return true;
        }
        directory = entry.directory();
    }
    false
}

/// What `--exclude` leaves out below a match.
pub fn left_out_below<'a>(
    found: &Match,
    selection: &Selection,
    patterns: &'a IgnorePatterns,
) -> IgnoreDirectory<'a> {
    let root = patterns.walker();
    if !selection.deep_wildcards || patterns.is_empty() {
        return root;
    }
    kept(found, selection).fold(root, |directory, name| directory.entry(name.as_bytes()).directory())
}

/// `--parents`: the names that the match's path keeps.
fn kept<'a>(found: &'a Match, selection: &Selection) -> impl Iterator<Item = &'a std::ffi::OsStr> {
    found.name.iter().skip(selection.pivot.unwrap_or(0))
}

/// The patterns that leave things out.
pub fn excludes(selection: &Selection) -> Result<IgnorePatterns, FilesError> {
    IgnorePatterns::from_patterns(&selection.excludes)
        .map_err(|_| FilesError::Pattern { pattern: selection.excludes.join(", ") })
}

/// Collects the names below `at` that match `parts`.
fn expand(
    view: &dyn TreeView,
    at: PathBuf,
    parts: &[Component],
    names: &mut Vec<PathBuf>,
) -> Result<(), FilesError> {
    let Some((first, rest)) = parts.split_first() else {
        names.push(at);
        return Ok(());
    };
    match first {
        Component::Literal(name) => {
            let next = at.join(std::ffi::OsStr::from_bytes(name));
            expand(view, next, rest, names)
        }
        Component::Glob(glob) => {
            for child in directory(view, &at)? {
                if glob.matches(child.as_os_str().as_bytes()) {
                    let next = at.join(child);
                    expand(view, next, rest, names)?;
                }
            }
            Ok(())
        }
        Component::AnyDepth => {
            expand(view, at.clone(), rest, names)?;
            for child in directory(view, &at)? {
                let next = at.join(child);
                // Links are not followed here: `**` in a loop of links would never end.
                if view.stat(&next)?.is_some_and(|stat| stat.kind == FileKind::Directory) {
                    expand(view, next, parts, names)?;
                } else if rest.is_empty() {
                    names.push(next);
                }
            }
            Ok(())
        }
    }
}

/// The names in a directory; none if it is no directory.
fn directory(view: &dyn TreeView, path: &Path) -> Result<Vec<PathBuf>, FilesError> {
    let path = resolve(view, path, true)?;
    match view.stat(&path)? {
        Some(stat) if stat.kind == FileKind::Directory => {
            Ok(view.children(&path)?.iter().map(|child| PathBuf::from(&child.name)).collect())
        }
        _ => Ok(Vec::new()),
    }
}
