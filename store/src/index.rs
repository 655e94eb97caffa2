//! The index: what the store holds and whether it is durable, in one SQLite file that several forges share.
//!
//! SQLite in WAL mode with `synchronous=NORMAL`: a commit costs microseconds, a crash of the process loses
//! nothing, and a power cut may lose the last commits but never corrupts. Nothing is believed because its file
//! is there, only because the index says so; and a row that names the boot it was written in counts only within
//! that boot, until a later commit says that the file system was synced after it.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use crate::StoreError;
use crate::error::At;

/// The newest format this forge reads and writes (`PRAGMA user_version`).
const FORMAT: i64 = 2;

/// How long a writer waits for another process's transaction. Those last microseconds to milliseconds.
const BUSY: Duration = Duration::from_secs(30);

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS blobs (digest TEXT PRIMARY KEY, size INTEGER NOT NULL, boot TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS trees (layer TEXT PRIMARY KEY, size INTEGER NOT NULL, boot TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS diff_ids (layer TEXT PRIMARY KEY, diff_id TEXT NOT NULL, size INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS packed (layer TEXT, form TEXT, digest TEXT NOT NULL, diff_id TEXT NOT NULL, annotations TEXT NOT NULL, PRIMARY KEY (layer, form)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tags (name TEXT PRIMARY KEY, descriptor TEXT NOT NULL, updated INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cache (key TEXT PRIMARY KEY, record TEXT NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sources (digest TEXT, repository TEXT, PRIMARY KEY (digest, repository)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blocks (key BLOB PRIMARY KEY, blob TEXT NOT NULL, offset INTEGER NOT NULL, size INTEGER NOT NULL, seal BLOB NOT NULL) WITHOUT ROWID;
";

/// The open database.
pub struct Index {
    connection: Mutex<Connection>,
    boot: String,
}

impl Index {
    /// Opens or creates the index at `path`; `boot` names the running kernel's boot.
    ///
    /// # Errors
    /// [`StoreError::Newer`] for a store of a later forge, [`StoreError::Index`] for what SQLite says.
    pub fn open(path: &Path, boot: String) -> Result<Self, StoreError> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        connection.set_prepared_statement_cache_capacity(64);
        let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if found > FORMAT {
            return Err(StoreError::Newer { path: path.to_owned(), found, known: FORMAT });
        }
        connection.execute_batch("PRAGMA synchronous=NORMAL;")?;
        let index = Self { connection: Mutex::new(connection), boot };
        if found < FORMAT {
            index.create()?;
        }
        Ok(index)
    }

    fn create(&self) -> Result<(), StoreError> {
        let connection = self.lock();
        connection.execute_batch("PRAGMA journal_mode=WAL;")?;
        // Of older formats only `packed` differs, and what it says can be found out again.
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; DROP TABLE IF EXISTS packed; {SCHEMA} PRAGMA user_version={FORMAT}; COMMIT;"
        ))?;
        Ok(())
    }

    /// The boot that unsynced rows are written with.
    pub fn boot(&self) -> &str {
        &self.boot
    }

    /// The connection; a panic elsewhere left no transaction open, because they roll back on drop.
    pub fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one statement.
    pub fn execute(&self, sql: &str, params: impl rusqlite::Params) -> Result<usize, StoreError> {
        Ok(self.lock().prepare_cached(sql)?.execute(params)?)
    }

    /// The first row of a query.
    pub fn row<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        Ok(self.lock().prepare_cached(sql)?.query_row(params, read).optional()?)
    }

    /// All rows of a query.
    pub fn rows<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(sql)?;
        let rows = statement.query_map(params, read)?.collect::<Result<_, _>>()?;
        Ok(rows)
    }

    /// Runs `work` in one write transaction.
    pub fn together(
        &self,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), StoreError> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        work(&transaction)?;
        Ok(transaction.commit()?)
    }

    /// Runs `work` in one write transaction that is on disk when this returns.
    ///
    /// Call it after the files that the rows speak of were synced.
    pub fn durably(
        &self,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), StoreError> {
        let mut connection = self.lock();
        connection.execute_batch("PRAGMA synchronous=FULL;")?;
        let outcome = (|| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            work(&transaction)?;
            transaction.commit()
        })();
        connection.execute_batch("PRAGMA synchronous=NORMAL;")?;
        Ok(outcome?)
    }

    /// Forgets what was written in an earlier boot and never synced: its bytes may be torn.
    pub fn forget_unsynced(&self) -> Result<(), StoreError> {
        for table in ["blobs", "trees"] {
            let stale = format!("SELECT 1 FROM {table} WHERE boot IS NOT NULL AND boot <> ?1 LIMIT 1");
            if self.row(&stale, [&self.boot], |_| Ok(()))?.is_some() {
                self.execute(
                    &format!("DELETE FROM {table} WHERE boot IS NOT NULL AND boot <> ?1"),
                    [&self.boot],
                )?;
            }
        }
        Ok(())
    }
}

/// Names the running boot of the kernel.
pub fn boot_id() -> Result<String, StoreError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    Ok(std::fs::read_to_string(path).at("read", path)?.trim().to_owned())
}
