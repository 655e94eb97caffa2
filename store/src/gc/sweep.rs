//! Removing, so that a crash at any moment leaves nothing that names what is gone: names first, then things.
//!
//! A name's row goes before its file. Files and trees are renamed into this forge's own directory, which takes
//! microseconds and is what others have to wait for; they are removed there, and swept by the next forge if this one
//! dies.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::Freed;
use crate::error::At;
use crate::lease::Frozen;
use crate::session::{Session, remove_tree};
use crate::usage::meter::Meter;
use crate::usage::{Item, Kind};
use crate::{Store, StoreError};

/// How many things' rows go in one transaction: little enough that its pages fit into the ballast.
const BATCH: usize = 128;

/// What was taken out of the store and is not yet removed.
pub(super) struct Trash {
    session: Session,
    things: Vec<(Kind, PathBuf)>,
    /// What the dead left, removed already.
    freed: Freed,
}

/// Takes things out of the store, in this order. Nothing that is held may be among them.
pub(super) fn take_out(store: &Store, items: &[&Item], frozen: &Frozen) -> Result<Trash, StoreError> {
    let mut freed = Freed::default();
    for item in items.iter().filter(|item| item.kind == Kind::Temporary) {
        freed.add(Kind::Temporary, Meter::default().bytes(&store.place_of(Kind::Temporary, &item.id)));
    }
    // Starting a session sweeps those of the dead.
    let session = Session::start(&store.place_of(Kind::Temporary, ""))?;
    let mut trash = Trash { session, things: Vec::new(), freed };
    for batch in items.chunks(BATCH) {
        forget(store, batch)?;
        for item in batch {
            trash.take(store, item)?;
        }
    }
    trash.take_strays(store, frozen)?;
    // Hints about where compressed blocks lie ([`crate::known_blocks`]), in one pass.
    store.index().execute("DELETE FROM blocks WHERE blob NOT IN (SELECT digest FROM blobs)", [])?;
    Ok(trash)
}

/// Removes the rows of things.
fn forget(store: &Store, items: &[&Item]) -> Result<(), StoreError> {
    store.index().together(|transaction| {
        for item in items {
            let statements: &[&str] = match item.kind {
                Kind::Record => &["DELETE FROM cache WHERE key = ?1"],
                Kind::Layer => &["DELETE FROM trees WHERE layer = ?1"],
                Kind::Blob => &[
                    "DELETE FROM packed WHERE digest = ?1",
                    "DELETE FROM sources WHERE digest = ?1",
                    "DELETE FROM blobs WHERE digest = ?1",
                ],
                Kind::CacheMount => &["DELETE FROM mounts WHERE name = ?1"],
                _ => &[],
            };
            for sql in statements {
                transaction.prepare_cached(sql)?.execute([&item.id])?;
            }
        }
        Ok(())
    })
}

impl Trash {
    fn take(&mut self, store: &Store, item: &Item) -> Result<(), StoreError> {
        match item.kind {
            // Rows only.
            Kind::Record | Kind::Index | Kind::Other => Ok(()),
            // Swept before; a session that lives is never among them.
            Kind::Temporary => Ok(()),
            kind => self.take_path(kind, &store.place_of(kind, &item.id)),
        }
    }

    fn take_path(&mut self, kind: Kind, from: &Path) -> Result<(), StoreError> {
        let to = self.session.dir().join(format!("gone-{}", self.things.len()));
        match fs::rename(from, &to) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            other => {
                other.at("move away", from)?;
                self.things.push((kind, to));
                Ok(())
            }
        }
    }

    /// Files that a crash left without a row. Whoever makes one holds its name first, so what is held is let alone.
    fn take_strays(&mut self, store: &Store, frozen: &Frozen) -> Result<(), StoreError> {
        for (kind, sql) in
            [(Kind::Blob, "SELECT digest FROM blobs"), (Kind::Layer, "SELECT layer FROM trees")]
        {
            let known: HashSet<String> = store.index().rows(sql, [], |row| row.get(0))?.into_iter().collect();
            let dir = store.place_of(kind, "");
            for entry in fs::read_dir(&dir).at("list", &dir)?.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if !known.contains(&name) && !frozen.holds(&name) {
                    self.take_path(kind, &entry.path())?;
                }
            }
        }
        Ok(())
    }

    /// Removes it for good; says what that freed.
    pub fn remove(self) -> Freed {
        let mut freed = self.freed.clone();
        let mut meter = Meter::default();
        for (kind, path) in &self.things {
            let bytes = meter.bytes(path);
            // What cannot be removed now the next forge sweeps.
            let _ = match fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
                true => remove_tree(path),
                false => fs::remove_file(path),
            };
            freed.add(*kind, bytes);
        }
        freed
    }
}
