//! What the tests share.

mod authority;
mod base;
mod engine;
mod git;
mod known_bad;
mod lab;
mod namespaces;
mod pod;
mod proxy;
mod pty;
mod registry;
mod residue;
mod tools;
mod web;

pub use authority::Authority;
pub use base::{busybox_rootfs, debian_rootfs};
pub use engine::{Counted, Dockerd};
pub use git::{GitDaemon, Repository};
pub use lab::{Builder, Lab, Outcome, Started};
pub use namespaces::{NetNs, UserNs};
pub use pod::DOCKERS;
pub use proxy::Proxy;
pub use registry::Registry;
pub use residue::{Marker, soon};
pub use tools::{json, tool, tool_with, try_tool};
pub use web::Web;
