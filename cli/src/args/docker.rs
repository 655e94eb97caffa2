//! Flags of `docker build` and its kin that scripts still pass. Those that mean nothing to forge are accepted, and
//! said to mean nothing.

use std::path::PathBuf;

use clap::Args;

/// Such flags of `forge build`.
#[derive(Debug, Default, Args)]
pub struct DockerFlags {
    /// Read build arguments from a file, NAME=VALUE on each line; --build-arg goes before it (repeatable)
    #[arg(long = "build-arg-file", value_name = "FILE")]
    pub build_arg_files: Vec<PathBuf>,

    /// No effect: forge leaves no containers behind
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub rm: Option<bool>,

    /// No effect: forge leaves no containers behind
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub force_rm: Option<bool>,

    /// No effect: the context is read where it is
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub compress: Option<bool>,
}

impl DockerFlags {
    /// Those that were given and do nothing.
    pub fn without_effect(&self) -> Vec<&'static str> {
        let all = [("--rm", self.rm), ("--force-rm", self.force_rm), ("--compress", self.compress)];
        all.iter().filter(|(_, given)| given.is_some()).map(|(name, _)| *name).collect()
    }
}
