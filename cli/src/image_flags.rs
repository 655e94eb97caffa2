//! What the image is to be: the flags for it.

use clap::{Args, ValueEnum};

/// Flags about the image itself.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "The image")]
pub struct ImageFlags {
    /// The platforms to build for; several give an index of images (comma-separated, repeatable)
    #[arg(long = "platform", value_name = "OS/ARCH", value_delimiter = ',')]
    pub platforms: Vec<String>,

    /// Annotate manifests, indexes and what names them: `[TYPE[,TYPE][[PLATFORM]]:]KEY=VALUE`, TYPE being manifest, index, manifest-descriptor or index-descriptor (repeatable)
    #[arg(long = "annotation", value_name = "[TYPE:]KEY=VALUE")]
    pub annotations: Vec<String>,

    /// Make the same image wherever and whenever it is built: all times are SOURCE_DATE_EPOCH, or 0
    #[arg(long)]
    pub reproducible: bool,

    /// Make one layer: of what is new above the base image, or of all
    #[arg(long, value_name = "WHAT", num_args = 0..=1, require_equals = true, default_missing_value = "new")]
    pub squash: Option<SquashWhat>,

    /// Take something out of the image's configuration: env=, volume=, label= or expose=NAME, entrypoint, cmd, healthcheck, user, workdir, stopsignal, shell, onbuild (comma-separated, repeatable)
    #[arg(long = "unset", value_name = "WHAT")]
    pub unset: Vec<String>,
}

/// What `--squash` makes one layer of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SquashWhat {
    /// Everything
    All,
    /// What is new above the base image
    New,
}
