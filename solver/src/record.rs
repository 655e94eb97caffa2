//! Cache records: what a vertex gave, and when.

use forge_store::Snapshot;
use serde::{Deserialize, Serialize};

/// The result of a vertex that ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// All its files: the input's layers and its own.
    pub snapshot: Snapshot,
    /// When it was made, in nanoseconds since 1970: becomes `created` in the image's history.
    pub created_ns: i128,
}
