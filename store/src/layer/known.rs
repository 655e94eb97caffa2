//! Blocks that were compressed before, known by their uncompressed bytes: a layer with one changed file compresses
//! what changed, and takes the rest from the blob of its predecessor, byte for byte what compressing gives.

/// Names a block's uncompressed bytes together with what compresses them. Never an OCI digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockKey([u8; 32]);

/// Binds compressed bytes to the key they were made for: a bit that flipped in either is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSeal([u8; 32]);

/// Where a block lies in a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedBlock {
    /// What it holds.
    pub key: BlockKey,
    /// Of its first byte in the blob.
    pub offset: u64,
    /// Its compressed bytes.
    pub size: usize,
    /// Over key and compressed bytes.
    pub seal: BlockSeal,
}

/// Remembers compressed blocks.
pub trait KnownBlocks: Send + Sync {
    /// The compressed bytes of a block, with the seal that was taken when they were made. Nobody needs to have
    /// checked it: the packer does.
    fn find(&self, key: &BlockKey) -> Option<(Vec<u8>, BlockSeal)>;
}

impl BlockKey {
    pub(super) fn of(maker: &str, level: u8, block: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("forge block v1");
        hasher.update(&[maker.len() as u8]).update(maker.as_bytes()).update(&[level]).update(block);
        Self(*hasher.finalize().as_bytes())
    }

    /// The seal over compressed bytes that belong to this key.
    pub fn seal(&self, compressed: &[u8]) -> BlockSeal {
        BlockSeal(*blake3::keyed_hash(&self.0, compressed).as_bytes())
    }

    /// The bytes, to keep.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl BlockSeal {
    /// Takes 32 bytes that were a seal.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, to keep.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}
