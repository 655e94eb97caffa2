//! An index that was damaged, made anew from what is on disk.
//!
//! Blobs are believed once their bytes were hashed, trees once their files are those that their seal says. Tags come
//! from the rows that can still be read and from `index.json`. Rows that can be read and whose sums are right keep
//! what they say: records, DiffIDs, sources. The rest is lost, and is cache only.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

use crate::error::At;
use crate::image::to_json;
use crate::index::{DAMAGED, Index, agrees, now, now_ms, sum};
use crate::store::INDEX;
use crate::tags::read_list;
use crate::{Digest, Locks, StoreError};

/// What was made anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Names of images.
    pub tags: u64,
    /// Blobs whose bytes are right.
    pub blobs: u64,
    /// Files among the blobs whose bytes are not what their names say; they are gone.
    pub damaged_blobs: u64,
    /// Trees that may be what they were; they are still to be compared with their seals.
    pub layers: u64,
    /// Cache records.
    pub records: u64,
}

/// A row, field by field.
type Row = Vec<Value>;

/// Makes the index anew, unless another forge did so meanwhile.
pub(crate) fn recover(root: &Path, boot: &str) -> Result<Option<Recovered>, StoreError> {
    let _lock = Locks::new(root).lock("recover")?;
    let (path, marker) = (root.join(INDEX), root.join(DAMAGED));
    if !marker.exists() && Index::open_existing(&path, boot.to_owned()).is_ok() {
        return Ok(None);
    }
    // From here on a crash begins anew: the marker goes last.
    fs::write(&marker, b"").at("write", &marker)?;
    let old = Salvage::read(&path);
    let aside =
        tempfile::Builder::new().prefix(".index-").tempdir_in(root).at("create a directory in", root)?;
    let fresh = aside.path().join(INDEX);
    let recovered = fill(root, &fresh, boot, old)?;
    for end in ["-wal", "-shm"] {
        let stale = root.join(format!("{INDEX}{end}"));
        match fs::remove_file(&stale) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).at("remove", &stale),
            _ => {}
        }
    }
    fs::rename(&fresh, &path).at("rename the index to", &path)?;
    let dir = fs::File::open(root).at("open", root)?;
    rustix::fs::syncfs(&dir).at("sync", root)?;
    fs::remove_file(&marker).at("remove", &marker)?;
    Ok(Some(recovered))
}

/// Writes what can be vouched for into a new database.
fn fill(root: &Path, fresh: &Path, boot: &str, old: Salvage) -> Result<Recovered, StoreError> {
    let index = Index::open(fresh, boot.to_owned())?;
    let mut recovered = Recovered::default();
    let blobs = hash_blobs(root, &mut recovered)?;
    let mut tags = BTreeMap::new();
    for (name, descriptor) in read_list(root) {
        tags.insert(name, String::from_utf8(to_json(&descriptor)).expect("JSON is UTF-8"));
    }
    tags.extend(old.sound("tags", 3, &[0, 1]).filter_map(|row| Some((text(&row[0])?, text(&row[1])?))));
    index.together(|transaction| {
        for (digest, size) in &blobs {
            let sql = "INSERT OR REPLACE INTO blobs (digest, size, boot, used) VALUES (?1, ?2, NULL, ?3)";
            transaction.prepare_cached(sql)?.execute((digest.hex(), size, now_ms()))?;
            recovered.blobs += 1;
        }
        for (name, descriptor) in &tags {
            let sql = "INSERT OR REPLACE INTO tags (name, descriptor, updated, sum) VALUES (?1, ?2, ?3, ?4)";
            transaction.prepare_cached(sql)?.execute((name, descriptor, now(), sum(&[name, descriptor])))?;
            recovered.tags += 1;
        }
        for row in old.sound("cache", 3, &[0, 1]) {
            insert(transaction, "cache", row)?;
            recovered.records += 1;
        }
        for (table, at, fields) in [("packed", 5, &[0, 1, 2, 3, 4][..]), ("diff_ids", 2, &[0, 1])] {
            old.sound(table, at, fields).try_for_each(|row| insert(transaction, table, row))?;
        }
        for row in old.rows("trees").filter(|row| text(&row[4]).is_some()) {
            if text(&row[0]).is_some_and(|name| root.join("layers").join(name).is_dir()) {
                insert(transaction, "trees", row)?;
                recovered.layers += 1;
            }
        }
        for table in ["sources", "mounts"] {
            old.rows(table).try_for_each(|row| insert(transaction, table, row))?;
        }
        Ok(())
    })?;
    // The last connection that closes writes everything into the one file.
    drop(index);
    Ok(recovered)
}

