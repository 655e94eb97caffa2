//! Tags: names of images, each a descriptor of a manifest or an index that the store holds.
//!
//! They live in the index. `ROOT/index.json` lists them once more, as an OCI image layout does: other tools can read
//! the store by it, and an index that was damaged gets its tags back from it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::At;
use crate::image::to_json;

use crate::index::{Index, agrees, now, sum};
use crate::lease::Leases;
use crate::{Descriptor, ImageIndex, Locks, MediaType, StoreError};

/// The tags of one store. Names are opaque here: whoever sets them normalises them.
pub struct Tags {
    root: PathBuf,
    index: Arc<Index>,
    locks: Arc<Locks>,
    leases: Arc<Leases>,
}

/// A tag as listed.
#[derive(Clone, Debug, PartialEq)]
pub struct Tag {
    /// The full name: `registry/repository:tag`.
    pub name: String,
    /// What it names.
    pub descriptor: Descriptor,
    /// When it was last set, in seconds since 1970.
    pub updated: i64,
}

impl Tags {
    pub(crate) fn new(root: &Path, index: Arc<Index>, locks: Arc<Locks>, leases: Arc<Leases>) -> Self {
        Self { root: root.to_owned(), index, locks, leases }
    }

    /// What `name` names; the image stays from now on as long as this forge lives.
    pub fn get(&self, name: &str) -> Result<Option<Descriptor>, StoreError> {
        let sql = "SELECT descriptor, sum FROM tags WHERE name = ?1";
        let row = self.index.row(sql, [name], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
        let Some((text, sum)) = row else { return Ok(None) };
        let descriptor = parse(name, &text, sum)?;
        self.leases.hold([descriptor.digest.hex()])?;
        Ok(Some(descriptor))
    }

    /// All tags, by name.
    pub fn list(&self) -> Result<Vec<Tag>, StoreError> {
        let sql = "SELECT name, descriptor, updated, sum FROM tags ORDER BY name";
        let rows = self.index.rows(sql, [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get(2)?, row.get(3)?))
        })?;
        rows.into_iter()
            .map(|(name, text, updated, sum)| {
                Ok(Tag { descriptor: parse(&name, &text, sum)?, name, updated })
            })
            .collect()
    }

    /// Removes a tag; false if there was none.
    pub fn remove(&self, name: &str) -> Result<bool, StoreError> {
        let removed = self.index.execute("DELETE FROM tags WHERE name = ?1", [name])? > 0;
        if removed {
            // On a full disk the list stays as it was: the index counts as long as it is whole.
            self.write_list().or_else(|e| if e.is_disk_full() { Ok(()) } else { Err(e) })?;
        }
        Ok(removed)
    }

    /// Writes the tags down once more, aside and renamed. Not synced: the index is, and this is for when it is lost.
    pub(crate) fn write_list(&self) -> Result<(), StoreError> {
        let _lock = self.locks.lock("tags")?;
        let entry = |tag: Tag| {
            let mut entry = tag.descriptor;
            entry.annotations.insert(REF_NAME.into(), tag.name.clone());
            entry.annotations.insert(IMAGE_NAME.into(), tag.name);
            entry
        };
        let list = ImageIndex {
            schema_version: 2,
            media_type: Some(MediaType::ImageIndex),
            artifact_type: None,
            manifests: self.list()?.into_iter().map(entry).collect(),
            annotations: BTreeMap::new(),
            extra: BTreeMap::new(),
        };
        let path = self.root.join(LIST);
        let mut aside = tempfile::Builder::new()
            .prefix(".index-")
            .tempfile_in(&self.root)
            .at("create a file in", &self.root)?;
        aside.write_all(&to_json(&list)).at("write", &path)?;
        aside.persist(&path).map_err(|e| e.error).at("write", &path)?;
        Ok(())
    }
}

/// The tags as they were written down last; none if that cannot be read.
pub(crate) fn read_list(root: &Path) -> Vec<(String, Descriptor)> {
    let list =
        fs::read(root.join(LIST)).ok().and_then(|bytes| serde_json::from_slice::<ImageIndex>(&bytes).ok());
    let entries = list.map(|list| list.manifests).unwrap_or_default();
    let tag = |mut entry: Descriptor| {
        let name = entry.annotations.remove(IMAGE_NAME)?;
        entry.annotations.remove(REF_NAME);
        Some((name, entry))
    };
    entries.into_iter().filter_map(tag).collect()
}

/// The list's file.
const LIST: &str = "index.json";
/// The annotation that names an image in a layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The one by which containerd reads the full name.
const IMAGE_NAME: &str = "io.containerd.image.name";

/// Writes tags as a part of a transaction.
pub(crate) fn set(
    transaction: &rusqlite::Transaction<'_>,
    names: &[String],
    descriptor: &Descriptor,
) -> rusqlite::Result<()> {
    let text = String::from_utf8(to_json(descriptor)).expect("JSON is UTF-8");
    let sql = "INSERT INTO tags (name, descriptor, updated, sum) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT (name) DO UPDATE SET descriptor = ?2, updated = ?3, sum = ?4";
    for name in names {
        transaction.execute(sql, (name, &text, now(), sum(&[name, &text])))?;
    }
    Ok(())
}

fn parse(name: &str, text: &str, sum: Option<i64>) -> Result<Descriptor, StoreError> {
    let damaged = |detail: String| StoreError::Corrupt { object: format!("tag {name}"), detail };
    if !agrees(sum, &[name, text]) {
        return Err(damaged("its entry in the index is not what was written".into()));
    }
    serde_json::from_str(text).map_err(|e| damaged(e.to_string()))
}
