//! The words that forge takes: every flag either works or is refused.

mod build;
mod docker;
mod images;
mod run;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use build::{Build, Explain, Logs, OnError, PrintFormat, ProgressMode};
pub use docker::DockerFlags;
pub use images::{Images, Inspect, Login, Logout, Pull, Push, RegistryFlags, Rmi, Tag};
pub use run::{NetworkMode, Replay, Run, Shell};

use crate::disk_flags::{Du, Info, Prune, StoreArgs};

/// Builds OCI images from Dockerfiles: one binary, no daemon.
#[derive(Debug, Parser)]
#[command(name = "forge", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// Where images, layers and the cache are kept [default: /var/lib/forge for root, $XDG_DATA_HOME/forge for a user]
    #[arg(long, global = true, value_name = "DIR", env = "FORGE_ROOT")]
    pub root: Option<PathBuf>,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build an image from a Dockerfile
    Build(Box<Build>),
    /// Run a command in a new container of an image, in the foreground
    Run(Box<Run>),
    /// Open a shell in an image, or in a stage of the last build
    Shell(Shell),
    /// Run a step of an earlier build again, or open a shell in it
    Replay(Box<Replay>),
    /// Print the whole log of an earlier build
    Logs(Logs),
    /// List images
    #[command(alias = "ls")]
    Images(Images),
    /// Show an image's configuration and manifest as JSON
    Inspect(Inspect),
    /// Give an image another name
    Tag(Tag),
    /// Remove names of images, and images without names
    Rmi(Rmi),
    /// Show what the store holds and what each thing takes
    Du(Du),
    /// Remove what no image and no running build needs
    Prune(Prune),
    /// Look after the store itself
    Store(StoreArgs),
    /// Fetch an image from a registry
    Pull(Pull),
    /// Send an image to a registry
    Push(Push),
    /// Copy an image between registries, layouts, archives, the store and engines, as it is
    Copy(crate::commands::copy::Copy),
    /// Store credentials for a registry
    Login(Login),
    /// Forget credentials for a registry
    Logout(Logout),
    /// Build an image again and say whether it comes out the same
    Verify(crate::commands::verify::Verify),
    /// Say why the steps of a build ran or were cached
    Explain(Explain),
    /// List what moved since the lock file of `forge build --lock` was written
    Outdated(crate::commands::outdated::Outdated),
    /// Check what this machine allows builds to do, and how to allow more
    Doctor(Doctor),
    /// Show versions, paths and limits
    Info(Info),
}

/// `forge doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
