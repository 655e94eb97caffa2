//! From a name to an image: index, manifest and configuration, checked and then kept, all of them or none. Layers are left where they are
//! until someone wants them ([`Client::fetch_blobs`]).

use std::collections::HashSet;

use forge_store::{Blobs, Descriptor, Digest, ImageConfig, Manifest, Platform, media_type};
use reqwest::Method;

use crate::call::Call;
use crate::client::{blocking, falls_through};
use crate::context::{Context, read_at_most};
use crate::endpoint::Endpoint;
use crate::limits::{CONFIG_BYTES, DOCUMENTS_BYTES, INDEX_DEPTH};
use crate::manifest::Resolved;
use crate::retry::Failure;
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
        let mut documents = Documents::default();
        let (descriptor, manifest) = self.descend(reference, root, wanted, blobs, &mut documents).await?;
        let repository = reference.repository();
        let (config_bytes, config) = self.fetch_config(repository, &manifest, blobs).await?;
        documents.add(config_bytes.clone());
        documents.keep(blobs).await?;
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
        let mut documents = Documents::default();
        if let Some(wanted) = wanted {
            let (descriptor, manifest) = self.descend(reference, root, wanted, blobs, &mut documents).await?;
            documents.keep(blobs).await?;
            remember_source(repository, &manifest, blobs).await?;
            return Ok(descriptor);
        }
        let descriptor = root.descriptor.clone();
        let mut seen = HashSet::from([descriptor.digest]);
        let (mut todo, mut manifests) = (Vec::new(), Vec::new());
        let mut next = Some((root, 0));
        while let Some((at, depth)) = next {
            documents.add(at.bytes);
            if documents.bytes > DOCUMENTS_BYTES {
                return Err(self
                    .refused(reference, &format!("its documents have more than {DOCUMENTS_BYTES} bytes"))?);
            }
            match at.document {
                Document::Manifest(manifest) => manifests.push(manifest),
                Document::Index(_) if depth == INDEX_DEPTH => return Err(self.too_deep(reference)?),
                Document::Index(index) => {
                    let new = index.manifests.into_iter().filter(|child| seen.insert(child.digest));
                    todo.extend(new.map(|child| (child, depth + 1)));
                }
            }
            next = match todo.pop() {
                Some((child, depth)) => {
                    Some((self.fetch_manifest(repository, &child, Some(blobs)).await?, depth))
                }
                None => None,
            };
        }
        documents.keep(blobs).await?;
        for manifest in &manifests {
            remember_source(repository, manifest, blobs).await?;
        }
        Ok(descriptor)
    }

    fn too_deep(&self, reference: &Reference) -> Result<RegistryError, RegistryError> {
        self.refused(reference, &format!("its indexes nest deeper than {INDEX_DEPTH}, or in a circle"))
    }

    fn refused(&self, reference: &Reference, detail: &str) -> Result<RegistryError, RegistryError> {
        let endpoint = Endpoint::of(&self.config, reference.repository())?;
        Ok(Context::new(&endpoint, &reference.canonical()).protocol(detail))
    }

    /// Goes from a document down to the manifest for the platform, by way of `documents`.
    async fn descend(
        &self,
        reference: &Reference,
        root: Resolved,
        wanted: &Platform,
        blobs: &Blobs,
        documents: &mut Documents,
    ) -> Result<(Descriptor, Manifest), RegistryError> {
        let repository = reference.repository();
        let mut seen = HashSet::new();
        let mut at = root;
        for _ in 0..=INDEX_DEPTH {
            documents.add(at.bytes);
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
        let (reader, digest) = (blobs.clone(), descriptor.digest);
        let here = blocking(&object, move || match reader.read(&digest, CONFIG_BYTES) {
            // A damaged blob was dropped by the store: it is fetched anew.
            Err(forge_store::StoreError::Corrupt { .. }) => Ok(None),
            other => other,
        });
        let bytes = match here.await? {
            Some(bytes) => bytes,
            None => self.small_blob(repository, descriptor, &object).await?,
        };
        let config = read_config(&bytes, manifest).map_err(|reason| context.protocol(&reason))?;
        Ok((bytes, config))
    }

    /// A blob that is read before it is kept; mirrors first.
    async fn small_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        object: &str,
    ) -> Result<Vec<u8>, RegistryError> {
        for endpoint in self.endpoints(repository).await? {
            match self.small_blob_at(&endpoint, descriptor, object).await {
                Err(e) if falls_through(&endpoint, &e) => {}
                other => return other,
            }
        }
        // Never here: the registry itself is the last of them, and its word is final.
        Err(RegistryError::Cancelled { object: object.to_owned() })
    }

    async fn small_blob_at(
        &self,
        endpoint: &Endpoint,
        descriptor: &Descriptor,
        object: &str,
    ) -> Result<Vec<u8>, RegistryError> {
        let scopes = [endpoint.scope("pull")];
        let url = endpoint.url(&format!("blobs/{}", descriptor.digest));
        let call = Call::new(Context::new(endpoint, object), Method::GET, url, &scopes);
        let mut tries = self.tries(endpoint);
        loop {
            match self.small_blob_once(&call, descriptor).await {
                Ok(bytes) => return Ok(bytes),
                Err(failure) => tries.wait(failure).await?,
            }
        }
    }

    async fn small_blob_once(&self, call: &Call<'_>, descriptor: &Descriptor) -> Result<Vec<u8>, Failure> {
        let (context, time) = (&call.context, self.config.timeouts.document);
        let response = self.once(call).await?;
        let bytes = read_at_most(&self.transport, response, descriptor.size, time, context).await?;
        let wrong = |detail: String| Failure::soon(context.corrupt(detail));
        match bytes {
            None => Err(wrong(format!("more than its {} bytes", descriptor.size))),
            Some(bytes) if bytes.len() as u64 != descriptor.size => {
                Err(wrong(format!("{} bytes instead of {}", bytes.len(), descriptor.size)))
            }
            Some(bytes) if Digest::of(&bytes) != descriptor.digest => {
                Err(wrong(format!("its bytes hash to {}", Digest::of(&bytes))))
            }
            Some(bytes) => Ok(bytes),
        }
    }
}

/// Documents that belong together: kept once all are good.
#[derive(Default)]
struct Documents {
    all: Vec<Vec<u8>>,
    bytes: u64,
}

impl Documents {
    fn add(&mut self, document: Vec<u8>) {
        self.bytes += document.len() as u64;
        self.all.push(document);
    }

    async fn keep(self, blobs: &Blobs) -> Result<(), RegistryError> {
        let blobs = blobs.clone();
        let keep = move || self.all.iter().try_for_each(|document| blobs.put(document).map(drop));
        blocking("an image's documents", keep).await
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
