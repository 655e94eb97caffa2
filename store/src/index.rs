//! The index: what the store holds and whether it is durable, in one SQLite file that several forges share.
//!
//! SQLite in WAL mode with `synchronous=NORMAL`: a commit costs microseconds, a crash of the process loses
//! nothing, and a power cut may lose the last commits but never corrupts. Nothing is believed because its file
//! is there, only because the index says so; and a row that names the boot it was written in counts only within
//! that boot, until a later commit says that the file system was synced after it.

mod schema;
mod sum;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior};

use crate::StoreError;
use crate::error::At;

pub(crate) use self::sum::{agrees, sum};

/// How long a writer waits for another process's transaction. Those last microseconds to milliseconds.
const BUSY: Duration = Duration::from_secs(30);

/// How exact the time of a last use is, in milliseconds: nobody writes a row for less.
const USED_STEP_MS: i64 = 60_000;

/// The file that says that the database beside it is damaged.
pub(crate) const DAMAGED: &str = "index.damaged";

/// The open database.
pub struct Index {
    connection: Mutex<Connection>,
    path: PathBuf,
    /// The file's device and inode: another forge may make the database anew.
    file: Option<(u64, u64)>,
    /// Where a copy of a database lies that may only be read.
    _copy: Option<tempfile::TempDir>,
    boot: String,
    /// Tells the rows of this process from those of others, and each from the next.
    nonce: u64,
    next: AtomicU64,
    /// What was used since the last [`Index::note_uses`].
    used: Mutex<HashMap<(Table, String), i64>>,
}

/// A table whose rows remember when they were last used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Table {
    Blobs,
    Trees,
    Cache,
}

impl Table {
    fn update(self) -> &'static str {
        match self {
            Self::Blobs => "UPDATE blobs SET used = ?2 WHERE digest = ?1 AND used < ?2",
            Self::Trees => "UPDATE trees SET used = ?2 WHERE layer = ?1 AND used < ?2",
            Self::Cache => "UPDATE cache SET used = ?2 WHERE key = ?1 AND used < ?2",
        }
    }

    /// Removes the row of a name.
    pub fn delete(self) -> &'static str {
        match self {
            Self::Blobs => "DELETE FROM blobs WHERE digest = ?1",
            Self::Trees => "DELETE FROM trees WHERE layer = ?1",
            Self::Cache => "DELETE FROM cache WHERE key = ?1",
        }
    }
}

impl Index {
    /// Opens or creates the index at `path`; `boot` names the running kernel's boot.
    ///
    /// # Errors
    /// [`StoreError::Newer`] for a store of a later forge, [`StoreError::Index`] for what SQLite says.
    pub fn open(path: &Path, boot: String) -> Result<Self, StoreError> {
        Self::with(Connection::open(path)?, path, boot, None)?.prepared()
    }

    /// Opens the index of a store that has something in it: one without tables is damaged.
    pub(crate) fn open_existing(path: &Path, boot: String) -> Result<Self, StoreError> {
        if !path.exists() {
            return Err(StoreError::DamagedIndex(path.to_owned()));
        }
        let index = Self::with(Connection::open(path)?, path, boot, None)?;
        let format = schema::format(&index.lock());
        match format.map_err(|e| index.failed(e))? {
            0 => Err(index.damaged()),
            _ => index.prepared(),
        }
    }

