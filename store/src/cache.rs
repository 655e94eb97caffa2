//! Cache records: text under a key, deletable at any time. What keys and records mean is the solver's affair.

use std::sync::Arc;

use rusqlite::OptionalExtension;

use crate::StoreError;
use crate::index::{Index, Table, agrees, now_ms, sum};
use crate::lease::Leases;

const GET: &str = "SELECT record, used, sum FROM cache WHERE key = ?1";
const PUT: &str = "INSERT INTO cache (key, record, used, sum) VALUES (?1, ?2, ?3, ?4)
                   ON CONFLICT (key) DO UPDATE SET record = ?2, used = ?3, sum = ?4";

/// A record, its last use, and the sum over it.
type Row = (String, i64, Option<i64>);

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

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
        let row = self.index.row(GET, [key], read)?;
        Ok(row.and_then(|row| self.believed(key, row)))
    }

    fn believed(&self, key: &str, (record, used, sum): Row) -> Option<String> {
        agrees(sum, &[key, &record]).then_some(())?;
        self.index.touch(Table::Cache, key, used);
        Some(record)
    }

    /// Several records at once, as [`Cache::get`] gives each.
    pub fn get_all(&self, keys: &[String]) -> Result<Vec<Option<String>>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        self.leases.hold(keys)?;
        let rows = self.index.query(|connection| {
            // One look: each statement alone would lock and unlock the database.
            let transaction = connection.unchecked_transaction()?;
            let mut statement = transaction.prepare_cached(GET)?;
            let one = |key: &String| statement.query_row([key], read).optional();
            keys.iter().map(one).collect::<rusqlite::Result<Vec<_>>>()
        })?;
        Ok(keys.iter().zip(rows).map(|(key, row)| self.believed(key, row?)).collect())
    }

    /// Writes records, each in place of an older one, all of them or none.
    pub fn put_all(&self, records: &[(String, String)]) -> Result<(), StoreError> {
        self.leases.hold(records.iter().map(|(key, _)| key))?;
        self.index.together(|transaction| {
            let mut statement = transaction.prepare_cached(PUT)?;
            records.iter().try_for_each(|(key, record)| {
                statement.execute((key, record, now_ms(), sum(&[key, record]))).map(drop)
            })
        })
    }

    /// Writes the record under `key`, in place of an older one.
    pub fn put(&self, key: &str, record: &str) -> Result<(), StoreError> {
        self.leases.hold([key])?;
        self.index.execute(PUT, (key, record, now_ms(), sum(&[key, record]))).map(drop)
    }

    /// Removes the record under `key`.
    pub fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.index.execute("DELETE FROM cache WHERE key = ?1", [key]).map(drop)
    }
}
