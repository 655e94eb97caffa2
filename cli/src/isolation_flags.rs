//! How far steps are set apart from this machine: the flags that builds and containers share.

use clap::{Args, ValueEnum};
use forge_runner::isolation::Rung;

/// `--isolation`, `--hardened`.
#[derive(Debug, Args)]
pub struct IsolationFlags {
    /// How steps are set apart from this machine; `forge doctor` says what works here
    #[arg(long, value_name = "RUNG", default_value = "auto", env = "FORGE_ISOLATION")]
    pub isolation: IsolationMode,

    /// Give steps fewer rights than Docker does: eleven capabilities, and set-uid programs gain nothing
    #[arg(long)]
    pub hardened: bool,
}

/// The rungs, and the choice among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum IsolationMode {
    /// The best that works
    #[default]
    Auto,
    /// Namespaces made by root
    Root,
    /// A user namespace with many ids
    Userns,
    /// A user namespace with one id
    UsernsSingle,
    /// Another root directory only
    Chroot,
    /// No RUN at all
    None,
}

impl IsolationMode {
    /// The rung that was asked for.
    pub fn rung(self) -> Option<Rung> {
        match self {
            Self::Auto => None,
            Self::Root => Some(Rung::Root),
            Self::Userns => Some(Rung::Userns),
            Self::UsernsSingle => Some(Rung::UsernsSingle),
            Self::Chroot => Some(Rung::Chroot),
            Self::None => Some(Rung::None),
        }
    }
}
