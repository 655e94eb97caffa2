//! Layers on their way between their two forms: the packed blob that images list and registries hold, and the
//! overlay tree that is mounted ([`crate::tree`]).
//!
//! ```text
//! tree ── walk ── tar ──┬── sha256 = DiffID
//!                       └── compress ──┬── sha256 = digest
//!                                      └── blob
//! ```

mod archive;
mod blocks;
mod codec;
pub mod compression;
mod cut;
pub mod decompress;
pub mod estargz;
mod gzip;
mod header;
pub mod known;
pub mod pack;
mod pipe;
pub mod read;
pub mod unpack;
pub mod write;
mod zstd;

pub use archive::{is_archive, unpack_archive};
pub use compression::{Compression, GzipLevel, Packing, ZstdLevel};
pub use decompress::{Accept, Decompressed, Encoding};
pub use estargz::{EstargzError, to_estargz};
pub use known::{BlockKey, BlockSeal, KnownBlocks, PackedBlock};
pub use pack::{PackOptions, Packed, Packer, pack_tree};
pub use pipe::piped;
pub use read::{Entry, EntryKind, ReadError, TarReader};
pub use unpack::{UnpackError, UnpackLimits, UnpackOptions, Unpacked, unpack, unpack_blob};
pub use write::{FileTimes, LayerWriter, WriteError, WriteOptions, write_tree};
