//! How images were built, kept so that `forge verify` can build them again.
//!
//! ```text
//! ROOT/state/recipes/<manifest>.json   the words of the build, where it was run, and what its bases were
//! ```
//!
//! A recipe holds no secret, only the words that named one. Those of images that no name has any more are removed
//! when the next one is kept. Losing one loses the chance to verify, so writing is best effort.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use forge_solver::{Op, Plan};
use forge_store::image::ImageConfig;
use forge_store::{Descriptor, Digest, ImageIndex, Manifest, MediaType, Store};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::local::MOST_DOCUMENT_BYTES;

/// How one image was built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// The command line, without forge's own name.
    pub words: Vec<String>,
    /// Where it was run.
    pub directory: PathBuf,
    /// Build arguments, with the values that came from the environment.
    pub build_args: BTreeMap<String, String>,
    /// Which of the images that the build gave.
    pub target: usize,
    /// Base images as they were resolved.
    pub bases: Vec<Base>,
}

/// A base image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// What the Dockerfile calls it, in full.
    pub reference: String,
    /// Its manifest.
    pub digest: Digest,
}

/// The recipes of one store.
pub struct Recipes<'a> {
    store: &'a Store,
    dir: PathBuf,
}

impl<'a> Recipes<'a> {
    /// Of a store.
    pub fn of(store: &'a Store) -> Self {
        Self { store, dir: store.state_dir().join("recipes") }
    }

    /// The recipe of an image, by its manifest or index.
    pub fn find(&self, image: &Digest) -> Option<Recipe> {
        serde_json::from_slice(&fs::read(self.path(image)).ok()?).ok()
    }

    /// Keeps the recipe of an image that has a name.
    pub fn keep(&self, image: &Digest, recipe: &Recipe) {
        let bytes = serde_json::to_vec(recipe).unwrap_or_default();
        if fs::read(self.path(image)).is_ok_and(|old| old == bytes) {
            return;
        }
        let kept = fs::create_dir_all(&self.dir).and_then(|()| {
            let file = tempfile::NamedTempFile::new_in(&self.dir)?;
            fs::write(file.path(), bytes)?;
            file.persist(self.path(image)).map_err(|e| e.error)
        });
        if kept.is_ok() {
            // Best effort: see above.
            let _ = self.sweep();
        }
    }

    fn sweep(&self) -> io::Result<()> {
        let tags = self.store.tags().list().map_err(io::Error::other)?;
        let named: BTreeSet<PathBuf> = tags.iter().map(|tag| self.path(&tag.descriptor.digest)).collect();
        for entry in fs::read_dir(&self.dir)?.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|end| end == "json") && !named.contains(&path) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn path(&self, image: &Digest) -> PathBuf {
        self.dir.join(format!("{}.json", image.hex()))
    }
}

impl Base {
    /// The base images of a plan that have names of their own.
    pub fn all(plan: &Plan) -> Vec<Self> {
        let ops = plan.graph.ids().map(|id| &plan.graph.vertex(id).op);
        let images = ops.filter_map(|op| match op {
            Op::Image(image) if !image.reference.contains("://") => {
                Some(Self { reference: image.reference.clone(), digest: image.digest })
            }
            _ => None,
        });
        images.collect()
    }
}

/// Gives another store the base images of a recipe, as far as this one has them.
pub fn lend(bases: &[Base], from: &Store, to: &Store) -> Result<(), Failure> {
    let mut by_name: BTreeMap<&str, Vec<Descriptor>> = BTreeMap::new();
    for base in bases {
        if let Some(descriptor) = lend_one(&base.digest, from, to)? {
            by_name.entry(&base.reference).or_default().push(descriptor);
        }
    }
    for (reference, mut images) in by_name {
        let root = match images.len() {
            1 => images.remove(0),
            _ => index(images, to)?,
        };
        to.commit(&[reference.to_owned()], Some(&root))?;
    }
    Ok(())
}

fn lend_one(digest: &Digest, from: &Store, to: &Store) -> Result<Option<Descriptor>, Failure> {
    let Some(bytes) = from.blobs().read(digest, MOST_DOCUMENT_BYTES)? else { return Ok(None) };
    let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) else { return Ok(None) };
    let Some(config) = from.blobs().read(&manifest.config.digest, MOST_DOCUMENT_BYTES)? else {
        return Ok(None);
    };
    let Ok(config) = serde_json::from_slice::<ImageConfig>(&config) else { return Ok(None) };
    for blob in manifest.layers.iter().chain([&manifest.config]) {
        copy(&blob.digest, from, to)?;
    }
    copy(digest, from, to)?;
    let media_type = manifest.media_type.unwrap_or(MediaType::ImageManifest);
    let descriptor = Descriptor::new(media_type, *digest, bytes.len() as u64);
    Ok(Some(Descriptor { platform: Some(config.platform()), ..descriptor }))
}

/// Copies a blob if it is here: layers that nobody needed were never fetched.
fn copy(digest: &Digest, from: &Store, to: &Store) -> Result<(), Failure> {
    let Some((mut file, size)) = from.blobs().open(digest)? else { return Ok(()) };
    if to.blobs().contains(digest)? {
        return Ok(());
    }
    let mut ingest = to.blobs().ingest(digest, Some(size))?;
    io::copy(&mut file, &mut ingest)
        .map_err(|e| Failure::of_output(Path::new("a store to verify in"), &e))?;
    Ok(ingest.commit()?)
}

/// The same name for several platforms.
fn index(manifests: Vec<Descriptor>, store: &Store) -> Result<Descriptor, Failure> {
    let index = ImageIndex {
        schema_version: 2,
        media_type: Some(MediaType::ImageIndex),
        artifact_type: None,
        manifests,
        annotations: BTreeMap::new(),
        extra: BTreeMap::new(),
    };
    let bytes = forge_store::image::to_json(&index);
    let digest = store.blobs().put(&bytes)?;
    Ok(Descriptor::new(MediaType::ImageIndex, digest, bytes.len() as u64))
}