    /// Opens a copy of an index that may only be read. SQLite would write beside the original even then.
    pub(crate) fn open_read_only(path: &Path, boot: String) -> Result<Self, StoreError> {
        let copy = ["/dev/shm", "/tmp"].iter().find_map(|dir| tempfile::tempdir_in(dir).ok());
        let copy = copy.ok_or_else(|| StoreError::ReadOnly(path.to_owned()))?;
        let to = copy.path().join("index.db");
        for end in ["", "-wal"] {
            let mut from = path.as_os_str().to_owned();
            from.push(end);
            let mut to = to.as_os_str().to_owned();
            to.push(end);
            match std::fs::copy(&from, &to) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound && !end.is_empty() => {}
                other => drop(other.at("read", path)?),
            }
        }
        let index = Self::with(Connection::open(&to)?, path, boot, Some(copy))?.prepared()?;
        index.forget_unsynced()?;
        index.lock().execute_batch("PRAGMA query_only=1;")?;
        Ok(index)
    }

    fn with(
        connection: Connection,
        path: &Path,
        boot: String,
        copy: Option<tempfile::TempDir>,
    ) -> Result<Self, StoreError> {
        connection.busy_timeout(BUSY)?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(Self {
            connection: Mutex::new(connection),
            path: path.to_owned(),
            file: file_at(path),
            _copy: copy,
            boot,
            nonce: RandomState::new().hash_one(0),
            next: AtomicU64::new(0),
            used: Mutex::new(HashMap::new()),
        })
    }

    fn prepared(self) -> Result<Self, StoreError> {
        match self.prepare().map_err(|e| self.failed(e))? {
            Some(found) => Err(StoreError::Newer { path: self.path.clone(), found, known: schema::FORMAT }),
            None => Ok(self),
        }
    }

    /// Some format if it is newer than what this forge knows.
    fn prepare(&self) -> rusqlite::Result<Option<i64>> {
        let connection = self.lock();
        let found = schema::format(&connection)?;
        if found > schema::FORMAT {
            return Ok(Some(found));
        }
        connection.execute_batch("PRAGMA synchronous=NORMAL;")?;
        if found < schema::FORMAT {
            schema::prepare(&connection)?;
        }
        Ok(None)
    }

    /// What an unsynced row is written with: the boot, and what no other row has.
    pub fn boot(&self) -> String {
        format!("{} {:016x}-{}", self.boot, self.nonce, self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// The connection; a panic elsewhere left no transaction open, because they roll back on drop.
    pub fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one statement.
    pub fn execute(&self, sql: &str, params: impl rusqlite::Params) -> Result<usize, StoreError> {
        let done = self.lock().prepare_cached(sql).and_then(|mut statement| statement.execute(params));
        done.map_err(|e| self.failed(e))
    }

    /// The first row of a query.
    pub fn row<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        let row =
            self.lock().prepare_cached(sql).and_then(|mut found| found.query_row(params, read).optional());
        row.map_err(|e| self.failed(e))
    }

    /// All rows of a query.
    pub fn rows<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let connection = self.lock();
        let rows = connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_map(params, read)?.collect::<Result<Vec<_>, _>>());
        rows.map_err(|e| self.failed(e))
    }

    /// Runs queries of one's own.
    pub(crate) fn query<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let connection = self.lock();
        work(&connection).map_err(|e| self.failed(e))
    }

    /// Runs `work` in one write transaction.
    pub fn together(
        &self,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), StoreError> {
        let mut connection = self.lock();
        let done = (|| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            work(&transaction)?;
            transaction.commit()
        })();
        done.map_err(|e| self.failed(e))
    }

    /// Runs `work` in one write transaction that is on disk when this returns.
    ///
    /// Call it after the files that the rows speak of were synced.
    pub fn durably(
        &self,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), StoreError> {
        let mut connection = self.lock();
        let done = (|| {
            connection.execute_batch("PRAGMA synchronous=FULL;")?;
            let outcome = (|| {
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                work(&transaction)?;
                transaction.commit()
            })();
            connection.execute_batch("PRAGMA synchronous=NORMAL;")?;
            outcome
        })();
        done.map_err(|e| self.failed(e))?;
        match self.file == file_at(&self.path) {
            true => Ok(()),
            // Another forge found it damaged and made it anew while this one worked: that has not seen this.
            false => Err(StoreError::DamagedIndex(self.path.clone())),
        }
    }

    /// The rows that were written since the last sync, as they are now: what a sync that begins after this call
    /// makes durable.
    pub(crate) fn unsynced(&self) -> Result<Unsynced, StoreError> {
        let of = |sql: &str| self.rows(sql, [], |row| Ok((row.get(0)?, row.get(1)?)));
        Ok(Unsynced {
            blobs: of("SELECT digest, boot FROM blobs WHERE boot IS NOT NULL")?,
            trees: of("SELECT layer, boot FROM trees WHERE boot IS NOT NULL")?,
        })
    }

    /// Forgets what was written in an earlier boot and never synced: its bytes may be torn.
    pub fn forget_unsynced(&self) -> Result<(), StoreError> {
        let ours = format!("{} *", self.boot);
        for table in ["blobs", "trees"] {
            let stale = format!("SELECT 1 FROM {table} WHERE boot IS NOT NULL AND boot NOT GLOB ?1 LIMIT 1");
            if self.row(&stale, [&ours], |_| Ok(()))?.is_some() {
                let forget = format!("DELETE FROM {table} WHERE boot IS NOT NULL AND boot NOT GLOB ?1");
                self.execute(&forget, [&ours])?;
            }
        }
        Ok(())
    }

    /// Remembers that a row was used now. It is written with others, by [`Index::note_uses`].
    pub(crate) fn touch(&self, table: Table, key: &str, last: i64) {
        let now = now_ms();
        if now - last >= USED_STEP_MS {
            self.used.lock().unwrap_or_else(PoisonError::into_inner).insert((table, key.to_owned()), now);
        }
    }

    /// Writes down what was used, at one go. Losing it makes things look older than they are, so it is best effort.
    pub(crate) fn note_uses(&self) {
        let used = std::mem::take(&mut *self.used.lock().unwrap_or_else(PoisonError::into_inner));
        if used.is_empty() {
            return;
        }
        let _ = self.together(|transaction| {
            used.iter().try_for_each(|((table, key), when)| {
                transaction.prepare_cached(table.update())?.execute((key, when)).map(drop)
            })
        });
    }

    /// Has SQLite read all of the database.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match self.row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0))?.as_deref() {
            Some("ok") => Ok(()),
            _ => Err(self.damaged()),
        }
    }

    /// Marks the database as damaged, so that whoever opens the store next makes it anew.
    fn damaged(&self) -> StoreError {
        // Without the mark it is found damaged again.
        let _ = std::fs::write(self.path.with_file_name(DAMAGED), b"");
        StoreError::DamagedIndex(self.path.clone())
    }

    /// Sorts what SQLite says. A damaged database is marked, so that the next forge makes it anew.
    fn failed(&self, error: rusqlite::Error) -> StoreError {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => self.damaged(),
            Some(ErrorCode::ReadOnly) => StoreError::ReadOnly(self.path.clone()),
            _ => error.into(),
        }
    }
}

