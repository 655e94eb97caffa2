//! Layers, in both their forms: a packed blob that travels, and a tree that overlayfs stacks.
//!
//! ```text
//! ROOT/layers/<id>/            the tree: an overlayfs upper directory, immutable once it has this name
//! ```
//!
//! Either form is made from the other when it is needed. A tree made from a blob is bound to its DiffID only
//! after the whole uncompressed stream was hashed.

mod packing;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::At;
use crate::index::Index;
use crate::layer;
use crate::session::{Draft, LazySession, remove_tree};
use crate::snapshot::{Layer, Snapshot};
use crate::tree::OverlayXattrs;
use crate::{Blobs, Descriptor, DiffId, Digest, LayerId, Locks, RootDir, StoreError};

pub use packing::LayerForm;

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
    session: Arc<LazySession>,
    xattrs: OverlayXattrs,
}

impl Layers {
    pub(crate) fn new(
        root: &Path,
        index: Arc<Index>,
        blobs: Blobs,
        locks: Arc<Locks>,
        session: Arc<LazySession>,
        xattrs: OverlayXattrs,
    ) -> Self {
        Self { dir: root.join("layers"), index, blobs, locks, session, xattrs }
    }

    /// How overlayfs' marks are written in this store's trees.
    pub fn xattrs(&self) -> OverlayXattrs {
        self.xattrs
    }

    /// The layer's tree, if there is one.
    pub fn tree(&self, id: &LayerId) -> Result<Option<PathBuf>, StoreError> {
        let known = self.index.row("SELECT 1 FROM trees WHERE layer = ?1", [id.hex()], |_| Ok(()))?;
        Ok(known.map(|()| self.path(id)))
    }

    /// Whether any layer is unpacked.
    pub(crate) fn has_trees(&self) -> Result<bool, StoreError> {
        Ok(self.index.row("SELECT 1 FROM trees LIMIT 1", [], |_| Ok(()))?.is_some())
    }

    /// True if the layer can be had without the network: its tree or its blob is here.
    pub fn is_local(&self, layer: &Layer) -> Result<bool, StoreError> {
        if self.tree(&layer.id)?.is_some_and(|path| path.exists()) {
            return Ok(true);
        }
        match self.blob_of(layer)? {
            Some(digest) => Ok(self.blobs.contains(&digest)? && self.blobs.path(&digest).exists()),
            None => Ok(false),
        }
    }

    /// The layer's tree, unpacked from its blob if it must be.
    ///
    /// # Errors
    /// [`StoreError::MissingLayer`] if neither is here, [`StoreError::Corrupt`] if the blob is not what it claims.
    pub fn ensure_tree(&self, layer: &Layer) -> Result<PathBuf, StoreError> {
        if let Some(path) = self.tree(&layer.id)?.filter(|path| path.exists()) {
            return Ok(path);
        }
        let _lock = self.locks.lock(&format!("layer-{}", layer.id.hex()))?;
        if let Some(path) = self.tree(&layer.id)?.filter(|path| path.exists()) {
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
        let layers = snapshot.layers.iter().rev().filter(|layer| seen.insert(layer.id));
        layers.map(|layer| self.ensure_tree(layer)).collect()
    }

    fn unpack(&self, layer: &Layer) -> Result<(), StoreError> {
        let missing = || StoreError::MissingLayer(layer.id.hex());
        let digest = self.blob_of(layer)?.ok_or_else(missing)?;
        let (blob, _) = self.blobs.open(&digest)?.ok_or_else(missing)?;
        let diff_id = match &layer.pulled {
            Some(pulled) => pulled.diff_id,
            None => self.diff_id(&layer.id)?.ok_or_else(missing)?,
        };
        let draft = self.session.with(|session| session.draft())?;
        let root = RootDir::open_host(draft.tree())?;
        let options = layer::UnpackOptions::layer(self.xattrs);
        let unpacked = layer::unpack_blob(blob, &diff_id, &root, &options)
            .map_err(|e| StoreError::Unpack { object: digest.to_string(), detail: e.to_string() })?;
        self.record_diff_id(&layer.id, &diff_id, unpacked.stream_bytes)?;
        self.commit(draft, &layer.id, unpacked.file_bytes)
    }

    /// Turns a finished draft into the tree of `id`; if there is one already, that one stays.
    pub fn commit(&self, draft: Draft, id: &LayerId, size: u64) -> Result<(), StoreError> {
        let to = self.path(id);
        if self.tree(id)?.is_some() && to.exists() {
            return Ok(());
        }
        if to.exists() {
            // Left by a crash before the index knew of it: not to be trusted.
            remove_tree(&to).at("remove", &to)?;
        }
        match fs::rename(draft.tree(), &to) {
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            other => other.at("rename a layer to", &to)?,
        }
        let sql = "INSERT OR REPLACE INTO trees (layer, size, boot) VALUES (?1, ?2, ?3)";
        self.index.execute(sql, (id.hex(), size, self.index.boot())).map(drop)
    }

    /// The layer's DiffID, if it was ever packed or unpacked here.
    pub fn diff_id(&self, id: &LayerId) -> Result<Option<DiffId>, StoreError> {
        let sql = "SELECT diff_id FROM diff_ids WHERE layer = ?1";
        let row: Option<String> = self.index.row(sql, [id.hex()], |row| row.get(0))?;
        row.map(|hex| Ok(DiffId::new(parse_hex(id, &hex)?))).transpose()
    }

    fn record_diff_id(&self, id: &LayerId, diff_id: &DiffId, size: u64) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO diff_ids (layer, diff_id, size) VALUES (?1, ?2, ?3)";
        self.index.execute(sql, (id.hex(), diff_id.digest().hex(), size)).map(drop)
    }

    /// The blob that can give this layer: the pulled one, or any that it was packed as.
    fn blob_of(&self, layer: &Layer) -> Result<Option<Digest>, StoreError> {
        if let Some(pulled) = &layer.pulled {
            return Ok(Some(pulled.descriptor.digest));
        }
        // Other forms of it are other tars.
        let sql = "SELECT p.digest FROM packed p
                   JOIN diff_ids d ON d.layer = p.layer AND d.diff_id = p.diff_id WHERE p.layer = ?1 LIMIT 1";
        let row: Option<String> = self.index.row(sql, [layer.id.hex()], |row| row.get(0))?;
        row.map(|hex| parse_hex(&layer.id, &hex)).transpose()
    }

    fn path(&self, id: &LayerId) -> PathBuf {
        self.dir.join(id.hex())
    }
}

fn parse_hex(id: &LayerId, hex: &str) -> Result<Digest, StoreError> {
    format!("sha256:{hex}").parse().map_err(|_| StoreError::Corrupt {
        object: format!("the index entry of layer {}", id.hex()),
        detail: format!("`{hex}` is no digest"),
    })
}

/// Opens a layer's blob for whoever only passes it on.
pub fn open_blob(blobs: &Blobs, descriptor: &Descriptor) -> Result<File, StoreError> {
    blobs.open(&descriptor.digest)?.map(|(file, _)| file).ok_or(StoreError::MissingBlob(descriptor.digest))
}
