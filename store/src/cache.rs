//! Cache records: text under a key, deletable at any time. What keys and records mean is the solver's affair.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::StoreError;
use crate::index::Index;

/// The cache records of one store.
pub struct Cache {
    index: Arc<Index>,
}

impl Cache {
    pub(crate) fn new(index: Arc<Index>) -> Self {
        Self { index }
    }

    /// The record under `key`.
    pub fn get(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.index.row("SELECT record FROM cache WHERE key = ?1", [key], |row| row.get(0))
    }

    /// Writes the record under `key`, in place of an older one.
    pub fn put(&self, key: &str, record: &str) -> Result<(), StoreError> {
        let sql = "INSERT INTO cache (key, record, used) VALUES (?1, ?2, ?3)
                   ON CONFLICT (key) DO UPDATE SET record = ?2, used = ?3";
        self.index.execute(sql, (key, record, now())).map(drop)
    }

    /// Removes the record under `key`.
    pub fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.index.execute("DELETE FROM cache WHERE key = ?1", [key]).map(drop)
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64)
}
