//! The solver's world: base images from the store or a registry, contexts from this machine.

use std::path::Path;
use std::sync::Arc;

use forge_exporter::{ExportError, Wanted, import_layout};
use forge_registry::{Document, Reference};
use forge_runner::executor::Fetch;
use forge_runner::sources::Sources;
use forge_solver::event::Events;
use forge_solver::op::types::GitReference;
use forge_solver::op::{Access, HttpSource, ResolvedHttp, ResolvedImage, Selection};
use forge_solver::{Dated, Event, Named, StepId, TroubleKind, World, WorldError};
use forge_store::media_type;
use forge_store::{
    ContentId, Descriptor, Digest, ImageConfig, ImageIndex, Layer, Manifest, Platform, Snapshot, Store,
};

use crate::contexts::{MainContext, NamedContexts, split_layout};
use crate::failure::{world_error_of_registry, world_error_of_store};
use crate::progress::Display;
use crate::registries::{Registries, Travelling};

/// The most that a manifest or a configuration may have, in bytes.
pub const MOST_DOCUMENT_BYTES: u64 = 16 << 20;

/// What builds reach for.
pub struct LocalWorld<'a> {
    /// Where images are looked up first.
    pub store: &'a Store,
    /// Where they are looked up then.
    pub registries: &'a Registries,
    /// The main context, if there is one.
    pub main: Option<&'a MainContext>,
    /// Contexts by name.
    pub contexts: NamedContexts,
    /// `--pull`: registries are asked even for what is here.
    pub always_pull: bool,
    /// Where resolving is shown.
    pub display: Arc<Display>,
    /// Numbers for internal steps.
    pub steps: &'a crate::steps::Steps,
    /// Files at URLs and repositories.
    pub sources: &'a Sources<'a>,
}

impl World for LocalWorld<'_> {
    fn resolve_image(&self, reference: &str, platform: &Platform) -> Result<ResolvedImage, WorldError> {
        if let Some((dir, tag, digest)) = split_layout(reference) {
            return self.layout_image(reference, dir, tag, digest, platform);
        }
        let name: Reference = reference.parse().map_err(|e| {
            WorldError::new(
                TroubleKind::Input,
                format!("failed to parse stage name {reference:?}: invalid reference format: {e}"),
            )
        })?;
        // What a digest names cannot be newer elsewhere.
        if (!self.always_pull || name.digest().is_some())
            && let Some(found) = self.local_image(&name, platform)?
        {
            return Ok(found);
        }
        let label = format!("[internal] load metadata for {}", name.canonical());
        self.steps.internal(&*self.display, label, |_| {
            let pulled = self.registries.fetch_image(&name, platform, self.store.blobs());
            let pulled = pulled.map_err(world_error_of_registry)?;
            let found = pulled.config.platform();
            if !found.architecture.is_empty()
                && !found.satisfies(platform)
                && !self.is_foreign_allowed(&found)
            {
                let message = format!("{} is an image for {found}, not for {platform}", name.canonical());
                return Err(WorldError::new(TroubleKind::NotFound, message));
            }
            Ok(ResolvedImage {
                reference: name.canonical(),
                digest: pulled.manifest_descriptor.digest,
                snapshot: snapshot(&pulled.manifest, &pulled.config)?,
                config: pulled.config,
            })
        })
    }

    fn image_at_hand(&self, reference: &str, platform: &Platform) -> Option<ResolvedImage> {
        let name = reference.parse().ok()?;
        self.local_image(&name, platform).ok()?
    }

    fn find(&self, context: &str, selection: &Selection) -> Result<(), WorldError> {
        let context = self.contexts.directories.get(context);
        let found = context.map_or(Ok(()), |context| context.find(selection));
        found.map_err(forge_runner::trouble::of_files)
    }

    fn named(&self, name: &str, platform: &Platform) -> Option<Named> {
        self.contexts.find(name, platform)
    }

    fn resolve_http(&self, source: &HttpSource) -> Result<ResolvedHttp, WorldError> {
        let label = format!("[internal] load {}", forge_parser::redacted(&source.url));
        self.steps.internal(&*self.display, label, |_| self.sources.resolve_http(source))
    }

    fn resolve_git(&self, reference: &GitReference, access: Access) -> Result<String, WorldError> {
        // A whole commit hash is its own answer: nobody is asked, and nothing is shown.
        if reference.commit().is_some() {
            return self.sources.resolve_git(reference, access);
        }
        let label = format!("[internal] load git source {}", reference.shown_remote());
        self.steps.internal(&*self.display, label, |_| self.sources.resolve_git(reference, access))
    }

    fn time_of(&self, dated: Dated<'_>) -> Result<Option<i64>, WorldError> {
        self.steps.internal(&*self.display, "[internal] resolve SOURCE_DATE_EPOCH", |_| match dated {
            Dated::Context => self.main.map_or(Ok(None), |main| main.time(self.sources)),
            Dated::Http(source) => self.sources.time_of_http(source),
            Dated::Git(reference, access) => self.sources.time_of_git(reference, access).map(Some),
        })
    }

    fn is_ignored(&self, context: &str, path: &str) -> bool {
        self.contexts.directories.get(context).is_some_and(|context| context.is_ignored(path))
    }

    fn ignore_fact(&self, context: &str) -> Option<String> {
        self.contexts.directories.get(context).map(|context| context.ignore_fact())
    }

    fn select(&self, context: &str, selection: &Selection) -> Result<ContentId, WorldError> {
        let context = self.contexts.directories.get(context).ok_or_else(|| {
            WorldError::new(TroubleKind::Input, format!("there is no build context {context:?}"))
        })?;
        context.content(selection).map_err(forge_runner::trouble::of_files)
    }
}

