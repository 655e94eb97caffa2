//! The tables, and how those of an earlier format become them.

use rusqlite::Connection;

/// The newest format this forge reads and writes (`PRAGMA user_version`).
pub const FORMAT: i64 = 3;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS blobs (digest TEXT PRIMARY KEY, size INTEGER NOT NULL, boot TEXT, used INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS trees (layer TEXT PRIMARY KEY, size INTEGER NOT NULL, boot TEXT, used INTEGER NOT NULL DEFAULT 0, seal TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS diff_ids (layer TEXT PRIMARY KEY, diff_id TEXT NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS packed (layer TEXT, form TEXT, digest TEXT NOT NULL, diff_id TEXT NOT NULL, annotations TEXT NOT NULL, sum INTEGER NOT NULL, PRIMARY KEY (layer, form)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tags (name TEXT PRIMARY KEY, descriptor TEXT NOT NULL, updated INTEGER NOT NULL, sum INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cache (key TEXT PRIMARY KEY, record TEXT NOT NULL, used INTEGER NOT NULL, sum INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sources (digest TEXT, repository TEXT, PRIMARY KEY (digest, repository)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blocks (key BLOB PRIMARY KEY, blob TEXT NOT NULL, offset INTEGER NOT NULL, size INTEGER NOT NULL, seal BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS mounts (name TEXT PRIMARY KEY, note TEXT NOT NULL, used INTEGER NOT NULL, size INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
";

/// Earlier formats had no sums and no last uses. What was packed is packed again.
const FROM_EARLIER: &str = "
DROP TABLE IF EXISTS packed;
DROP TABLE IF EXISTS diff_ids;
ALTER TABLE blobs ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
ALTER TABLE trees ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
ALTER TABLE trees ADD COLUMN seal TEXT;
ALTER TABLE tags ADD COLUMN sum INTEGER;
ALTER TABLE cache ADD COLUMN sum INTEGER;
UPDATE cache SET used = used * 1000;
";

/// The format of an open database; 0 for one without tables.
pub fn format(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Makes the tables, or brings those of an older format up to date, all at once or not at all.
pub fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("PRAGMA journal_mode=WAL; BEGIN IMMEDIATE;")?;
    // Another forge may have done it while this one waited.
    let made = format(connection).and_then(|found| match found {
        FORMAT.. => Ok(()),
        1.. => connection.execute_batch(&format!("{FROM_EARLIER} {SCHEMA} PRAGMA user_version={FORMAT};")),
        _ => connection.execute_batch(&format!("{SCHEMA} PRAGMA user_version={FORMAT};")),
    });
    connection.execute_batch(if made.is_ok() { "COMMIT;" } else { "ROLLBACK;" })?;
    made
}
