//! Which compressed blocks lie where in the blobs that are here: what makes a layer with one changed file quick to
//! pack ([`crate::layer::known`]).
//!
//! A hint and never a claim: the packer checks what it gets, a blob that is gone is a block that is not known, and
//! the table may be emptied at any time.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::index::Index;
use crate::layer::{BlockKey, BlockSeal, KnownBlocks, Packed, PackedBlock};
use crate::limits::BLOCK_BYTES_MAX;
use crate::{Blobs, StoreError};

/// Smaller layers are compressed again sooner than their blocks are looked up and written down.
const WORTH_BYTES: u64 = 1 << 20;

/// The blocks of one store's blobs, for one packing.
pub(crate) struct StoredBlocks {
    index: Arc<Index>,
    blobs: Blobs,
    /// Blobs that were asked for; none for those that are gone.
    open: Mutex<HashMap<String, Option<Arc<File>>>>,
}

impl StoredBlocks {
    pub(crate) fn new(index: Arc<Index>, blobs: Blobs) -> Self {
        Self { index, blobs, open: Mutex::new(HashMap::new()) }
    }

    fn blob(&self, hex: String) -> Option<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let file = open.entry(hex).or_insert_with_key(|hex| {
            let digest = format!("sha256:{hex}").parse().ok()?;
            self.blobs.open(&digest).ok()?.map(|(file, _)| Arc::new(file))
        });
        file.clone()
    }
}

/// Remembers where the blocks of a new blob lie.
pub(crate) fn learn(index: &Index, packed: &Packed) -> Result<(), StoreError> {
    if packed.uncompressed_size < WORTH_BYTES {
        return Ok(());
    }
    let hex = packed.blob_digest.hex();
    index.together(|transaction| {
        let sql = "INSERT OR REPLACE INTO blocks (key, blob, offset, size, seal) VALUES (?1, ?2, ?3, ?4, ?5)";
        let mut insert = transaction.prepare_cached(sql)?;
        for PackedBlock { key, offset, size, seal } in &packed.blocks {
            insert.execute((key.as_bytes(), &hex, offset, size, seal.as_bytes()))?;
        }
        Ok(())
    })
}

impl KnownBlocks for StoredBlocks {
    fn find(&self, key: &BlockKey) -> Option<(Vec<u8>, BlockSeal)> {
        let sql = "SELECT blob, offset, size, seal FROM blocks WHERE key = ?1";
        let found = self.index.row(sql, [key.as_bytes()], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?, row.get::<_, usize>(2)?, row.get(3)?))
        });
        let (hex, offset, size, seal) = found.ok()??;
        let mut bytes = vec![0; Some(size).filter(|size| *size <= BLOCK_BYTES_MAX)?];
        self.blob(hex)?.read_exact_at(&mut bytes, offset).ok()?;
        Some((bytes, BlockSeal::from_bytes(seal)))
    }
}
