//! What a build came to, reduced to what the language decides: the configuration and the tree without the base's own
//! files and without times.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tar::{Archive, EntryType};

/// Contents up to this size are shown as they are.
const SHOWN: usize = 200;

/// The settings that are compared.
const SETTINGS: [&str; 12] = [
    "Env",
    "Cmd",
    "Entrypoint",
    "ExposedPorts",
    "WorkingDir",
    "Labels",
    "User",
    "Volumes",
    "StopSignal",
    "OnBuild",
    "Shell",
    "Healthcheck",
];

/// A tree: one line of text for each path.
pub type Tree = BTreeMap<String, String>;

/// `{"error": …}`, or `{"author": …, "config": {…}, "files": {path: what}, "history": […]}`.
pub struct Outcome(pub Value);

impl Outcome {
    /// Of an image's configuration (with `config`, `history` and `author`) and its tree.
    pub fn of_image(image: &Value, tree: &Tree, base: &Tree) -> Self {
        let settings = SETTINGS.iter().filter_map(|name| Some((*name, setting(&image["config"][name])?)));
        let settings: Map<String, Value> = settings.map(|(name, value)| (name.to_owned(), value)).collect();
        let changed = tree.iter().filter(|(path, what)| base.get(*path) != Some(what));
        // An image that begins with nothing has lost nothing.
        let on_base = tree.contains_key("bin/busybox");
        let gone = base.keys().filter(|path| on_base && !tree.contains_key(*path)).map(|path| (path, "gone"));
        let files: BTreeMap<&String, &str> =
            changed.map(|(path, what)| (path, what.as_str())).chain(gone).collect();
        let steps = image["history"].as_array().into_iter().flatten().skip(1);
        let history: Vec<_> = steps.map(|step| step["created_by"].clone()).collect();
        Self(
            json!({ "author": setting(&image["author"]), "config": settings, "files": files, "history": history }),
        )
    }

    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(&self.0).unwrap() + "\n"
    }

    /// History is a builder's own.
    pub fn without_history(&self) -> Self {
        let mut value = self.0.clone();
        value.as_object_mut().unwrap().remove("history");
        Self(value)
    }

    /// The entries that differ, if any do.
    pub fn agrees_with(&self, other: &Self) -> Result<(), String> {
        let mut lines = Vec::new();
        differences("", &self.0, &other.0, &mut lines);
        if lines.is_empty() { Ok(()) } else { Err(lines.join("\n")) }
    }
}

/// Builders write "not set" in several ways; none of them is a difference.
fn setting(value: &Value) -> Option<Value> {
    let unset = match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    (!unset).then(|| value.clone())
}

fn differences(path: &str, own: &Value, other: &Value, lines: &mut Vec<String>) {
    let (Value::Object(left), Value::Object(right)) = (own, other) else {
        if own != other {
            lines.push(format!("  {path}: forge {own}, expected {other}"));
        }
        return;
    };
    let new = right.keys().filter(|key| !left.contains_key(*key));
    for key in left.keys().chain(new) {
        let (own, other) = (left.get(key).unwrap_or(&Value::Null), right.get(key).unwrap_or(&Value::Null));
        differences(&format!("{path}/{key}"), own, other, lines);
    }
}

/// Reads a tree from a tar.
pub fn tree(tar: &Path) -> Tree {
    let mut archive = Archive::new(std::fs::File::open(tar).unwrap());
    let (mut tree, mut links) = (Tree::new(), Vec::new());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = clean(&entry.path().unwrap());
        let target = entry.link_name().unwrap().map(|name| name.to_str().unwrap().to_owned());
        match entry.header().entry_type() {
            EntryType::Link => links.push((path, clean(Path::new(&target.unwrap())))),
            // The root's own attributes are the builder's.
            _ if path.is_empty() => {}
            kind => drop(tree.insert(path, describe(kind, target, &mut entry))),
        }
    }
    name_links(&mut tree, &links);
    tree
}

fn clean(path: &Path) -> String {
    path.to_str().unwrap().trim_start_matches("./").trim_start_matches('/').trim_end_matches('/').to_owned()
}

fn describe(kind: EntryType, target: Option<String>, entry: &mut tar::Entry<'_, std::fs::File>) -> String {
    let header = entry.header();
    let (mode, uid, gid) = (header.mode().unwrap() & 0o7777, header.uid().unwrap(), header.gid().unwrap());
    let owner = format!("{uid}:{gid}");
    match kind {
        EntryType::Directory => format!("directory {mode:04o} {owner}"),
        EntryType::Symlink => format!("symlink {owner} -> {}", target.unwrap()),
        EntryType::Regular => {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            format!("file {mode:04o} {owner} {}", contents(&bytes))
        }
        other => format!("{other:?} {mode:04o} {owner}"),
    }
}

fn contents(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.len() <= SHOWN => format!("{text:?}"),
        _ => {
            let digest = Sha256::digest(bytes);
            let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{} bytes sha256:{hex}", bytes.len())
        }
    }
}

/// Every name of a file says which is the first of its names, whichever of them the tar has first.
fn name_links(tree: &mut Tree, links: &[(String, String)]) {
    let mut names: BTreeMap<&String, Vec<&String>> = BTreeMap::new();
    for (path, target) in links {
        names.entry(target).or_insert_with(|| vec![target]).push(path);
    }
    for (holder, names) in names {
        let first = names.iter().min().unwrap();
        let what = format!("{}, hard link of {first}", tree[holder]);
        for name in names {
            tree.insert(name.clone(), what.clone());
        }
    }
}
