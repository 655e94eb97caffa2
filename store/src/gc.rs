//! Taking things out of the store: what a user wants gone, and what goes by itself.
//!
//! A collector stops others from holding more ([`crate::lease`]), looks at everything once ([`crate::usage`]),
//! decides ([`plan`]), takes out what goes, and lets the others go on before it removes anything for good. All of
//! it is linear in the number of things.

mod ballast;
mod filter;
mod plan;
mod policy;
mod sweep;

use std::collections::BTreeMap;

pub(crate) use self::ballast::{BALLAST, Ballast};
pub use self::filter::{Filter, FilterError, seconds};
pub use self::plan::Prune;
pub use self::policy::{Disk, Limits};

use crate::index::now;
use crate::limits::COLLECT_INTERVAL_SECONDS;
use crate::usage::graph::Graph;
use crate::usage::meter::Meter;
use crate::usage::{Item, Kind};
use crate::{Digest, Store, StoreError};

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// How many things of each kind, and their bytes on disk.
    pub kinds: BTreeMap<Kind, (u64, u64)>,
}

impl Freed {
    pub(crate) fn add(&mut self, kind: Kind, bytes: u64) {
        let entry = self.kinds.entry(kind).or_default();
        *entry = (entry.0 + 1, entry.1 + bytes);
    }

    /// Bytes on disk of everything that was removed.
    pub fn bytes(&self) -> u64 {
        self.kinds.values().map(|(_, bytes)| bytes).sum()
    }

    /// How many things were removed.
    pub fn count(&self) -> u64 {
        self.kinds.values().map(|(count, _)| count).sum()
    }
}

impl Store {
    /// What [`Store::prune`] would remove, with sizes on disk.
    pub fn would_prune(&self, prune: &Prune) -> Result<Vec<Item>, StoreError> {
        let frozen = self.leases().freeze()?;
        let graph = Graph::read(self, &frozen)?;
        let disk = Disk::of(self.root())?;
        drop(frozen);
        let mut meter = Meter::default();
        let sized = |at: usize| {
            let mut item = graph.items[at].clone();
            if item.kind != Kind::Record {
                item.size = meter.bytes(&self.place_of(item.kind, &item.id));
            }
            item
        };
        Ok(plan::of_prune(&graph, prune, disk).into_iter().map(sized).collect())
    }

    /// Removes what the user wants removed and nobody needs.
    pub fn prune(&self, prune: &Prune) -> Result<Freed, StoreError> {
        let disk = Disk::of(self.root())?;
        self.take_out(|graph| plan::of_prune(graph, prune, disk))
    }

    /// Keeps the store within its limits, if that was not seen to a moment ago; for the end of a build. Lets go of
    /// all that this forge holds.
    pub fn collect(&self, limits: Limits) -> Result<Option<Freed>, StoreError> {
        self.leases().release();
        let disk = Disk::of(self.root())?;
        self.measure_mounts()?;
        let used = self.rough_size()?;
        let last: i64 = self.note("collected")?.and_then(|text| text.parse().ok()).unwrap_or(0);
        let since = now() - last;
        if used <= limits.allowed(used, disk) && (0..COLLECT_INTERVAL_SECONDS).contains(&since) {
            return Ok(None);
        }
        let freed = self.take_out(|graph| plan::of_collection(graph, limits, disk))?;
        self.set_note("collected", &now().to_string())?;
        Ok(Some(freed))
    }

    /// Removes names, and at once what only those images needed; the cache keeps what it needs. Gives the names
    /// that were there and the digests of the images that went.
    pub fn remove_images(&self, names: &[String]) -> Result<(Vec<bool>, Vec<Digest>), StoreError> {
        let mut images = Vec::new();
        let mut found = Vec::new();
        for name in names {
            let image = self.tags().get(name)?;
            found.push(self.tags().remove(name)?);
            images.extend(image.map(|descriptor| descriptor.digest));
        }
        // Looking a name up has held its image.
        self.leases().release();
        let mut gone = Vec::new();
        self.take_out(|graph| {
            let parts: Vec<Vec<usize>> = images.iter().map(|image| graph.image(self, image)).collect();
            let plan = plan::of_images(graph, &parts);
            let goes = |image: &&Digest| plan.iter().any(|at| graph.items[*at].id == image.hex());
            gone = images.iter().filter(goes).copied().collect();
            gone.sort();
            gone.dedup();
            plan
        })?;
        Ok((found, gone))
    }

    /// Decides by the whole graph, while nobody can hold more, and removes what was decided.
    fn take_out(&self, decide: impl FnOnce(&Graph) -> Vec<usize>) -> Result<Freed, StoreError> {
        let ballast = Ballast::of(self.root());
        ballast.drop_if_full();
        let frozen = self.leases().freeze()?;
        let graph = Graph::read(self, &frozen)?;
        let items: Vec<&Item> = decide(&graph).into_iter().map(|at| &graph.items[at]).collect();
        let trash = sweep::take_out(self, &items, &frozen)?;
        drop(frozen);
        let mut freed = trash.remove();
        // Rows lie within the database's files, which keep their size and are filled again.
        items.iter().filter(|item| item.kind == Kind::Record).for_each(|_| freed.add(Kind::Record, 0));
        ballast.put_by();
        Ok(freed)
    }

    /// What the store takes, as the index has it: quickly said, and near the truth.
    fn rough_size(&self) -> Result<u64, StoreError> {
        let sums =
            "SELECT (SELECT COALESCE(SUM(size), 0) FROM blobs) + (SELECT COALESCE(SUM(size), 0) FROM trees)
                    + (SELECT COALESCE(SUM(size), 0) FROM mounts)";
        let things: u64 = self.index().row(sums, [], |row| row.get(0))?.unwrap_or(0);
        Ok(things + self.index_bytes() + self.ballast_bytes())
    }

    /// Measures the cache mounts that were used since they were measured last.
    fn measure_mounts(&self) -> Result<(), StoreError> {
        let sql = "SELECT name FROM mounts WHERE size IS NULL";
        for name in self.index().rows(sql, [], |row| row.get::<_, String>(0))? {
            let bytes = Meter::default().bytes(&self.place_of(Kind::CacheMount, &name));
            self.index().execute("UPDATE mounts SET size = ?2 WHERE name = ?1", (name, bytes))?;
        }
        Ok(())
    }
}
