//! Files on their way: what a COPY selects, what it holds, and putting it into a layer.
//!
//! A source is a [`TreeView`]: a build context, or the stacked layers of a stage. Selecting, hashing and copying
//! all go through the same view and the same [`select`], so what was hashed is what is copied.

mod ahead;
mod borrow;
mod context;
mod copy;
mod error;
mod hash;
mod owner;
mod seen;
mod select;
mod stamps;
mod upper;
mod view;
mod walk;
mod workdir;

pub use borrow::{Borrowed, BorrowedEntry, borrow};
pub use context::LocalContext;
pub use copy::copy;
pub(crate) use copy::copy_bytes;
pub(crate) use error::At;
pub use error::FilesError;
pub use hash::{hash_selection, list_selection};
pub use owner::lookup_owner;
pub use select::{Match, select};
pub use upper::Upper;
pub use view::{Child, StackView, TreeView, resolve};
pub use workdir::make_workdir;
