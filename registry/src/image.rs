//! From a name to an image: index, manifest and configuration, checked and kept. Layers are left where they are
//! until someone wants them ([`Client::fetch_blobs`]).

use std::collections::HashSet;

use forge_store::{Blobs, Descriptor, ImageConfig, Manifest, Platform, media_type};

use crate::client::blocking;
use crate::context::Context;
use crate::endpoint::Endpoint;
use crate::limits::{CONFIG_BYTES, INDEX_DEPTH};
use crate::manifest::Resolved;
use crate::progress::silent;
use crate::{Client, Document, Reference, RegistryError, Repository, json, platform};

/// An image without its layers. All documents named here are in the store.
#[derive(Clone, Debug)]
pub struct PulledImage {
    /// What the reference stood for: the index where it names one, else the manifest.
    pub root: Descriptor,
    /// The manifest for the platform.
    pub manifest_descriptor: Descriptor,
    /// What it says.
    pub manifest: Manifest,
    /// The exact bytes of the configuration.
    pub config_bytes: Vec<u8>,
    /// What they say: as many DiffIDs as the manifest has layers.
    pub config: ImageConfig,
}

impl Client {
    /// Resolves a reference, picks the image for `wanted` and fetches its manifest and configuration into the
    /// store. An image that is not in an index is taken whatever its platform: compare `config.platform()`.
    ///
    /// # Errors
    /// [`RegistryError`] of any kind; [`RegistryError::NoPlatform`] where an index lacks the platform.
    pub async fn fetch_image(
        &self,
        reference: &Reference,
        wanted: &Platform,
        blobs: &Blobs,
    ) -> Result<PulledImage, RegistryError> {
        let root = self.resolve(reference, Some(blobs)).await?;
        let root_descriptor = root.descriptor.clone();
        let (descriptor, manifest) = self.descend(reference, root, wanted, blobs).await?;
        let repository = reference.repository();
        let (config_bytes, config) = self.fetch_config(repository, &manifest, blobs).await?;
        remember_source(repository, &manifest, blobs).await?;
        Ok(PulledImage {
            root: root_descriptor,
            manifest_descriptor: descriptor,
            manifest,
            config_bytes,
            config,
        })
    }

    /// Resolves a reference and fetches its documents into the store: all that it stands for, or with `wanted` the
    /// manifest for that platform. Configurations and layers are left where they are; the store remembers where
    /// that is. Says what was fetched.
    ///
    /// # Errors
    /// [`RegistryError`] of any kind.
    pub async fn fetch_documents(
        &self,
        reference: &Reference,
        wanted: Option<&Platform>,
        blobs: &Blobs,
    ) -> Result<Descriptor, RegistryError> {
        let repository = reference.repository();
        let root = self.resolve(reference, Some(blobs)).await?;
        if let Some(wanted) = wanted {
            let (descriptor, manifest) = self.descend(reference, root, wanted, blobs).await?;
            remember_source(repository, &manifest, blobs).await?;
            return Ok(descriptor);
        }
        let descriptor = root.descriptor.clone();
        let mut seen = HashSet::from([descriptor.digest]);
        let mut todo = vec![(root, 0)];
        while let Some((at, depth)) = todo.pop() {
            keep(&at, blobs).await?;
            let index = match &at.document {
                Document::Manifest(manifest) => {
                    remember_source(repository, manifest, blobs).await?;
                    continue;
                }
                Document::Index(_) if depth == INDEX_DEPTH => {
                    return Err(self.too_deep(reference)?);
                }
                Document::Index(index) => index,
            };
            for child in index.manifests.iter().filter(|child| seen.insert(child.digest)) {
                todo.push((self.fetch_manifest(repository, child, Some(blobs)).await?, depth + 1));
            }
        }
        Ok(descriptor)
    }

