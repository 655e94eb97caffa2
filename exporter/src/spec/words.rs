//! The words of one `-o`: `key=value`, separated by commas, quoted as CSV is.

use std::collections::{BTreeMap, BTreeSet};

use forge_solver::did_you_mean;

use super::Annotation;

/// Words that no one has taken yet.
pub(super) struct Words {
    left: BTreeMap<String, String>,
    annotations: Vec<(String, String)>,
    /// What was asked for: the words that there are.
    known: BTreeSet<&'static str>,
}

/// Words that stand for true where they stand alone.
const FLAGS: [&str; 13] = [
    "push",
    "push-by-digest",
    "store",
    "name-canonical",
    "unpack",
    "registry.insecure",
    "force-compression",
    "oci-mediatypes",
    "prefer-nondist-layers",
    "rewrite-timestamp",
    "platform-split",
    "tar",
    "danging-name-empty-only",
];

impl Words {
    pub(super) fn split(text: &str) -> Result<Self, String> {
        let mut words = Self { left: BTreeMap::new(), annotations: Vec::new(), known: BTreeSet::new() };
        for part in split_csv(text) {
            let (key, value) = match part.split_once('=') {
                Some((key, value)) => (key.trim(), value),
                None if FLAGS.contains(&part.trim()) => (part.trim(), "true"),
                None => return Err(format!("`{part}` is not key=value")),
            };
            if key.starts_with("annotation") {
                words.annotations.push((key.to_owned(), value.to_owned()));
            } else {
                words.left.insert(key.to_lowercase(), value.to_owned());
            }
        }
        Ok(words)
    }

    pub(super) fn take(&mut self, key: &'static str) -> Option<String> {
        self.known.insert(key);
        self.left.remove(key)
    }

    pub(super) fn maybe_flag(&mut self, key: &'static str) -> Result<Option<bool>, String> {
        match self.take(key).as_deref() {
            None => Ok(None),
            Some("true" | "1" | "") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(other) => Err(format!("{key}={other} is neither true nor false")),
        }
    }

    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> Result<bool, String> {
        Ok(self.maybe_flag(key)?.unwrap_or(default))
    }

    pub(super) fn annotations(&mut self) -> Result<Vec<Annotation>, String> {
        let found = std::mem::take(&mut self.annotations);
        found.into_iter().map(|(key, value)| Annotation::of_option(&key, value)).collect()
    }

    /// Refuses what nobody took.
    pub(super) fn finish(self, kind: &str) -> Result<(), String> {
        let left = self.left.into_keys().chain(self.annotations.into_iter().map(|(key, _)| key)).next();
        match left {
            None => Ok(()),
            Some(key) => {
                let near = meant(&key, self.known);
                Err(format!("forge does not know the option `{key}` of type={kind}{near}"))
            }
        }
    }
}

/// ` (did you mean X?)`, or nothing.
pub(super) fn meant<'a>(word: &str, words: impl IntoIterator<Item = &'a str>) -> String {
    did_you_mean(word, words).map(|near| format!(" (did you mean {near}?)")).unwrap_or_default()
}

/// Splits at commas, but not inside double quotes; a doubled quote inside them is one.
fn split_csv(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let part = parts.last_mut().expect("one part is there from the start");
        match c {
            '"' if quoted && chars.next_if_eq(&'"').is_some() => part.push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted => parts.push(String::new()),
            c => part.push(c),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_commas_together() {
        assert_eq!(split_csv(r#"a,"b=c,d",e"#), ["a", "b=c,d", "e"]);
        assert_eq!(split_csv(r#""a=""x"""#), [r#"a="x""#]);
    }
}
