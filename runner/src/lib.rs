//! Carries vertices out on this machine.
//!
//! The sandbox: [`Zygote`] starts what a [`spec::SandboxSpec`] describes and gives back a [`Running`].

#[allow(unsafe_code, reason = "the one place for system calls that have no safe wrapper")]
mod sys;

mod bounds;
mod cache_part;
mod cgroup;
pub mod container;
mod devices;
pub mod doctor;
mod emulation;
mod end;
pub mod executor;
pub mod files;
mod guard;
pub mod isolation;
mod mounts;
pub mod network;
mod output;
mod roots;
mod sandbox;
mod seccomp;
pub mod secrets;
pub mod sources;
mod ssh_agent;
pub mod step;
pub mod terminal;
pub mod trouble;
pub mod user;
pub mod userns;
mod zygote;

pub use cgroup::{Cgroup, CgroupError, Granted};
pub use sandbox::{Exit, Failure, Phase, capabilities, detach, is_rlimit_name, spec};

pub use sys::share_heap;
pub use zygote::{Job, Running, Stdio, Zygote, ZygoteError, serve_if_zygote};
