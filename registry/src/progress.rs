//! What a caller can watch while blobs travel.

use std::sync::Arc;

use forge_store::Digest;

/// Told about every blob that is fetched or sent. Calls come from several threads at once; they must be quick.
///
/// A blob that is there already is never begun.
pub trait Progress: Send + Sync {
    /// A blob of `total` bytes begins; `offset` bytes of it are there from an earlier try.
    fn on_start(&self, _digest: &Digest, _total: u64, _offset: u64) {}
    /// `delta` more bytes travelled.
    fn on_bytes(&self, digest: &Digest, delta: u64);
    /// The transfer goes on from `offset` bytes, behind what was reported.
    fn on_rewind(&self, _digest: &Digest, _offset: u64) {}
    /// The blob is complete and verified.
    fn on_done(&self, _digest: &Digest) {}
}

/// Nobody watches.
impl Progress for () {
    fn on_bytes(&self, _digest: &Digest, _delta: u64) {}
}

/// For callers that do not watch.
pub fn silent() -> Arc<dyn Progress> {
    Arc::new(())
}
