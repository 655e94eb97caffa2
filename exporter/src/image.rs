//! From solved layers and a configuration to an image: its documents, in the store.

use std::collections::BTreeMap;

use forge_solver::plan::HistoryLine;
use forge_solver::{Plan, Solved};
use forge_store::image::{ImageConfig, Manifest, RootFs, to_json};
use forge_store::layer::Compression;
use forge_store::{Descriptor, Digest, Layer, MediaType, PackedLayer, Store};
use jiff::Timestamp;

use crate::ExportError;
use crate::created::{parse_ns, rfc3339};

/// How an image is written.
#[derive(Clone, Debug)]
pub struct ImageOptions {
    /// How layers made here are compressed.
    pub compression: Compression,
    /// `SOURCE_DATE_EPOCH`, in seconds since 1970: no time in the configuration is later.
    pub epoch: Option<i64>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
}

/// An image whose documents and own layers are in the store.
#[derive(Clone, Debug)]
pub struct Image {
    /// The manifest, named.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: Manifest,
    /// The configuration.
    pub config: ImageConfig,
}

impl Image {
    /// The configuration's digest: Docker's image id.
    pub fn id(&self) -> &Digest {
        &self.manifest.config.digest
    }
}

/// Packs what is not packed yet and writes configuration and manifest.
pub fn assemble(
    store: &Store,
    plan: &Plan,
    solved: &Solved,
    options: &ImageOptions,
) -> Result<Image, ExportError> {
    let record = solved.record(plan.target).ok_or(ExportError::NoResult)?;
    let layers = pack_all(store, &record.snapshot.layers, options.compression)?;
    let config = configure(store, plan, solved, &layers, options)?;
    write(store, config, &layers, options)
}

/// Writes configuration and manifest.
fn write(
    store: &Store,
    config: ImageConfig,
    layers: &[PackedLayer],
    options: &ImageOptions,
) -> Result<Image, ExportError> {
    let config_bytes = to_json(&config);
    let config_digest = store.blobs().put(&config_bytes)?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(MediaType::ImageManifest),
        artifact_type: None,
        config: Descriptor::new(MediaType::ImageConfig, config_digest, config_bytes.len() as u64),
        layers: layers.iter().map(|layer| oci_layer(&layer.descriptor)).collect(),
        subject: None,
        annotations: options.annotations.clone(),
        extra: BTreeMap::new(),
    };
    let bytes = to_json(&manifest);
    let digest = store.blobs().put(&bytes)?;
    let mut descriptor = Descriptor::new(MediaType::ImageManifest, digest, bytes.len() as u64);
    descriptor.platform = Some(config.platform());
    Ok(Image { descriptor, manifest, config })
}

/// A layer as an OCI manifest names it: OCI's media type for Docker's, and nothing that the base's manifest
/// said about it.
fn oci_layer(layer: &Descriptor) -> Descriptor {
    let media_type = match layer.media_type.as_ref() {
        forge_store::media_type::DOCKER_LAYER_GZIP => MediaType::ImageLayerGzip,
        forge_store::media_type::DOCKER_LAYER_FOREIGN_GZIP => MediaType::ImageLayerNonDistributableGzip,
        _ => layer.media_type.clone(),
    };
    Descriptor { urls: layer.urls.clone(), ..Descriptor::new(media_type, layer.digest, layer.size) }
}

/// Packs layers side by side; each one uses what cores are free by itself.
fn pack_all(
    store: &Store,
    layers: &[Layer],
    compression: Compression,
) -> Result<Vec<PackedLayer>, ExportError> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let slots: Vec<_> = layers.iter().map(|_| std::sync::OnceLock::new()).collect();
    std::thread::scope(|scope| {
        let work = || {
            while let Some(at) =
                Some(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)).filter(|at| *at < layers.len())
            {
                let _ = slots[at].set(store.layers().pack(&layers[at], compression));
            }
        };
        for _ in 1..workers.min(layers.len()) {
            scope.spawn(work);
        }
        work();
    });
    slots.into_iter().map(|slot| Ok(slot.into_inner().expect("every layer was taken")?)).collect()
}

/// The configuration with layers, history and times filled in.
fn configure(
    store: &Store,
    plan: &Plan,
    solved: &Solved,
    layers: &[PackedLayer],
    options: &ImageOptions,
) -> Result<ImageConfig, ExportError> {
    let mut config = plan.stage.image.clone();
    config.rootfs =
        RootFs { diff_ids: layers.iter().map(|layer| layer.diff_id).collect(), ..RootFs::default() };
    let clamp = |ns: i128| options.epoch.map_or(ns, |epoch| ns.min(i128::from(epoch) * 1_000_000_000));
    let base = plan.stage.base_created.as_deref().and_then(parse_ns);
    let mut latest = match base {
        Some(ns) => Some(ns),
        None if has_own_layer(plan) => None,
        None => Some(first_seen(store, &config, plan)?),
    };
    if latest.is_none() {
        latest = plan.stage.history.iter().find_map(|line| made_at(line, solved));
    }
    let mut latest = clamp(latest.unwrap_or(0));
    let mut history = Vec::new();
    for line in &plan.stage.history {
        if let Some(ns) = made_at(line, solved) {
            latest = clamp(ns);
        }
        history.push(line.to_history(Some(rfc3339(latest))));
    }
    config.history = history;
    config.created = Some(rfc3339(latest));
    Ok(config)
}

fn has_own_layer(plan: &Plan) -> bool {
    plan.stage.history.iter().any(|line| matches!(line, HistoryLine::Own { vertex: Some(_), .. }))
}

fn made_at(line: &HistoryLine, solved: &Solved) -> Option<i128> {
    match line {
        HistoryLine::Own { vertex: Some(vertex), .. } => {
            solved.record(*vertex).map(|record| record.created_ns)
        }
        _ => None,
    }
}

/// When this configuration was first built here. Without layers nothing else remembers a time, and the same
/// Dockerfile must give the same image each time.
fn first_seen(store: &Store, config: &ImageConfig, plan: &Plan) -> Result<i128, ExportError> {
    let mut document = config.clone();
    document.history = plan.stage.history.iter().map(|line| line.to_history(None)).collect();
    let key = format!("created {}", Digest::of(&to_json(&document)));
    if let Some(found) = store.cache().get(&key)?.and_then(|text| text.parse().ok()) {
        return Ok(found);
    }
    let now = Timestamp::now().as_nanosecond();
    store.cache().put(&key, &now.to_string())?;
    Ok(now)
}
