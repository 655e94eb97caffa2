//! One sandbox: its description ([`spec`]), the tree it sees, the process in it, and the PID 1 that keeps it.
//!
//! Everything below [`init`] runs in a process of the sandbox's own namespaces; the caller's side is
//! [`crate::zygote`].

pub mod capabilities;
pub mod spec;

mod bare;
pub(crate) mod cradle;
mod filesystems;
mod identity;
pub(crate) mod init;
mod masks;
mod mountpoints;
mod mounts;
mod overlay_page;
mod privileges;
mod process;
pub(crate) mod report;
mod rootfs;
mod tree;
mod workshop;

pub use mounts::detach;
pub(crate) use mounts::{guarded, try_mounts, try_overlay};
pub(crate) use privileges::ceiling;
pub use privileges::is_rlimit_name;
pub use report::{Exit, Failure, Phase};
