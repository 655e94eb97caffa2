//! Layers, in both their forms: a packed blob that travels, and a tree that overlayfs stacks.
//!
//! ```text
//! ROOT/layers/<id>/            the tree: an overlayfs upper directory, immutable once it has this name
//! ```
//!
//! Either form is made from the other when it is needed. A tree made from a blob is bound to its DiffID only
//! after the whole uncompressed stream was hashed.

mod follow;
mod packing;
mod seal;

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use crate::error::At;
use crate::index::{Index, Table, agrees, now_ms, sum};
use crate::layer;
use crate::lease::Leases;
use crate::session::{Draft, LazySession, remove_tree};
use crate::snapshot::{Layer, Snapshot};
use crate::tree::OverlayXattrs;
use crate::{Blobs, Descriptor, DiffId, Digest, LayerId, Lock, Locks, RootDir, StoreError};

pub use follow::Follow;
pub use packing::LayerForm;
pub(crate) use seal::Checked;

/// A layer ready to travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedLayer {
    /// Its blob.
    pub descriptor: Descriptor,
    /// The digest of its uncompressed tar.
    pub diff_id: DiffId,
}

/// The layers of one store.
pub struct Layers {
    dir: PathBuf,
    index: Arc<Index>,
    blobs: Blobs,
    locks: Arc<Locks>,
    leases: Arc<Leases>,
    session: Arc<LazySession>,
    xattrs: OverlayXattrs,
    /// Trees that this forge made or checked.
    fresh: Mutex<HashSet<LayerId>>,
    /// Trees that were found here, and are held since.
    held: Mutex<HashSet<LayerId>>,
}

impl Layers {
    pub(crate) fn new(
        root: &Path,
        index: Arc<Index>,
        blobs: Blobs,
        locks: Arc<Locks>,
        leases: Arc<Leases>,
        session: Arc<LazySession>,
        xattrs: OverlayXattrs,
    ) -> Self {
        let (dir, fresh, held) = (root.join("layers"), Mutex::default(), Mutex::default());
        Self { dir, index, blobs, locks, leases, session, xattrs, fresh, held }
    }

    /// How overlayfs' marks are written in this store's trees.
    pub fn xattrs(&self) -> OverlayXattrs {
        self.xattrs
    }

    /// The layer's tree, if there is one: the index knows it, and its directory has not gone. From now on the layer
    /// stays as long as this forge lives.
    pub fn tree(&self, id: &LayerId) -> Result<Option<PathBuf>, StoreError> {
        // A deep stack is asked for layer by layer in each step.
        let path = self.path(id);
        if self.held().contains(id) && path.exists() {
            return Ok(Some(path));
        }
        let found = self.find_tree(id)?;
        if found.is_some() {
            self.held().insert(*id);
        }
        Ok(found)
    }

