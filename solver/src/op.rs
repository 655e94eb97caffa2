//! What a vertex does, as plain data: no clock, no host path, no secret value.

mod written;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use forge_parser::GitReference;
use forge_parser::ast::{MountKind, Network, Security, Sharing};
use forge_store::{Digest, ImageConfig, Platform, Snapshot};

/// The parser's words that ops are made of.
pub mod types {
    pub use forge_parser::ast::{MountKind, Network, Security, Sharing};
    pub use forge_parser::{GitMtime, GitReference};
}

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// No files at all: `FROM scratch`. No inputs.
    Scratch,
    /// An image's files. No inputs.
    Image(ImageOp),
    /// A directory on this machine, seen through its ignore file. No inputs.
    Context(ContextOp),
    /// A file at a URL, as the one file of a tree. No inputs.
    Http(HttpOp),
    /// A directory of a git repository. No inputs.
    Git(GitOp),
    /// COPY and ADD. Inputs: the files to copy onto, then the sources.
    Copy(CopyOp),
    /// RUN. Inputs: the rootfs, then what its mounts name.
    Run(Box<RunOp>),
    /// WORKDIR. Input: the files.
    Workdir(WorkdirOp),
}

/// A base image, resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageOp {
    /// The full reference, for people and for fetching.
    pub reference: String,
    /// The manifest's digest: the vertex's identity.
    pub digest: Digest,
    /// The manifest's layers.
    pub snapshot: Snapshot,
}

/// A local directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextOp {
    /// `context`, or the name that `--build-context` gave it.
    pub name: String,
}

/// A file at a URL, resolved: its bytes are in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpOp {
    /// Its bytes.
    pub digest: Digest,
    /// What it is called in the tree.
    pub name: String,
    /// Its modification time, in seconds since 1970.
    pub mtime: i64,
}

/// A git repository at a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitOp {
    /// The repository, and what is wanted of it.
    pub reference: GitReference,
    /// The commit, whole, in hex: the vertex's identity.
    pub commit: String,
    /// `.git` is part of the tree.
    pub keep_git_dir: bool,
    /// Whose keys fetch it.
    pub access: Access,
}

/// Whose keys a repository is asked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Those that the user gave to the build (`--ssh`, `--secret`): for what a Dockerfile names.
    Given,
    /// The user's own besides: for what the user names, as build context.
    User,
}

/// COPY or ADD: every source is put at `dest`, in order, into one new layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyOp {
    /// What to copy.
    pub sources: Vec<CopySource>,
    /// Absolute, cleaned; `/` at its end where the user wrote one (or `.`).
    pub dest: String,
    /// `user[:group]`, expanded.
    pub chown: Option<String>,
    /// The mode to give, parsed.
    pub chmod: Option<String>,
    /// Keep the source's path below `dest`.
    pub parents: bool,
    /// A layer that looks at nothing below it.
    pub link: bool,
    /// Every source is copied with owner 0:0 (contexts), instead of its own.
    pub reset_owner: bool,
}

/// One source of a [`CopyOp`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopySource {
    /// Files of an input.
    Files {
        /// Which input of the vertex.
        input: usize,
        /// Which of its files.
        selection: Selection,
        /// Whether archives are unpacked.
        unpack: Unpack,
    },
    /// A file written in the Dockerfile.
    Inline {
        /// Its name.
        name: String,
        /// Its bytes.
        content: Arc<str>,
    },
}

/// Whether ADD unpacks a source that is an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpack {
    /// Copy it as it is.
    Never,
    /// Unpack it if its content is a tar, compressed or not.
    IfArchive,
}

/// Which files of a tree a COPY takes: one source word.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Selection {
    /// Relative to the tree's root, cleaned; `""` is the root itself. May hold wildcards.
    pub pattern: String,
    /// Where `--parents` cuts: path elements before the pivot are not kept.
    pub pivot: Option<usize>,
    /// `--exclude` patterns, relative to the source's root.
    pub excludes: Vec<String>,
    /// Nothing matching is an error: the pattern holds no wildcard.
    pub required: bool,
    /// `**` crosses directories (`--parents`).
    pub deep_wildcards: bool,
}

