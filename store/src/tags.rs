//! Tags: names of images, each a descriptor of a manifest or an index that the store holds.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::index::Index;
use crate::{Descriptor, StoreError};

/// The tags of one store. Names are opaque here: whoever sets them normalises them.
pub struct Tags {
    index: Arc<Index>,
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
    pub(crate) fn new(index: Arc<Index>) -> Self {
        Self { index }
    }

    /// What `name` names.
    pub fn get(&self, name: &str) -> Result<Option<Descriptor>, StoreError> {
        let row = self.index.row("SELECT descriptor FROM tags WHERE name = ?1", [name], |row| row.get(0))?;
        row.map(|text: String| parse(name, &text)).transpose()
    }

    /// All tags, by name.
    pub fn list(&self) -> Result<Vec<Tag>, StoreError> {
        let sql = "SELECT name, descriptor, updated FROM tags ORDER BY name";
        let rows = self
            .index
            .rows(sql, [], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get(2)?)))?;
        rows.into_iter()
            .map(|(name, text, updated)| Ok(Tag { descriptor: parse(&name, &text)?, name, updated }))
            .collect()
    }

    /// Removes a tag; false if there was none.
    pub fn remove(&self, name: &str) -> Result<bool, StoreError> {
        Ok(self.index.execute("DELETE FROM tags WHERE name = ?1", [name])? > 0)
    }
}

/// Writes tags as a part of a transaction.
pub(crate) fn set(
    transaction: &rusqlite::Transaction<'_>,
    names: &[String],
    descriptor: &Descriptor,
) -> rusqlite::Result<()> {
    let text = String::from_utf8(crate::image::to_json(descriptor)).expect("JSON is UTF-8");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
    let sql = "INSERT INTO tags (name, descriptor, updated) VALUES (?1, ?2, ?3)
               ON CONFLICT (name) DO UPDATE SET descriptor = ?2, updated = ?3";
    for name in names {
        transaction.execute(sql, (name, &text, now))?;
    }
    Ok(())
}

fn parse(name: &str, text: &str) -> Result<Descriptor, StoreError> {
    serde_json::from_str(text)
        .map_err(|e| StoreError::Corrupt { object: format!("tag {name}"), detail: e.to_string() })
}
