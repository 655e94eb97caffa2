//! Images and registries: `forge images`, `inspect`, `tag`, `rmi`, `pull`, `push`, `login` and `logout`.

use std::path::PathBuf;

use clap::{ArgAction, Args};

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

/// `forge logout`.
#[derive(Debug, Args)]
pub struct Logout {
    /// The registry
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    pub registry_name: String,
}
