//! `forge build`, and what asks about builds: `logs`, `explain`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{DockerFlags, NetworkMode, RegistryFlags};
use crate::disk_flags::GcFlags;
use crate::engines::EngineChoice;
use crate::image_flags::ImageFlags;
use crate::isolation_flags::IsolationFlags;
use crate::step_flags::StepFlags;

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ProgressMode {
    /// `tty` on a terminal, otherwise `plain`
    #[default]
    Auto,
    /// Live display
    Tty,
    /// One line per event
    Plain,
    /// Nothing
    Quiet,
    /// Nothing
    None,
    /// One JSON object per event, on standard error
    Rawjson,
}

/// `forge build`.
#[derive(Debug, Args)]
pub struct Build {
    /// The build context: a directory, the URL of a tar or of a git repository, or `-` for standard input
    #[arg(value_name = "CONTEXT", default_value = ".")]
    pub context: String,

    /// The Dockerfile [default: CONTEXT/Dockerfile]: a path, a URL, or `-` for standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<String>,

    /// Name the image (repeatable)
    #[arg(short, long = "tag", value_name = "NAME[:TAG]")]
    pub tags: Vec<String>,

    /// The stage to build
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,

    /// Set a build argument; without a value it is taken from the environment (repeatable)
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub build_args: Vec<String>,

    /// What stands for a stage, an image or a --from of this name: a directory, docker-image://REFERENCE,
    /// `oci-layout://DIR[:TAG]`, a URL or a git repository (repeatable)
    #[arg(long = "build-context", value_name = "NAME[::PLATFORM]=SOURCE")]
    pub build_contexts: Vec<String>,

    /// Label the image (repeatable)
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub labels: Vec<String>,

    /// Where the image goes: type=image, oci, docker, local, tar or registry, with dest=PATH; or a directory (repeatable)
    #[arg(short, long = "output", value_name = "SPEC")]
    pub outputs: Vec<String>,

    /// Push the image under its names
    #[arg(long)]
    pub push: bool,

    #[command(flatten)]
    pub load: LoadFlags,

    /// Look nothing up in the cache
    #[arg(long)]
    pub no_cache: bool,

    /// Look nothing up in the cache for these stages (comma-separated, repeatable)
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub no_cache_filter: Vec<String>,

    /// Ask the registry for newer base images
    #[arg(long)]
    pub pull: bool,

    /// Look at the Dockerfile instead of building it: check, outline, targets, each also with ,format=json
    #[arg(long, value_name = "METHOD", conflicts_with = "check")]
    pub call: Option<String>,

    /// Run the build checks only; the same as --call=check
    #[arg(long)]
    pub check: bool,

    /// The network of RUN steps
    #[arg(long, value_name = "MODE", default_value = "default")]
    pub network: NetworkMode,

    /// Grant an entitlement: network.host, security.insecure, device[=NAME] (repeatable)
    #[arg(long, value_name = "ENTITLEMENT")]
    pub allow: Vec<String>,

    /// A secret for RUN --mount=type=secret: id=ID[,src=FILE|env=NAME] (repeatable)
    #[arg(long = "secret", value_name = "SPEC")]
    pub secrets: Vec<String>,

    /// An ssh agent for RUN --mount=type=ssh: default, or ID=SOCKET (repeatable)
    #[arg(long = "ssh", value_name = "ID[=SOCKET]")]
    pub ssh: Vec<String>,

    /// What a failed RUN leads to; without a terminal `shell` says how to get one
    #[arg(long, value_name = "WHAT", default_value = "fail")]
    pub on_error: OnError,

    /// Show the graph with its keys and what is cached, and build nothing
    #[arg(long, value_name = "FORMAT")]
    pub print: Option<PrintFormat>,

    /// How much is done at once on this machine [default: a RUN step for each quarter of a core, other work for each core]
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<usize>,

    /// How progress is shown
    #[arg(long, value_name = "MODE", default_value = "auto", env = "BUILDKIT_PROGRESS")]
    pub progress: ProgressMode,

    /// Print the image's digest only
    #[arg(short, long)]
    pub quiet: bool,

    /// Write the image's configuration digest to a file
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,

    /// Write what was built to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub metadata_file: Option<PathBuf>,

    #[command(flatten)]
    pub lock: crate::locking::LockFlags,

    #[command(flatten)]
    pub isolation: IsolationFlags,

    #[command(flatten)]
    pub registry: RegistryFlags,

    #[command(flatten)]
    pub image: ImageFlags,

    #[command(flatten)]
    pub step: StepFlags,

    #[command(flatten)]
    pub docker: DockerFlags,

    #[command(flatten)]
    pub gc: GcFlags,
}

/// `--load`.
#[derive(Debug, Default, Args)]
pub struct LoadFlags {
    /// Load the image into an engine of this machine, with only those layers that it lacks; the same as -o type=docker
    #[arg(long, value_name = "ENGINE", num_args = 0..=1, require_equals = true, default_missing_value = "auto")]
    pub load: Option<EngineChoice>,
}

/// What a failed step leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OnError {
    /// The end of the build
    #[default]
    Fail,
    /// A shell in the step, and then the end of the build
    Shell,
}

/// How `--print` shows the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PrintFormat {
    /// For Graphviz
    Dot,
    /// One object per vertex
    Json,
}

/// `forge logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// The build: `last`, or an image's name
    #[arg(value_name = "last|IMAGE", default_value = "last")]
    pub build: String,
}

/// `forge explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// An image's name, or `last`
    #[arg(value_name = "IMAGE|last", default_value = "last")]
    pub image: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