impl LocalWorld<'_> {
    /// Whether the store has an image of this name.
    pub fn is_stored(&self, reference: &str, platform: &Platform) -> bool {
        let name = reference.parse::<Reference>();
        name.is_ok_and(|name| matches!(find_image(self.store, &name, platform), Ok(Some(_))))
    }

    /// Docker takes a single-platform image whatever it is for, and so do we: binfmt may run it.
    fn is_foreign_allowed(&self, found: &Platform) -> bool {
        found.os == "linux"
    }

    /// An image of an image layout on this machine.
    fn layout_image(
        &self,
        reference: &str,
        dir: &Path,
        tag: Option<&str>,
        digest: Option<&str>,
        platform: &Platform,
    ) -> Result<ResolvedImage, WorldError> {
        let input =
            |e: &dyn std::fmt::Display| WorldError::new(TroubleKind::Input, format!("{reference}: {e}"));
        let digest = digest.map(str::parse::<Digest>).transpose().map_err(|e| input(&e))?;
        let wanted = Wanted { tag, digest: digest.as_ref(), platform: Some(platform) };
        let descriptor = import_layout(dir, &wanted, self.store.blobs()).map_err(|e| match e {
            ExportError::Store(error) => world_error_of_store(error),
            other => input(&other),
        })?;
        let manifest: Manifest = document(self.store, &descriptor)?;
        let config: ImageConfig = document(self.store, &manifest.config)?;
        let snapshot = snapshot(&manifest, &config)?;
        Ok(ResolvedImage { reference: reference.to_owned(), digest: descriptor.digest, config, snapshot })
    }

    /// An image of the store by its tag or digest.
    fn local_image(
        &self,
        name: &Reference,
        platform: &Platform,
    ) -> Result<Option<ResolvedImage>, WorldError> {
        let Some(image) = find_image(self.store, name, platform)? else { return Ok(None) };
        let snapshot = snapshot(&image.manifest, &image.config)?;
        let LocalImage { descriptor, config, .. } = image;
        Ok(Some(ResolvedImage { reference: name.canonical(), digest: descriptor.digest, config, snapshot }))
    }
}

/// An image whose documents are in the store.
pub struct LocalImage {
    /// What the name stands for: an index, or the manifest.
    pub root: Descriptor,
    /// The manifest.
    pub descriptor: Descriptor,
    /// What it says.
    pub manifest: Manifest,
    /// The configuration.
    pub config: ImageConfig,
}

/// Finds an image of the store; `None` if there is no such name, or it has nothing for the platform.
pub fn find_image(
    store: &Store,
    name: &Reference,
    platform: &Platform,
) -> Result<Option<LocalImage>, WorldError> {
    let tagged = store.tags().get(&name.canonical()).map_err(world_error_of_store)?;
    let root = match (tagged, name.digest()) {
        (Some(root), _) => root,
        (None, Some(digest)) => match whole_image(store, digest, platform)? {
            Some(root) => root,
            None => return Ok(None),
        },
        (None, None) => return Ok(None),
    };
    let mut descriptor = root.clone();
    if media_type::is_index(&descriptor.media_type) {
        let index: ImageIndex = document(store, &descriptor)?;
        let fits = |d: &&Descriptor| d.platform.as_ref().is_some_and(|found| found.satisfies(platform));
        match index.manifests.iter().find(fits) {
            Some(found) => descriptor = found.clone(),
            None => return Ok(None),
        }
    }
    let manifest: Manifest = document(store, &descriptor)?;
    let config = document(store, &manifest.config)?;
    Ok(Some(LocalImage { root, descriptor, manifest, config }))
}

