//! What lies in a store: every thing that can be had again, who needs it, and what it costs on disk.
//!
//! ```text
//! tag ── manifest ── configuration, packed layers       an image: whole as long as a tag stands
//! record ── record ── layers, in either form            the cache: deletable at any time
//! lease ── whatever a running forge named               held until that forge ends
//! ```

pub(crate) mod graph;
pub(crate) mod meter;
mod records;
mod refs;

use std::fmt;

use crate::index::now_ms;
use crate::{Store, StoreError};

use self::graph::Graph;
use self::meter::Meter;

/// What sort of thing takes space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Bytes named by their digest: manifests, configurations, packed layers, downloads.
    Blob,
    /// The tree of a layer.
    Layer,
    /// What a step gave, in the index.
    Record,
    /// A directory of `RUN --mount=type=cache`.
    CacheMount,
    /// Hashes of a context's files.
    Context,
    /// What builds were made of, and what their steps said.
    Log,
    /// A blob that is not whole yet.
    Ingest,
    /// What a running forge works on, or a dead one left.
    Temporary,
    /// The database, records aside.
    Index,
    /// Locks, leases and the like.
    Other,
}

impl Kind {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 10] = [
        Self::Blob,
        Self::Layer,
        Self::Record,
        Self::CacheMount,
        Self::Context,
        Self::Log,
        Self::Ingest,
        Self::Temporary,
        Self::Index,
        Self::Other,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blob => "blob",
            Self::Layer => "layer",
            Self::Record => "record",
            Self::CacheMount => "cache-mount",
            Self::Context => "context",
            Self::Log => "log",
            Self::Ingest => "ingest",
            Self::Temporary => "temporary",
            Self::Index => "index",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One thing that takes space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What it is.
    pub kind: Kind,
    /// Its name: a digest, a layer's id, a key, a file's name.
    pub id: String,
    /// Bytes on disk.
    pub size: u64,
    /// When it was last used, in milliseconds since 1970.
    pub used_ms: i64,
    /// An image that has a tag needs it.
    pub in_image: bool,
    /// More than one thing needs it: several images, or an image and the cache.
    pub shared: bool,
    /// A running forge holds it.
    pub in_use: bool,
    /// How many cache records need it.
    pub records: u32,
    /// What it is about, for people.
    pub note: String,
}

impl Item {
    /// True if it may go: it can be made or had again, no tag needs it and nobody uses it.
    pub fn is_reclaimable(&self) -> bool {
        let can_go = !matches!(self.kind, Kind::Index | Kind::Other);
        // A tagged image is whole without its layers' trees.
        let is_of_image = self.in_image && self.kind != Kind::Layer;
        can_go && !self.in_use && !is_of_image
    }

    /// Seconds since it was last used.
    pub fn unused_for(&self) -> i64 {
        (now_ms().saturating_sub(self.used_ms) / 1000).max(0)
    }
}

/// Bytes of the things of one kind, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many there are.
    pub count: u64,
    /// Of those that more than one thing needs.
    pub shared: u64,
    /// Of the others.
    pub unique: u64,
    /// Of those that may go.
    pub reclaimable: u64,
    /// Of all.
    pub total: u64,
}

impl Sum {
    /// The sum of these.
    pub fn of<'a>(items: impl IntoIterator<Item = &'a Item>) -> Self {
        items.into_iter().fold(Self::default(), |sum, item| Self {
            count: sum.count + 1,
            shared: sum.shared + if item.shared { item.size } else { 0 },
            unique: sum.unique + if item.shared { 0 } else { item.size },
            reclaimable: sum.reclaimable + if item.is_reclaimable() { item.size } else { 0 },
            total: sum.total + item.size,
        })
    }
}

impl Store {
    /// Everything in the store with its size on disk. The sizes add up to what `du` says of the store's directory.
    pub fn disk_usage(&self) -> Result<Vec<Item>, StoreError> {
        let graph = {
            let frozen = self.leases().freeze()?;
            Graph::read(self, &frozen)?
        };
        Ok(measured(self, graph.items))
    }
}

/// Replaces sizes that the index says by those that the disk says.
fn measured(store: &Store, mut items: Vec<Item>) -> Vec<Item> {
    let mut meter = Meter::default();
    let records: u64 = items.iter().filter(|item| item.kind == Kind::Record).map(|item| item.size).sum();
    for item in items.iter_mut().filter(|item| !matches!(item.kind, Kind::Record | Kind::Index | Kind::Other))
    {
        item.size = meter.bytes(&store.place_of(item.kind, &item.id));
    }
    for item in items.iter_mut().filter(|item| item.kind == Kind::Index) {
        let database: u64 = store.index_files().iter().map(|path| meter.bytes(path)).sum();
        item.size = database.saturating_sub(records);
    }
    // What is not named above: directories themselves, locks, leases.
    let rest = meter.bytes(store.root());
    items.iter_mut().filter(|item| item.kind == Kind::Other).for_each(|item| item.size = rest);
    items
}