fn file_at(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// Rows that no sync covers yet: names, and what they were written with.
pub(crate) struct Unsynced {
    blobs: Vec<(String, String)>,
    trees: Vec<(String, String)>,
}

impl Unsynced {
    /// Marks them as durable, as far as they are still the same.
    pub fn mark(&self, transaction: &rusqlite::Transaction<'_>) -> rusqlite::Result<()> {
        let tables = [
            ("UPDATE blobs SET boot = NULL WHERE digest = ?1 AND boot = ?2", &self.blobs),
            ("UPDATE trees SET boot = NULL WHERE layer = ?1 AND boot = ?2", &self.trees),
        ];
        for (sql, rows) in tables {
            let mut update = transaction.prepare_cached(sql)?;
            rows.iter().try_for_each(|row| update.execute((&row.0, &row.1)).map(drop))?;
        }
        Ok(())
    }
}

/// Names the running boot of the kernel.
pub fn boot_id() -> Result<String, StoreError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    Ok(std::fs::read_to_string(path).at("read", path)?.trim().to_owned())
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    now_ms() / 1000
}

/// Milliseconds since 1970: last uses are told apart by them.
pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(index: &Index, digest: &str) {
        let sql = "INSERT INTO blobs (digest, size, boot) VALUES (?1, 1, ?2)";
        index.execute(sql, (digest, index.boot())).unwrap();
    }

    fn digests(index: &Index) -> Vec<String> {
        index.rows("SELECT digest FROM blobs ORDER BY digest", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn what_is_written_while_the_disk_is_synced_is_not_taken_for_durable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.db");
        let index = Index::open(&path, "boot-1".into()).unwrap();
        insert(&index, "a");
        let unsynced = index.unsynced().unwrap();
        // Another forge writes now, and makes `a` once more.
        insert(&index, "b");
        index.durably(|transaction| unsynced.mark(transaction)).unwrap();
        drop(index);

        let same_boot = Index::open(&path, "boot-1".into()).unwrap();
        same_boot.forget_unsynced().unwrap();
        assert_eq!(digests(&same_boot), ["a", "b"]);
        let next_boot = Index::open(&path, "boot-2".into()).unwrap();
        next_boot.forget_unsynced().unwrap();
        assert_eq!(digests(&next_boot), ["a"], "after a power cut only what was synced counts");
    }

    #[test]
    fn a_row_that_was_made_again_is_not_the_one_that_was_synced() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(&dir.path().join("index.db"), "boot".into()).unwrap();
        insert(&index, "a");
        let unsynced = index.unsynced().unwrap();
        index.execute("DELETE FROM blobs", []).unwrap();
        insert(&index, "a");
        index.durably(|transaction| unsynced.mark(transaction)).unwrap();
        assert_eq!(index.unsynced().unwrap().blobs.len(), 1);
    }

    #[test]
    fn a_store_of_the_first_format_is_brought_up_to_date() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(
            "CREATE TABLE blobs (digest TEXT PRIMARY KEY, size INTEGER NOT NULL, boot TEXT) WITHOUT ROWID;
             CREATE TABLE trees (layer TEXT PRIMARY KEY, size INTEGER NOT NULL, boot TEXT) WITHOUT ROWID;
             CREATE TABLE diff_ids (layer TEXT PRIMARY KEY, diff_id TEXT NOT NULL, size INTEGER NOT NULL) WITHOUT ROWID;
             CREATE TABLE packed (layer TEXT, form TEXT, digest TEXT NOT NULL, PRIMARY KEY (layer, form)) WITHOUT ROWID;
             CREATE TABLE tags (name TEXT PRIMARY KEY, descriptor TEXT NOT NULL, updated INTEGER NOT NULL) WITHOUT ROWID;
             CREATE TABLE cache (key TEXT PRIMARY KEY, record TEXT NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID;
             CREATE TABLE sources (digest TEXT, repository TEXT, PRIMARY KEY (digest, repository)) WITHOUT ROWID;
             INSERT INTO blobs VALUES ('a', 1, NULL);
             INSERT INTO cache VALUES ('k', 'record', 7);
             PRAGMA user_version=1;",
        )
        .unwrap();
        drop(old);
        let index = Index::open(&path, "boot".into()).unwrap();
        assert_eq!(digests(&index), ["a"]);
        insert(&index, "b");
        let kept = index.row("SELECT record FROM cache WHERE sum IS NULL", [], |row| row.get::<_, String>(0));
        assert_eq!(kept.unwrap().as_deref(), Some("record"));
    }

    #[test]
    fn what_is_no_database_is_said_to_be_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.db");
        std::fs::write(&path, vec![7; 8192]).unwrap();
        assert!(matches!(Index::open(&path, "boot".into()), Err(StoreError::DamagedIndex(_))));
    }
}