/// The document of this digest, if the store has it and what it leads to for the platform.
fn whole_image(
    store: &Store,
    digest: &Digest,
    platform: &Platform,
) -> Result<Option<Descriptor>, WorldError> {
    let Some((root, document)) = stored_document(store, digest)? else { return Ok(None) };
    let manifest = match document {
        Document::Manifest(manifest) => Some(manifest),
        Document::Index(index) => {
            let fits = |d: &&Descriptor| d.platform.as_ref().is_some_and(|found| found.satisfies(platform));
            let Some(found) = index.manifests.iter().find(fits) else { return Ok(None) };
            match stored_document(store, &found.digest)? {
                Some((_, Document::Manifest(manifest))) => Some(manifest),
                _ => None,
            }
        }
    };
    let Some(manifest) = manifest else { return Ok(None) };
    let has_config = store.blobs().contains(&manifest.config.digest).map_err(world_error_of_store)?;
    Ok(has_config.then_some(root))
}

/// A manifest or an index of the store. A blob that is something else is no image.
fn stored_document(store: &Store, digest: &Digest) -> Result<Option<(Descriptor, Document)>, WorldError> {
    let bytes = match store.blobs().read(digest, MOST_DOCUMENT_BYTES) {
        // A damaged blob was dropped by the store: it is fetched anew. One that is too large is no document.
        Err(forge_store::StoreError::Corrupt { .. } | forge_store::StoreError::TooLarge { .. }) => {
            return Ok(None);
        }
        other => other.map_err(world_error_of_store)?,
    };
    let Some(bytes) = bytes else { return Ok(None) };
    let parsed = Document::parse(&bytes, None).ok();
    Ok(parsed.map(|(kind, document)| (Descriptor::new(kind, *digest, bytes.len() as u64), document)))
}

/// Reads a JSON document of the store.
pub fn document<T: serde::de::DeserializeOwned>(
    store: &Store,
    descriptor: &Descriptor,
) -> Result<T, WorldError> {
    let bytes = store.blobs().read(&descriptor.digest, MOST_DOCUMENT_BYTES).map_err(world_error_of_store)?;
    let bytes = bytes.ok_or_else(|| {
        WorldError::new(TroubleKind::NotFound, format!("blob {} is not in the store", descriptor.digest))
            .hint("pull or build the image again")
    })?;
    serde_json::from_slice(&bytes).map_err(|e| {
        WorldError::new(
            TroubleKind::Corrupt,
            format!("blob {} is not what it should be: {e}", descriptor.digest),
        )
    })
}

/// An image's layers, as the store names them.
pub fn snapshot(manifest: &Manifest, config: &ImageConfig) -> Result<Snapshot, WorldError> {
    if manifest.layers.len() != config.rootfs.diff_ids.len() {
        let message = format!(
            "the image lists {} layers but {} diff_ids",
            manifest.layers.len(),
            config.rootfs.diff_ids.len()
        );
        return Err(WorldError::new(TroubleKind::Corrupt, message));
    }
    let pairs = manifest.layers.iter().zip(&config.rootfs.diff_ids);
    Ok(pairs.map(|(blob, diff_id)| Layer::pulled(blob.clone(), *diff_id)).collect())
}

/// Gets layers from the registry that the image was named after.
pub struct Fetcher<'a> {
    /// Where they go.
    pub store: &'a Store,
    /// Where they come from.
    pub registries: &'a Registries,
    /// Where it is shown.
    pub display: Arc<Display>,
}

impl Fetch for Fetcher<'_> {
    fn fetch(&self, image: &str, layers: &[Layer], step: StepId, _: &dyn Events) -> Result<(), WorldError> {
        let name: Reference = image
            .parse()
            .map_err(|e| WorldError::new(TroubleKind::Input, format!("invalid reference format: {e}")))?;
        let blobs: Vec<Descriptor> =
            layers.iter().filter_map(|layer| Some(layer.pulled.as_ref()?.descriptor.clone())).collect();
        let progress = Arc::new(Travelling::new(step, Shared(self.display.clone())));
        self.registries
            .fetch_blobs(&name, &blobs, self.store.blobs(), progress)
            .map_err(world_error_of_registry)
    }
}

/// A display shared with threads of the network.
#[derive(Clone)]
pub struct Shared(pub Arc<Display>);

impl Events for Shared {
    fn emit(&self, event: Event) {
        self.0.emit(event);
    }
}
