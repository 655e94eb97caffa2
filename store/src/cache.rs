//! Cache records: text under a key, deletable at any time. What keys and records mean is the solver's affair.

use std::sync::Arc;

use crate::StoreError;
use crate::index::{Index, Table, agrees, now_ms, sum};
use crate::lease::Leases;

/// The cache records of one store.
pub struct Cache {
    index: Arc<Index>,
    leases: Arc<Leases>,
}

impl Cache {
    pub(crate) fn new(index: Arc<Index>, leases: Arc<Leases>) -> Self {
        Self { index, leases }
    }

    /// The record under `key`, which stays from now on as long as this forge lives. One whose bytes were damaged is
    /// none.
    pub fn get(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.leases.hold([key])?;
        let sql = "SELECT record, used, sum FROM cache WHERE key = ?1";
        let row = self.index.row(sql, [key], |row| {
            Ok((row.get::<_, String>(0)?, row.get(1)?, row.get::<_, Option<i64>>(2)?))
        })?;
        let Some((record, used, sum)) = row else { return Ok(None) };
        if !agrees(sum, &[key, &record]) {
            return Ok(None);
        }
        self.index.touch(Table::Cache, key, used);
        Ok(Some(record))
    }

    /// Writes the record under `key`, in place of an older one.
    pub fn put(&self, key: &str, record: &str) -> Result<(), StoreError> {
        self.leases.hold([key])?;
        let sql = "INSERT INTO cache (key, record, used, sum) VALUES (?1, ?2, ?3, ?4)
                   ON CONFLICT (key) DO UPDATE SET record = ?2, used = ?3, sum = ?4";
        self.index.execute(sql, (key, record, now_ms(), sum(&[key, record]))).map(drop)
    }

    /// Removes the record under `key`.
    pub fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.index.execute("DELETE FROM cache WHERE key = ?1", [key]).map(drop)
    }
}
