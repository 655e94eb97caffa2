//! Layers on their way between their two forms: the packed blob that images list and registries hold, and the
//! overlay tree that is mounted ([`crate::tree`]).
//!
//! ```text
//! tree ── walk ── tar ──┬── sha256 = DiffID
//!                       └── compress ──┬── sha256 = digest
//!                                      └── blob
//! ```

mod header;
pub mod write;

pub use write::{LayerWriter, WriteError, WriteOptions, write_tree};