impl Selection {
    /// One path, taken literally and only if it is there.
    pub fn path(pattern: String) -> Self {
        Self { pattern, pivot: None, excludes: Vec::new(), required: false, deep_wildcards: false }
    }
}

/// RUN. It can be written down, to be carried out again later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOp {
    /// What is executed.
    pub args: Vec<String>,
    /// The environment, in order.
    pub env: Vec<(String, String)>,
    /// Which of those are ARGs: for explanations only.
    pub declared_args: Vec<String>,
    /// Proxy variables: in the environment, not in the key.
    pub proxy_env: Vec<(String, String)>,
    /// The working directory, absolute.
    pub cwd: String,
    /// `USER` as it stands; empty is root.
    pub user: String,
    /// The network.
    #[serde(with = "written::Network")]
    pub network: Network,
    /// The sandbox.
    #[serde(with = "written::Security")]
    pub security: Security,
    /// `--mount`.
    pub mounts: Vec<MountOp>,
    /// Limits that `--ulimit` gives, by name.
    pub ulimits: Vec<Ulimit>,
    /// Bytes of /dev/shm; none is the default of 64 MiB.
    pub shm_size: Option<u64>,
    /// `--device`.
    pub devices: Vec<DeviceOp>,
    /// A `#!` script to place at `/dev/pipes/<name>`: `(name, content)`.
    #[serde(with = "written::script")]
    pub script: Option<(String, Arc<str>)>,
    /// The machine that it runs on.
    pub platform: Platform,
    /// What the sandbox calls itself, if not the usual.
    pub hostname: Option<String>,
}

/// One resource limit; `None` is unlimited.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ulimit {
    /// Its name, as `--ulimit` spells it: `nofile`.
    pub name: String,
    /// The soft limit.
    pub soft: Option<u64>,
    /// The hard limit.
    pub hard: Option<u64>,
}

/// A device of the host, by the name that the Container Device Interface gives it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DeviceOp {
    /// `vendor.com/class=name`, `vendor.com/class=*`, `vendor.com/class`, or the class of an annotation.
    pub name: String,
    /// Missing is an error.
    pub required: bool,
}

/// One `--mount` of a RUN, expanded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountOp {
    /// Its kind.
    #[serde(with = "written::MountKind")]
    pub kind: MountKind,
    /// Where: absolute. Empty for a secret that is only a variable.
    pub target: String,
    /// Which input of the vertex holds its files.
    pub input: Option<usize>,
    /// What it holds: a path below that input's root.
    pub selection: Selection,
    /// May not be written.
    pub readonly: bool,
    /// Cache, secret or agent.
    pub id: String,
    /// How a cache is shared.
    #[serde(with = "written::Sharing")]
    pub sharing: Sharing,
    /// Bytes of a tmpfs; 0 = no bound.
    pub size: u64,
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Missing is an error.
    pub required: bool,
    /// Variable that holds a secret.
    pub env: Option<String>,
}

/// WORKDIR: a directory, made if it is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkdirOp {
    /// Absolute, cleaned.
    pub path: String,
    /// `USER` as it stands: the owner of what is made.
    pub user: String,
}

/// What ADD asks of a URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpSource {
    /// The address.
    pub url: String,
    /// What its bytes must be: `--checksum`.
    pub checksum: Option<Digest>,
    /// How old it is, where a lock file says so: with a digest besides, nobody need be asked.
    pub mtime: Option<i64>,
}

/// What [`crate::world::World::resolve_http`] finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedHttp {
    /// Its bytes, which are in the store.
    pub digest: Digest,
    /// `Last-Modified`, in seconds since 1970; 0 where the server says nothing.
    pub mtime: i64,
}

/// What [`crate::world::World::resolve_image`] finds.
#[derive(Clone, Debug)]
pub struct ResolvedImage {
    /// The full reference.
    pub reference: String,
    /// The manifest's digest.
    pub digest: Digest,
    /// The configuration.
    pub config: ImageConfig,
    /// The layers.
    pub snapshot: Snapshot,
}
