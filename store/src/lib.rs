//! What forge keeps: blobs by digest, layers in both their forms (packed blob, unpacked overlay tree), cache
//! records, tags and leases. It knows nothing of builds, registries or processes.

pub mod blobs;
pub mod cache;
pub mod descriptor;
pub mod digest;
pub mod error;
pub mod gc;
pub mod image;
pub mod index;
mod known_blocks;
pub mod layer;
pub mod layers;
mod lease;
pub mod limits;
pub mod locks;
pub mod media_type;
pub mod recover;
pub mod rootdir;
pub mod session;
pub mod snapshot;
pub mod store;
pub mod tags;
pub mod threads;
pub mod tree;
pub mod usage;
pub mod verify;

pub use blobs::{Blobs, Ingest, NewBlob};
pub use cache::Cache;
pub use descriptor::{Descriptor, Platform};
pub use digest::{ContentId, DiffId, Digest, LayerId};
pub use error::StoreError;
pub use image::{ImageConfig, Index as ImageIndex, Manifest};
pub use layers::{Follow, LayerForm, Layers, PackedLayer};
pub use locks::{Lock, Locks};
pub use media_type::MediaType;
pub use rootdir::RootDir;
pub use session::Draft;
pub use snapshot::{Layer, Pulled, Snapshot, StackId};
pub use store::Store;
pub use tags::{Tag, Tags};
pub use threads::Threads;