fn insert(transaction: &rusqlite::Transaction<'_>, table: &str, row: &Row) -> rusqlite::Result<()> {
    let places: Vec<String> = (1..=row.len()).map(|n| format!("?{n}")).collect();
    let sql = format!("INSERT OR REPLACE INTO {table} VALUES ({})", places.join(", "));
    transaction.prepare_cached(&sql)?.execute(rusqlite::params_from_iter(row)).map(drop)
}

/// Every blob whose bytes are what its name says, with its size; others are removed.
fn hash_blobs(root: &Path, recovered: &mut Recovered) -> Result<Vec<(Digest, u64)>, StoreError> {
    let dir = root.join("blobs/sha256");
    let mut blobs = Vec::new();
    for entry in fs::read_dir(&dir).at("list", &dir)? {
        let path = entry.at("list", &dir)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Ok(digest) = format!("sha256:{name}").parse::<Digest>() else { continue };
        let mut hashing = crate::digest::Hashing::new(fs::File::open(&path).at("open", &path)?);
        std::io::copy(&mut hashing, &mut std::io::sink()).at("read", &path)?;
        let (_, found, size) = hashing.finish();
        if found == digest {
            blobs.push((digest, size));
        } else {
            recovered.damaged_blobs += 1;
            fs::remove_file(&path).at("remove", &path)?;
        }
    }
    Ok(blobs)
}

/// The rows that can still be read.
struct Salvage {
    tables: BTreeMap<&'static str, Vec<Row>>,
}

/// Tables with their columns and their key.
const TABLES: [(&str, &str, &str); 7] = [
    ("tags", "name, descriptor, updated, sum", "name"),
    ("cache", "key, record, used, sum", "key"),
    ("packed", "layer, form, digest, diff_id, annotations, sum", "layer"),
    ("diff_ids", "layer, diff_id, sum", "layer"),
    ("trees", "layer, size, boot, used, seal", "layer"),
    ("sources", "digest, repository", "digest"),
    ("mounts", "name, note, used, size", "name"),
];

impl Salvage {
    /// Reads each table from both ends until the damage.
    fn read(path: &Path) -> Self {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let Ok(connection) = Connection::open_with_flags(path, flags) else {
            return Self { tables: BTreeMap::new() };
        };
        let read = |(table, columns, key): (&'static str, &str, &str)| {
            let mut rows = Vec::new();
            for order in ["ASC", "DESC"] {
                let sql = format!("SELECT {columns} FROM {table} ORDER BY {key} {order}");
                if read_until_damage(&connection, &sql, &mut rows).is_ok() {
                    // It was whole.
                    break;
                }
            }
            (table, rows)
        };
        Self { tables: TABLES.into_iter().map(read).collect() }
    }

    fn rows(&self, table: &str) -> impl Iterator<Item = &Row> {
        self.tables.get(table).into_iter().flatten()
    }

    /// Rows whose sum, at `at`, is that of these fields.
    fn sound(&self, table: &str, at: usize, fields: &'static [usize]) -> impl Iterator<Item = &Row> {
        self.rows(table).filter(move |row| {
            let texts: Option<Vec<String>> = fields.iter().map(|field| text(row.get(*field)?)).collect();
            let Some(Value::Integer(sum)) = row.get(at) else { return false };
            texts.is_some_and(|texts| {
                agrees(Some(*sum), &texts.iter().map(String::as_str).collect::<Vec<_>>())
            })
        })
    }
}

fn read_until_damage(connection: &Connection, sql: &str, into: &mut Vec<Row>) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(sql)?;
    let columns = statement.column_count();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        into.push((0..columns).map(|at| row.get(at)).collect::<rusqlite::Result<_>>()?);
    }
    Ok(())
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}
