//! The words about the store's size: `du`, `prune`, `store`, and the limits that builds keep it within.

use clap::{ArgAction, Args, Subcommand, ValueEnum};
use forge_store::gc::{Filter, Limits, Prune as PruneOptions, seconds};

use crate::failure::{Failure, Kind};
use crate::size;

/// `forge du`.
#[derive(Debug, Args)]
pub struct Du {
    /// Only what fits: id, type, description, until, inuse, shared, private, reclaimable, with =, ~= or != (repeatable)
    #[arg(long = "filter", value_name = "FILTER")]
    pub filters: Vec<String>,
    /// How it is printed
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: DuFormat,
    /// Show everything there is to know of each thing, cache records too
    #[arg(short, long)]
    pub verbose: bool,
}

/// How `du` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DuFormat {
    /// Lines for people
    Table,
    /// One JSON document
    Json,
}

/// `forge prune`.
#[derive(Debug, Args)]
pub struct Prune {
    /// Also what was used within the last two days
    #[arg(short, long)]
    pub all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// Only what fits: until=24h, id, type, description, inuse, shared, private, with =, ~= or != (repeatable)
    #[arg(long = "filter", value_name = "FILTER")]
    pub filters: Vec<String>,
    /// Only what was not used for this long: 24h, 7d
    #[arg(long, value_name = "DURATION")]
    pub keep_duration: Option<String>,
    /// Only until the store takes no more than this
    #[arg(long, value_name = "SIZE", alias = "keep-storage")]
    pub max_used_space: Option<String>,
    /// This much may stay in any case
    #[arg(long, value_name = "SIZE")]
    pub reserved_space: Option<String>,
    /// Only until this much of the disk is free
    #[arg(long, value_name = "SIZE")]
    pub min_free_space: Option<String>,
    /// Show what would go, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Show each thing that goes
    #[arg(short, long)]
    pub verbose: bool,
}

/// `forge store`.
#[derive(Debug, Args)]
pub struct StoreArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: StoreCommand,
}

/// What `forge store` can do.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Read every blob and every layer, and name what is damaged
    Verify {
        /// Drop what is damaged, so that it is made or fetched anew
        #[arg(long)]
        repair: bool,
    },
}

/// How large builds let the store grow.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Size of the store")]
pub struct GcFlags {
    /// Whether old things go by themselves after a build
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set, env = "FORGE_GC")]
    pub gc: bool,
    /// The most that the store may take [default: 80 % of the disk, at most 100 GB]
    #[arg(long, value_name = "SIZE", env = "FORGE_GC_MAX_USED_SPACE")]
    pub gc_max_used_space: Option<String>,
    /// What the store may always keep [default: 10 % of the disk, at most 10 GB]
    #[arg(long, value_name = "SIZE", env = "FORGE_GC_RESERVED_SPACE")]
    pub gc_reserved_space: Option<String>,
    /// What is to stay free [default: 20 % of the disk]
    #[arg(long, value_name = "SIZE", env = "FORGE_GC_MIN_FREE_SPACE")]
    pub gc_min_free_space: Option<String>,
}

/// `forge info`.
#[derive(Debug, Args)]
pub struct Info {
    #[command(flatten)]
    pub gc: GcFlags,
}

impl GcFlags {
    /// The limits that were given.
    pub fn limits(&self) -> Result<Limits, Failure> {
        Ok(Limits {
            reserved: bytes("--gc-reserved-space", self.gc_reserved_space.as_deref())?,
            max_used: bytes("--gc-max-used-space", self.gc_max_used_space.as_deref())?,
            min_free: bytes("--gc-min-free-space", self.gc_min_free_space.as_deref())?,
        })
    }
}

impl Prune {
    /// What the words mean.
    pub fn options(&self) -> Result<PruneOptions, Failure> {
        let unused_for = match &self.keep_duration {
            Some(text) => Some(seconds(text).ok_or_else(|| {
                let hint = "write a duration: 24h, 90m, 7d";
                Failure::new(
                    Kind::Usage,
                    format!("invalid duration {text:?} for --keep-duration"),
                    Some(hint.into()),
                )
            })?),
            None => None,
        };
        Ok(PruneOptions {
            all: self.all,
            filters: filters(&self.filters)?,
            unused_for,
            limits: Limits {
                reserved: bytes("--reserved-space", self.reserved_space.as_deref())?,
                max_used: bytes("--max-used-space", self.max_used_space.as_deref())?,
                min_free: bytes("--min-free-space", self.min_free_space.as_deref())?,
            },
        })
    }
}

/// Reads filters.
pub fn filters(texts: &[String]) -> Result<Vec<Filter>, Failure> {
    texts.iter().map(|text| text.parse().map_err(|e| Failure::new(Kind::Usage, e, None))).collect()
}

fn bytes(flag: &str, text: Option<&str>) -> Result<Option<u64>, Failure> {
    text.map(|text| size::parse(flag, text)).transpose()
}
