//! Two images beside each other: what differs, down to the files of layers. For people, who built the same thing
//! twice and want to know what does not come out the same.

use std::collections::BTreeMap;
use std::io::Write as _;

use forge_store::image::{ImageConfig, to_json};
use forge_store::layer::{Accept, Decompressed, EntryKind, ReadError, TarReader};
use forge_store::media_type::is_index;
use forge_store::{Blobs, Descriptor, Digest, ImageIndex, Manifest};
use serde_json::Value;

use crate::ExportError;

/// The most that a document may have, in bytes.
const DOCUMENT_BYTES_MAX: u64 = 16 << 20;
/// How many differences are told of one layer, or of one document.
const TOLD_MAX: usize = 20;

/// An image in a store.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// The store's blobs.
    pub blobs: &'a Blobs,
    /// Its manifest or index.
    pub root: &'a Descriptor,
}

/// What differs between a kept image and one that was built again: a line each; none if they are the same.
pub fn differences(kept: Side<'_>, again: Side<'_>) -> Result<Vec<String>, ExportError> {
    if kept.root.digest == again.root.digest {
        return Ok(Vec::new());
    }
    let mut lines = Lines::default();
    match (is_index(&kept.root.media_type), is_index(&again.root.media_type)) {
        (true, true) => indexes(kept, again, &mut lines)?,
        (false, false) => images(kept, again, &mut lines)?,
        _ => lines.say("one is an index of images, the other a single image".into()),
    }
    if lines.0.is_empty() {
        lines.say(format!("the manifests differ: {} and now {}", kept.root.digest, again.root.digest));
    }
    Ok(lines.0)
}

#[derive(Default)]
struct Lines(Vec<String>);

impl Lines {
    fn say(&mut self, line: String) {
        self.0.push(line);
    }

    /// Says all under a title, if there is anything to say.
    fn list(&mut self, title: &str, found: Vec<String>) {
        if found.is_empty() {
            return;
        }
        self.say(title.to_owned());
        let more = found.len().saturating_sub(TOLD_MAX);
        found.into_iter().take(TOLD_MAX).for_each(|line| self.say(format!("  {line}")));
        if more > 0 {
            self.say(format!("  and {more} more"));
        }
    }
}

fn document<T: serde::de::DeserializeOwned>(blobs: &Blobs, digest: &Digest) -> Result<T, ExportError> {
    let bytes = blobs.read(digest, DOCUMENT_BYTES_MAX)?.ok_or(ExportError::MissingBlob(*digest))?;
    serde_json::from_slice(&bytes)
        .map_err(|e| ExportError::Destination(format!("blob {digest} is not what it should be: {e}")))
}

fn indexes(kept: Side<'_>, again: Side<'_>, lines: &mut Lines) -> Result<(), ExportError> {
    let (old, new): (ImageIndex, ImageIndex) =
        (document(kept.blobs, &kept.root.digest)?, document(again.blobs, &again.root.digest)?);
    for (a, b) in old.manifests.iter().zip(&new.manifests) {
        let mut own = Lines::default();
        if a.digest != b.digest {
            images(Side { root: a, ..kept }, Side { root: b, ..again }, &mut own)?;
        }
        let platform = a.platform.as_ref().map(ToString::to_string).unwrap_or_default();
        own.0.into_iter().for_each(|line| lines.say(format!("{platform}: {line}")));
    }
    if old.manifests.len() != new.manifests.len() {
        lines.say(format!("the index lists {} images, and now {}", old.manifests.len(), new.manifests.len()));
    }
    Ok(())
}

fn images(kept: Side<'_>, again: Side<'_>, lines: &mut Lines) -> Result<(), ExportError> {
    let (old, new): (Manifest, Manifest) =
        (document(kept.blobs, &kept.root.digest)?, document(again.blobs, &again.root.digest)?);
    let (old_config, new_config): (ImageConfig, ImageConfig) =
        (document(kept.blobs, &old.config.digest)?, document(again.blobs, &new.config.digest)?);
    let made: Vec<&str> = old_config
        .history
        .iter()
        .filter(|line| !line.empty_layer)
        .map(|line| line.created_by.as_deref().unwrap_or_default())
        .collect();
    if old.layers.len() != new.layers.len() {
        lines.say(format!("it has {} layers, and now {}", old.layers.len(), new.layers.len()));
    }
    for (at, (a, b)) in old.layers.iter().zip(&new.layers).enumerate() {
        if a.digest == b.digest {
            continue;
        }
        let by = made.get(at).copied().unwrap_or_default();
        let title = format!("layer {} of {} ({by}):", at + 1, old.layers.len());
        let found = files(&read_layer(kept.blobs, a)?, &read_layer(again.blobs, b)?);
        match found.is_empty() {
            true => lines.say(format!("{title} the same files, packed otherwise")),
            false => lines.list(&title, found),
        }
    }
    let plain = |mut config: ImageConfig| {
        // Layers were compared one by one.
        config.rootfs = Default::default();
        serde_json::from_slice(&to_json(&config)).unwrap_or(Value::Null)
    };
    let mut found = Vec::new();
    values("", &plain(old_config), &plain(new_config), &mut found);
    lines.list("configuration:", found);
    let mut found = Vec::new();
    values("", &annotations(&old), &annotations(&new), &mut found);
    lines.list("annotations:", found);
    Ok(())
}

