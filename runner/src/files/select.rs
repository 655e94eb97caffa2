//! Which files a COPY source takes.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use forge_solver::matching::{Component, IgnorePatterns, components};
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

/// Everything that a selection names, in order of the names.
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
    Ok(found)
}

/// The patterns that leave things out, relative to each match.
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
            Ok(view.children(&path)?.into_iter().map(|child| PathBuf::from(child.name)).collect())
        }
        _ => Ok(Vec::new()),
    }
}
