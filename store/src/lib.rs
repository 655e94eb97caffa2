//! What forge keeps: blobs by digest, layers in both their forms (packed blob, unpacked overlay tree), cache
//! records, tags and leases. It knows nothing of builds, registries or processes.

pub mod digest;

pub use digest::{ContentId, DiffId, Digest, LayerId};
