//! What forge keeps: blobs by digest, layers in both their forms (packed blob, unpacked overlay tree), cache
//! records, tags and leases. It knows nothing of builds, registries or processes.

pub mod blobs;
pub mod descriptor;
pub mod digest;
pub mod error;
pub mod image;
pub mod index;
pub mod media_type;
pub mod rootdir;

pub use blobs::{Blobs, Ingest, NewBlob};
pub use descriptor::{Descriptor, Platform};
pub use digest::{ContentId, DiffId, Digest, LayerId};
pub use error::StoreError;
pub use image::{ImageConfig, Index as ImageIndex, Manifest};
pub use media_type::MediaType;
pub use rootdir::RootDir;