    fn held(&self) -> MutexGuard<'_, HashSet<LayerId>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find_tree(&self, id: &LayerId) -> Result<Option<PathBuf>, StoreError> {
        let hex = id.hex();
        self.leases.hold([&hex])?;
        let used = self.index.row("SELECT used FROM trees WHERE layer = ?1", [&hex], |row| row.get(0))?;
        let Some(used) = used else { return Ok(None) };
        self.index.touch(Table::Trees, &hex, used);
        Ok(Some(self.path(id)).filter(|path| path.exists()))
    }

    /// Whether any layer is unpacked.
    pub(crate) fn has_trees(&self) -> Result<bool, StoreError> {
        Ok(self.index.row("SELECT 1 FROM trees LIMIT 1", [], |_| Ok(()))?.is_some())
    }

    /// True if the layer can be had without the network: its tree or its blob is here.
    pub fn is_local(&self, layer: &Layer) -> Result<bool, StoreError> {
        Ok(self.tree(&layer.id)?.is_some() || self.blob_of(layer)?.is_some())
    }

    /// The layer's tree, unpacked from its blob if it must be.
    ///
    /// # Errors
    /// [`StoreError::MissingLayer`] if neither is here, [`StoreError::Corrupt`] if the blob is not what it claims.
    pub fn ensure_tree(&self, layer: &Layer) -> Result<PathBuf, StoreError> {
        if let Some(path) = self.tree(&layer.id)? {
            return Ok(path);
        }
        let _lock = self.lock(&layer.id)?;
        if let Some(path) = self.tree(&layer.id)? {
            return Ok(path);
        }
        self.unpack(layer)?;
        Ok(self.path(&layer.id))
    }

    /// A snapshot's trees as overlayfs stacks them, the topmost first, each unpacked if it must be.
    ///
    /// A layer that occurs twice is there once: overlayfs refuses a directory twice, and all that the lower
    /// occurrence says the upper one says again.
    pub fn stack(&self, snapshot: &Snapshot) -> Result<Vec<PathBuf>, StoreError> {
        let mut seen = HashSet::new();
        let layers = snapshot.downward().filter(|layer| seen.insert(layer.id));
        layers.map(|layer| self.ensure_tree(layer)).collect()
    }

    fn unpack(&self, layer: &Layer) -> Result<(), StoreError> {
        let missing = || StoreError::MissingLayer(layer.id.hex());
        let (digest, diff_id) = self.blob_of(layer)?.ok_or_else(missing)?;
        let (blob, _) = self.blobs.open(&digest)?.ok_or_else(missing)?;
        let draft = self.session.with(|session| session.draft())?;
        let root = RootDir::open_host(draft.tree())?;
        let options = layer::UnpackOptions::layer(self.xattrs);
        let unpacked = match layer::unpack_blob(blob, &diff_id, &root, &options) {
            Ok(unpacked) => unpacked,
            Err(e) => {
                let error = StoreError::Unpack { object: digest.to_string(), detail: e.to_string() };
                // Bytes that rotted are dropped, so that the next try gets others; a full disk is not their fault.
                let is_rotten = !error.is_disk_full() && self.blobs.damage(&digest)?.is_some();
                return Err(if is_rotten { self.blobs.drop_damaged(&digest) } else { error });
            }
        };
        // What an archive says of its files, and half a block for each.
        let size = unpacked.file_bytes + unpacked.entries * 2048;
        self.place(draft, &layer.id, size, None, |rows| {
            put_diff_id(rows, &layer.id, &diff_id)?;
            if layer.pulled.is_some() {
                // So that the tree can be compared with it later.
                let (form, annotations) = (PULLED.to_owned(), BTreeMap::new());
                put_packed(rows, &layer.id, &PackedForm { form, digest, diff_id, annotations })?;
            }
            Ok(())
        })
    }

    /// Turns a finished draft into the tree of `id`. If the layer is here already, in either form, that one stays:
    /// an id leaves out when a step ran, so another run's tree differs in times, and a blob must not.
    ///
    /// `size` is about what it takes on disk, in bytes.
    pub fn commit(&self, draft: Draft, id: &LayerId, size: u64) -> Result<(), StoreError> {
        self.commit_with(draft, id, size, None)
    }

    fn commit_with(
        &self,
        draft: Draft,
        id: &LayerId,
        size: u64,
        seal: Option<&str>,
    ) -> Result<(), StoreError> {
        let _lock = self.lock(id)?;
        if self.is_local(&Layer::built(*id))? {
            return Ok(());
        }
        self.place(draft, id, size, seal, |rows| forget_forms(rows, id))
    }

    /// Gives a tree its name, then tells the index, with what else is to be told. The caller holds the layer's lock,
    /// and there is no tree yet.
    fn place(
        &self,
        draft: Draft,
        id: &LayerId,
        size: u64,
        seal: Option<&str>,
        tell: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> Result<(), StoreError> {
        let to = self.path(id);
        self.leases.hold([id.hex()])?;
        if to.exists() {
            // Left by a crash before the index knew of it: not to be trusted.
            remove_tree(&to).at("remove", &to)?;
        }
        fs::rename(draft.tree(), &to).at("rename a layer to", &to)?;
        let sql = "INSERT OR REPLACE INTO trees (layer, size, boot, used, seal) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.index.together(|rows| {
            tell(rows)?;
            rows.prepare_cached(sql)?.execute((id.hex(), size, self.index.boot(), now_ms(), seal)).map(drop)
        })?;
        self.note_fresh(id);
        Ok(())
    }

    fn note_fresh(&self, id: &LayerId) {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner).insert(*id);
    }

    fn is_fresh(&self, id: &LayerId) -> bool {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }

    /// What is done to the layer's forms is done by one at a time.
    fn lock(&self, id: &LayerId) -> Result<Lock, StoreError> {
        self.locks.lock(&format!("layer-{}", id.hex()))
    }

    /// The DiffID of the layer's tree as it is, if it was ever packed or unpacked here.
    pub fn diff_id(&self, id: &LayerId) -> Result<Option<DiffId>, StoreError> {
        let hex = id.hex();
        let sql = "SELECT diff_id, sum FROM diff_ids WHERE layer = ?1";
        let row = self.index.row(sql, [&hex], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
        // A row that was damaged is none: the layer is packed again.
        let row = row.filter(|(diff_id, sum)| agrees(Some(*sum), &[&hex, diff_id]));
        Ok(row.and_then(|(diff_id, _)| parse_hex(&diff_id)).map(DiffId::new))
    }

    /// The blobs that the layer was packed as. Whether they are still here is another matter.
    fn packed_forms(&self, id: &LayerId) -> Result<Vec<PackedForm>, StoreError> {
        let hex = id.hex();
        let sql = "SELECT form, digest, diff_id, annotations, sum FROM packed WHERE layer = ?1";
        let rows = self.index.rows(sql, [&hex], |row| {
            let text = |at| row.get::<_, String>(at);
            Ok(([text(0)?, text(1)?, text(2)?, text(3)?], row.get(4)?))
        })?;
        let read = |([form, digest, diff_id, annotations], sum): ([String; 4], i64)| {
            agrees(Some(sum), &[&hex, &form, &digest, &diff_id, &annotations]).then_some(())?;
            let (digest, diff_id) = (parse_hex(&digest)?, DiffId::new(parse_hex(&diff_id)?));
            Some(PackedForm { form, digest, diff_id, annotations: serde_json::from_str(&annotations).ok()? })
        };
        // A row that was damaged is none: the layer is packed again.
        Ok(rows.into_iter().filter_map(read).collect())
    }

    /// A blob of the store that can give this layer, and its DiffID: the pulled one, or any that it was packed as.
    fn blob_of(&self, layer: &Layer) -> Result<Option<(Digest, DiffId)>, StoreError> {
        if let Some(pulled) = &layer.pulled {
            let digest = pulled.descriptor.digest;
            return Ok(self.blobs.contains(&digest)?.then_some((digest, pulled.diff_id)));
        }
        let Some(diff_id) = self.diff_id(&layer.id)? else { return Ok(None) };
        // Other forms of it are other tars.
        for form in self.packed_forms(&layer.id)?.into_iter().filter(|form| form.diff_id == diff_id) {
            if self.blobs.contains(&form.digest)? {
                return Ok(Some((form.digest, diff_id)));
            }
        }
        Ok(None)
    }

    fn path(&self, id: &LayerId) -> PathBuf {
        self.dir.join(id.hex())
    }
}

