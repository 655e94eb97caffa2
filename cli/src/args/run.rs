//! What opens containers: `forge run`, `shell` and `replay`.

use clap::{Args, ValueEnum};

use super::RegistryFlags;
use crate::isolation_flags::IsolationFlags;
use crate::step_flags::StepFlags;

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