fn annotations(manifest: &Manifest) -> Value {
    serde_json::to_value(&manifest.annotations).unwrap_or(Value::Null)
}

/// What differs between two values, by their paths.
fn values(path: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let at = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
                values(&format!("{path}/{key}"), &at(a), &at(b), found);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            for at in 0..a.len().max(b.len()) {
                let of = |list: &[Value]| list.get(at).cloned().unwrap_or(Value::Null);
                values(&format!("{path}/{at}"), &of(a), &of(b), found);
            }
        }
        (a, b) if a != b => found.push(format!("{path}: {a}, and now {b}")),
        _ => {}
    }
}

/// A file of a layer.
#[derive(PartialEq, Eq)]
struct File {
    kind: EntryKind,
    mode: u32,
    owner: (u32, u32),
    mtime: i64,
    size: u64,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    content: Digest,
}

type Files = BTreeMap<String, File>;

fn read_layer(blobs: &Blobs, layer: &Descriptor) -> Result<Files, ExportError> {
    let (blob, _) = blobs.open(&layer.digest)?.ok_or(ExportError::MissingBlob(layer.digest))?;
    let fail = |e: &dyn std::fmt::Display| ExportError::Destination(format!("layer {}: {e}", layer.digest));
    let mut archive = TarReader::new(Decompressed::new(blob, Accept::Layer).map_err(|e| fail(&e))?);
    let mut files = Files::new();
    while let Some(entry) = archive.next_entry().map_err(|e| fail(&e))? {
        let content = hash(&mut archive).map_err(|e| fail(&e))?;
        let file = File {
            kind: entry.kind,
            mode: entry.mode,
            owner: (entry.uid, entry.gid),
            mtime: entry.mtime.sec,
            size: entry.size,
            xattrs: entry.xattrs,
            content,
        };
        files.insert(entry.path.escape_ascii().to_string(), file);
    }
    Ok(files)
}

/// Of a file's bytes; where they are in the file counts, holes do not.
fn hash(archive: &mut TarReader<impl std::io::Read>) -> Result<Digest, ReadError> {
    let mut hashing = forge_store::digest::Hashing::new(std::io::sink());
    while let Some(piece) = archive.next_piece()? {
        // A sink takes everything.
        let _ = hashing.write_all(piece.bytes);
    }
    Ok(hashing.finish().1)
}

fn files(old: &Files, new: &Files) -> Vec<String> {
    let mut found = Vec::new();
    for (path, a) in old {
        match new.get(path) {
            None => found.push(format!("{path}: is not there any more")),
            Some(b) if a != b => found.push(format!("{path}: {}", changes(a, b))),
            Some(_) => {}
        }
    }
    let added = new.keys().filter(|path| !old.contains_key(*path));
    found.extend(added.map(|path| format!("{path}: was not there")));
    found
}

fn changes(a: &File, b: &File) -> String {
    let mut words = Vec::new();
    if a.kind != b.kind {
        words.push("it is another kind of file, or links elsewhere".to_owned());
    }
    if a.content != b.content || a.size != b.size {
        words.push(format!("its content differs ({} bytes, and now {})", a.size, b.size));
    }
    if a.mode != b.mode {
        words.push(format!("mode {:o}, and now {:o}", a.mode, b.mode));
    }
    if a.owner != b.owner {
        words.push(format!("owner {}:{}, and now {}:{}", a.owner.0, a.owner.1, b.owner.0, b.owner.1));
    }
    if a.mtime != b.mtime {
        let time = |seconds: i64| crate::rfc3339(i128::from(seconds) * 1_000_000_000);
        words.push(format!("time {}, and now {}", time(a.mtime), time(b.mtime)));
    }
    if a.xattrs != b.xattrs {
        words.push("its extended attributes differ".to_owned());
    }
    words.join("; ")
}
