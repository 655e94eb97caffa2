//! Which files of a selection changed, on one line.

use super::{Listing, NAMED};

/// `3 files changed: src/a.rs (content), run.sh (mode 644→755), +1 new`.
pub fn changed_files(old: &Listing, new: &Listing) -> String {
    let (mut contents, mut modes) = (Vec::new(), Vec::new());
    let mut added = 0;
    for (path, now) in new {
        match old.get(path) {
            None => added += 1,
            Some(before) if before.content != now.content => contents.push(format!("{path} (content)")),
            Some(before) if before.mode != now.mode => {
                modes.push(format!("{path} (mode {:o}→{:o})", before.mode, now.mode));
            }
            Some(_) => {}
        }
    }
    // What is in a file matters more than what may be done with it.
    let changed = [contents, modes].concat();
    let gone = old.keys().filter(|path| !new.contains_key(*path)).count();
    let total = changed.len() + added + gone;
    if total == 0 {
        // Listings hold files: what is left are directories and their modes.
        return "directories changed".into();
    }
    let noun = if total == 1 { "file" } else { "files" };
    let mut parts: Vec<String> = changed.iter().take(NAMED).cloned().collect();
    if changed.len() > NAMED {
        parts.push(format!("+{} more", changed.len() - NAMED));
    }
    if added > 0 {
        parts.push(format!("+{added} new"));
    }
    if gone > 0 {
        parts.push(format!("-{gone} gone"));
    }
    format!("{total} {noun} changed: {}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::FileFact;
    use super::*;

    fn file(mode: u32, content: &str) -> FileFact {
        FileFact { mode, content: content.into() }
    }

    #[test]
    fn changed_files_are_named_and_counted() {
        let old = Listing::from([
            ("src/a.rs".to_owned(), file(0o644, "1")),
            ("run.sh".to_owned(), file(0o644, "2")),
            ("same".to_owned(), file(0o644, "3")),
        ]);
        let mut new = old.clone();
        assert_eq!(changed_files(&old, &new), "directories changed");
        new.insert("src/a.rs".into(), file(0o644, "9"));
        new.insert("run.sh".into(), file(0o755, "2"));
        new.insert("more".into(), file(0o644, "4"));
        assert_eq!(
            changed_files(&old, &new),
            "3 files changed: src/a.rs (content), run.sh (mode 644→755), +1 new"
        );
        assert_eq!(
            changed_files(&new, &old),
            "3 files changed: src/a.rs (content), run.sh (mode 755→644), -1 gone"
        );
    }
}
