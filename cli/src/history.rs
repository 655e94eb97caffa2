//! What builds were made of, kept for the next build of the same thing and for `forge explain`.
//!
//! ```text
//! ROOT/state/builds/<what>-<platform>.json   the last build of a Dockerfile and target
//! ROOT/state/listings/<content>.json         the files behind a content id that such a build names
//! ```
//!
//! Losing any of it loses explanations only, so writing is best effort.

use std::fs;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use forge_runner::files::LocalContext;
use forge_solver::explain::{BuildLog, Listing};
use forge_store::{ContentId, Store};
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

/// What is built: what makes two builds the same thing at different times.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Context, Dockerfile and target.
    pub what: String,
    /// The platform.
    pub platform: String,
}

impl Subject {
    fn file_name(&self) -> String {
        format!("{}-{}.json", self.prefix(), &digest(&self.platform)[..8])
    }

    fn prefix(&self) -> String {
        digest(&self.what)[..32].to_owned()
    }
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

    /// The last build of the same; one for another platform if there is none.
    pub fn last(&self, subject: &Subject) -> Option<KeptBuild> {
        read(&self.builds.join(subject.file_name())).or_else(|| {
            let prefix = subject.prefix();
            let is_same = |path: &PathBuf| {
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
            };
            self.dated().into_iter().rev().find(is_same).and_then(|path| read(&path))
        })
    }

    /// Keeps a build, and the files behind what it was made of.
    pub fn keep<'a>(
        &self,
        subject: &Subject,
        build: &KeptBuild,
        contexts: impl Iterator<Item = &'a LocalContext>,
    ) {
        let path = self.builds.join(subject.file_name());
        if read(&path).as_ref() == Some(build) {
            return;
        }
        let old = read::<KeptBuild>(&path).unwrap_or_default();
        let place = |content: &ContentId| self.listings.join(format!("{}.json", content.hex()));
        for context in contexts {
            // One at a time: each is as large as its context has files.
            for (content, listing) in context.listings(|content| !place(content).exists()) {
                write(&place(&content), &listing);
            }
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
        self.dated().iter().rev().filter_map(|path| read(path)).collect()
    }

    /// The files of all builds, the oldest first.
    fn dated(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.builds).into_iter().flatten().flatten();
        let mut dated: Vec<(SystemTime, PathBuf)> = entries
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        dated.sort();
        dated.into_iter().map(|(_, path)| path).collect()
    }
}

/// The content ids that a build names.
fn contents(build: &KeptBuild) -> impl Iterator<Item = &String> {
    let facts = build.log.steps.iter().flat_map(|step| &step.facts);
    facts.filter(|(name, _)| name.starts_with("content ")).map(|(_, value)| value)
}

fn digest(text: &str) -> String {
    forge_store::Digest::of(text.as_bytes()).hex()
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Aside and renamed, so that a reader never sees half of it.
fn write(path: &Path, value: &impl Serialize) {
    let Some(dir) = path.parent() else { return };
    let written =
        fs::create_dir_all(dir).and_then(|()| tempfile::NamedTempFile::new_in(dir)).and_then(|file| {
            let mut out = BufWriter::new(file);
            serde_json::to_writer(&mut out, value)?;
            out.into_inner().map_err(|e| e.into_error())?.persist(path).map_err(|e| e.error)
        });
    // Best effort: see above.
    drop(written);
}
