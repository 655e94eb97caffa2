//! What the tests share.

mod base;
mod lab;
mod netns;
mod registry;
mod residue;
mod tools;

pub use base::debian_rootfs;
pub use lab::{Builder, Lab, Outcome, Started};
pub use netns::NetNs;
pub use registry::Registry;
pub use residue::{Marker, soon};
pub use tools::{json, tool, try_tool};
