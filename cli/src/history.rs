//! What builds were made of, kept for the next build of the same thing and for `forge explain`.
//!
//! ```text
//! ROOT/state/builds/<what>.json        the last build of a Dockerfile and target
//! ROOT/state/listings/<content>.json   the files behind a content id that such a build names
//! ```
//!
//! Losing any of it loses explanations only, so writing is best effort.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use forge_runner::files::LocalContext;
use forge_solver::explain::{BuildLog, Listing};
use forge_store::Store;
use serde::{Deserialize, Serialize};

/// A build as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptBuild {
    /// The names that the image got.
    pub names: Vec<String>,
    /// The Dockerfile.
    pub dockerfile: String,
    /// The target stage.
    pub target: String,
    /// The steps.
    pub log: BuildLog,
}

/// The kept builds of one store.
pub struct History {
    builds: PathBuf,
    listings: PathBuf,
}

impl History {
    /// Of a store.
    pub fn of(store: &Store) -> Self {
        let state = store.state_dir();
        Self { builds: state.join("builds"), listings: state.join("listings") }
    }

    /// The last build of `what`.
    pub fn last(&self, what: &str) -> Option<KeptBuild> {
        read(&self.builds.join(file_name(what)))
    }

    /// Keeps a build, and the files behind what it was made of.
    pub fn keep<'a>(&self, what: &str, build: &KeptBuild, contexts: impl Iterator<Item = &'a LocalContext>) {
        let path = self.builds.join(file_name(what));
        if read(&path).as_ref() == Some(build) {
            return;
        }
        let old = read::<KeptBuild>(&path).unwrap_or_default();
        for (content, listing) in contexts.flat_map(LocalContext::listings) {
            write(&self.listings.join(format!("{}.json", content.hex())), &listing);
        }
        write(&path, build);
        // Listings that only the build before named explain nothing any more.
        for content in contents(&old).filter(|content| !contents(build).any(|now| now == *content)) {
            let _ = fs::remove_file(self.listings.join(format!("{content}.json")));
        }
    }

    /// The files behind a content id.
    pub fn listing(&self, content: &str) -> Option<Listing> {
        content
            .bytes()
            .all(|b| b.is_ascii_hexdigit())
            .then(|| read(&self.listings.join(format!("{content}.json"))))?
    }

    /// The kept builds, the newest first.
    pub fn builds(&self) -> Vec<KeptBuild> {
        let entries = fs::read_dir(&self.builds).into_iter().flatten().flatten();
        let mut dated: Vec<(SystemTime, PathBuf)> = entries
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        dated.sort();
        dated.iter().rev().filter_map(|(_, path)| read(path)).collect()
    }
}

/// The content ids that a build names.
fn contents(build: &KeptBuild) -> impl Iterator<Item = &String> {
    let facts = build.log.steps.iter().flat_map(|step| &step.facts);
    facts.filter(|(name, _)| name.starts_with("content")).map(|(_, value)| value)
}

fn file_name(what: &str) -> String {
    format!("{}.json", &forge_store::Digest::of(what.as_bytes()).hex()[..32])
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Aside and renamed, so that a reader never sees half of it.
fn write(path: &Path, value: &impl Serialize) {
    let (Some(dir), Ok(bytes)) = (path.parent(), serde_json::to_vec(value)) else { return };
    let written =
        fs::create_dir_all(dir).and_then(|()| tempfile::NamedTempFile::new_in(dir)).and_then(|file| {
            fs::write(file.path(), bytes)?;
            file.persist(path).map_err(|e| e.error)
        });
    // Best effort: see above.
    drop(written);
}
