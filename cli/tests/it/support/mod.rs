//! What the tests share.

mod base;
mod git;
mod lab;
mod namespaces;
mod registry;
mod residue;
mod tools;
mod web;

pub use base::debian_rootfs;
pub use git::GitDaemon;
pub use lab::{Builder, Lab, Outcome, Started};
pub use namespaces::{NetNs, UserNs};
pub use registry::Registry;
pub use residue::{Marker, soon};
pub use tools::{json, tool, try_tool};
pub use web::Web;
