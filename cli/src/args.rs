//! The words that forge takes: every flag either works or is refused.

mod docker;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

pub use docker::DockerFlags;

use crate::disk_flags::{Du, GcFlags, Info, Prune, StoreArgs};
use crate::engines::EngineChoice;
use crate::image_flags::ImageFlags;
use crate::isolation_flags::IsolationFlags;
use crate::step_flags::StepFlags;

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

/// The network of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum NetworkMode {
    /// An own network with outbound traffic
    #[default]
    Default,
    /// Loopback only
    None,
    /// The host's network
    Host,
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

/// How registries are talked to.
#[derive(Clone, Debug, Default, Args)]
pub struct RegistryFlags {
    /// Take any certificate from this registry, or plain http; loopback needs no leave for http (repeatable)
    #[arg(long = "insecure-registry", value_name = "HOST[:PORT]", global = false)]
    pub insecure: Vec<String>,

    /// Trust the certificates in this PEM file, too (repeatable)
    #[arg(long = "registry-ca", value_name = "FILE")]
    pub ca: Vec<PathBuf>,
}

/// `forge run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Remove the container afterwards; forge always does
    #[arg(long)]
    pub rm: bool,

    /// Set a variable; without a value it is taken from the environment (repeatable)
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,

    /// The working directory
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,

    /// The user
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,

    /// The network
    #[arg(long, value_name = "MODE", default_value = "default")]
    pub network: NetworkMode,

    /// What to execute instead of the image's ENTRYPOINT
    #[arg(long, value_name = "COMMAND")]
    pub entrypoint: Option<String>,

    /// Pass standard input on
    #[arg(short, long)]
    pub interactive: bool,

    /// Give the container a terminal
    #[arg(short, long)]
    pub tty: bool,

    /// Show a file or directory of this machine in the container (repeatable)
    #[arg(short, long = "volume", value_name = "HOST:CONTAINER[:ro]")]
    pub volumes: Vec<String>,

    /// The same, or memory, written at length: `type=bind,source=PATH,target=PATH[,readonly]` (repeatable)
    #[arg(long = "mount", value_name = "SPEC")]
    pub mounts: Vec<String>,

    /// A directory in memory (repeatable)
    #[arg(long, value_name = "PATH[:size=SIZE]")]
    pub tmpfs: Vec<String>,

    /// Nothing of the image may be written
    #[arg(long)]
    pub read_only: bool,

    #[command(flatten)]
    pub isolation: IsolationFlags,

    #[command(flatten)]
    pub registry: RegistryFlags,

    #[command(flatten)]
    pub step: StepFlags,

    /// The image
    #[arg(value_name = "IMAGE")]
    pub image: String,

    /// The command, instead of the image's CMD
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// `forge shell`.
#[derive(Debug, Args)]
pub struct Shell {
    #[command(flatten)]
    pub isolation: IsolationFlags,

    /// The program [default: /bin/sh]
    #[arg(long, value_name = "PROGRAM")]
    pub shell: Option<String>,

    /// The user
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,

    /// The network
    #[arg(long, value_name = "MODE", default_value = "default")]
    pub network: NetworkMode,

    #[command(flatten)]
    pub registry: RegistryFlags,

    /// A stage of the last build, or an image; last:STAGE is a stage in any case
    #[arg(value_name = "STAGE|IMAGE")]
    pub place: String,
}

/// `forge replay`.
#[derive(Debug, Args)]
pub struct Replay {
    #[command(flatten)]
    pub isolation: IsolationFlags,

    /// Open a shell in the step, with its mounts, environment, user, directory and network, instead of running it
    #[arg(long)]
    pub shell: bool,

    /// A secret, as for the build (repeatable)
    #[arg(long = "secret", value_name = "SPEC")]
    pub secrets: Vec<String>,

    /// An ssh agent, as for the build (repeatable)
    #[arg(long = "ssh", value_name = "ID[=SOCKET]")]
    pub ssh: Vec<String>,

    /// A value that is not kept, because it may be secret (repeatable)
    #[arg(long = "build-arg", value_name = "NAME=VALUE")]
    pub build_args: Vec<String>,

    #[command(flatten)]
    pub step: StepFlags,

    /// The build (`last`, or an image's name), and a part of the step's name [default: the last build's failed step]
    #[arg(value_name = "[BUILD] STEP", num_args = 0..=2)]
    pub words: Vec<String>,
}

/// `forge logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// The build: `last`, or an image's name
    #[arg(value_name = "last|IMAGE", default_value = "last")]
    pub build: String,
}

/// `forge images`.
#[derive(Debug, Args)]
pub struct Images {
    /// Print digests only
    #[arg(short, long)]
    pub quiet: bool,
    /// Print JSON, one object per line
    #[arg(long)]
    pub json: bool,
}

/// `forge inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// The images: names of the store, or docker://NAME to ask the registry
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<String>,
    /// Print what the name stands for, manifest or index, as it is stored
    #[arg(long)]
    pub raw: bool,
    /// Print by a template: {{.Config.Cmd}}, {{json .}}, {{index .Config.Labels "k"}}; or `json`
    #[arg(short, long, value_name = "TEMPLATE", conflicts_with_all = ["raw", "config"])]
    pub format: Option<String>,
    #[command(flatten)]
    pub registry: RegistryFlags,
    /// Print the configuration as it is stored
    #[arg(long, conflicts_with = "raw")]
    pub config: bool,
}

/// `forge tag`.
#[derive(Debug, Args)]
pub struct Tag {
    /// The image
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// Its new name
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// `forge rmi`.
#[derive(Debug, Args)]
pub struct Rmi {
    /// The names
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<String>,
}

/// `forge pull`.
#[derive(Debug, Args)]
pub struct Pull {
    /// The image
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// The platform
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<String>,
    /// Print the digest only
    #[arg(short, long, action = ArgAction::SetTrue)]
    pub quiet: bool,
    #[command(flatten)]
    pub registry: RegistryFlags,
}

/// `forge push`.
#[derive(Debug, Args)]
pub struct Push {
    /// The image
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// Print the digest only
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    pub registry: RegistryFlags,
}

/// `forge login`.
#[derive(Debug, Args)]
pub struct Login {
    /// The registry
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    pub registry_name: String,
    /// The user; asked for on a terminal
    #[arg(short, long)]
    pub username: Option<String>,
    /// The password or token; other users of this machine can see it here, --password-stdin keeps it secret
    #[arg(short, long, conflicts_with = "password_stdin", requires = "username")]
    pub password: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username")]
    pub password_stdin: bool,
    #[command(flatten)]
    pub registry: RegistryFlags,
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

/// `forge doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `forge logout`.
#[derive(Debug, Args)]
pub struct Logout {
    /// The registry
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    pub registry_name: String,
}