    fn too_deep(&self, reference: &Reference) -> Result<RegistryError, RegistryError> {
        let endpoint = Endpoint::of(&self.config, reference.repository())?;
        let object = reference.canonical();
        let detail = format!("its indexes nest deeper than {INDEX_DEPTH}, or in a circle");
        Ok(Context::new(&endpoint, &object).protocol(&detail))
    }

    /// Goes from a document down to the manifest for the platform, keeping each on the way.
    async fn descend(
        &self,
        reference: &Reference,
        root: Resolved,
        wanted: &Platform,
        blobs: &Blobs,
    ) -> Result<(Descriptor, Manifest), RegistryError> {
        let repository = reference.repository();
        let mut seen = HashSet::new();
        let mut at = root;
        for _ in 0..=INDEX_DEPTH {
            keep(&at, blobs).await?;
            let index = match at.document {
                Document::Manifest(manifest) => return Ok((at.descriptor, manifest)),
                Document::Index(index) => index,
            };
            seen.insert(at.descriptor.digest);
            let Some(next) = platform::select(&index.manifests, wanted) else {
                return Err(RegistryError::NoPlatform {
                    object: reference.canonical(),
                    wanted: wanted.to_string(),
                    available: platform::available(&index.manifests),
                });
            };
            if seen.contains(&next.digest) {
                break;
            }
            at = self.fetch_manifest(repository, next, Some(blobs)).await?;
        }
        Err(self.too_deep(reference)?)
    }

    async fn fetch_config(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        blobs: &Blobs,
    ) -> Result<(Vec<u8>, ImageConfig), RegistryError> {
        let descriptor = &manifest.config;
        let object = format!("configuration {} of {repository}", descriptor.digest);
        let endpoint = Endpoint::of(&self.config, repository)?;
        let context = Context::new(&endpoint, &object);
        if !media_type::is_config(&descriptor.media_type) {
            let kind = crate::text::clean(descriptor.media_type.as_ref());
            return Err(context.protocol(&format!("it is an artifact of type {kind}, not an image")));
        }
        if descriptor.size > CONFIG_BYTES {
            return Err(context.protocol(&format!("it is larger than {CONFIG_BYTES} bytes")));
        }
        self.fetch_blob(repository, descriptor, blobs, &silent()).await?;
        let (reader, digest) = (blobs.clone(), descriptor.digest);
        let bytes = blocking(&object, move || reader.read(&digest, CONFIG_BYTES)).await?;
        let bytes = bytes.ok_or(forge_store::StoreError::MissingBlob(digest))?;
        let config = read_config(&bytes, manifest).map_err(|reason| context.protocol(&reason))?;
        Ok((bytes, config))
    }
}

fn read_config(bytes: &[u8], manifest: &Manifest) -> Result<ImageConfig, String> {
    json::check(bytes, false)?;
    let config: ImageConfig = serde_json::from_slice(bytes)
        .map_err(|e| crate::text::clean(&format!("it is no image configuration: {e}")))?;
    let (ids, layers) = (config.rootfs.diff_ids.len(), manifest.layers.len());
    if ids != layers {
        return Err(format!("it has {ids} DiffIDs for {layers} layers"));
    }
    Ok(config)
}

async fn keep(resolved: &Resolved, blobs: &Blobs) -> Result<(), RegistryError> {
    let (blobs, bytes) = (blobs.clone(), resolved.bytes.clone());
    blocking("a manifest", move || blobs.put(&bytes)).await.map(drop)
}

/// A registry that serves a manifest has its blobs: they can be mounted from there, without being fetched first.
async fn remember_source(
    repository: &Repository,
    manifest: &Manifest,
    blobs: &Blobs,
) -> Result<(), RegistryError> {
    let (blobs, name) = (blobs.clone(), repository.to_string());
    let digests: Vec<_> =
        std::iter::once(&manifest.config).chain(&manifest.layers).map(|d| d.digest).collect();
    blocking("a note of where blobs are", move || {
        digests.iter().try_for_each(|digest| blobs.add_source(digest, &name))
    })
    .await
}