/// The form of a layer that was pulled: whatever its registry has.
const PULLED: &str = "pulled";

/// One form of a layer, as the index has it.
struct PackedForm {
    form: String,
    digest: Digest,
    diff_id: DiffId,
    annotations: BTreeMap<String, String>,
}

/// Forgets the blobs of a layer that is here in no form: should they come back, they are of an earlier run.
fn forget_forms(rows: &Connection, id: &LayerId) -> rusqlite::Result<()> {
    rows.prepare_cached("DELETE FROM packed WHERE layer = ?1")?.execute([id.hex()])?;
    rows.prepare_cached("DELETE FROM diff_ids WHERE layer = ?1")?.execute([id.hex()]).map(drop)
}

fn put_diff_id(rows: &Connection, id: &LayerId, diff_id: &DiffId) -> rusqlite::Result<()> {
    let (layer, diff_id) = (id.hex(), diff_id.digest().hex());
    let sql = "INSERT OR REPLACE INTO diff_ids (layer, diff_id, sum) VALUES (?1, ?2, ?3)";
    rows.prepare_cached(sql)?.execute((&layer, &diff_id, sum(&[&layer, &diff_id]))).map(drop)
}

fn put_packed(rows: &Connection, id: &LayerId, packed: &PackedForm) -> rusqlite::Result<()> {
    let annotations = String::from_utf8(crate::image::to_json(&packed.annotations)).expect("JSON is UTF-8");
    let (layer, digest, diff_id) = (id.hex(), packed.digest.hex(), packed.diff_id.digest().hex());
    let sum = sum(&[&layer, &packed.form, &digest, &diff_id, &annotations]);
    let sql = "INSERT OR REPLACE INTO packed (layer, form, digest, diff_id, annotations, sum)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    rows.prepare_cached(sql)?.execute((layer, &packed.form, digest, diff_id, annotations, sum)).map(drop)
}

fn parse_hex(hex: &str) -> Option<Digest> {
    format!("sha256:{hex}").parse().ok()
}

/// Opens a layer's blob for whoever only passes it on.
pub fn open_blob(blobs: &Blobs, descriptor: &Descriptor) -> Result<File, StoreError> {
    blobs.open(&descriptor.digest)?.map(|(file, _)| file).ok_or(StoreError::MissingBlob(descriptor.digest))
}
