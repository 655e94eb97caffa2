//! From solved layers and a configuration to an image: its documents, in the store.

use std::collections::BTreeMap;

use forge_solver::plan::HistoryLine;
use forge_solver::{Plan, Solved};
use forge_store::image::{ImageConfig, Manifest, RootFs, to_json};
use forge_store::layer::FileTimes;
use forge_store::{Descriptor, Digest, Layer, LayerForm, MediaType, PackedLayer, Store, media_type};
use jiff::Timestamp;

use crate::created::{parse_ns, rfc3339};
use crate::edits::Edits;
use crate::squash::{self, Squash};
use crate::{Annotation, AnnotationTarget, ExportError};

/// How an image is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageOptions {
    /// How layers are packed.
    pub form: LayerForm,
    /// What bounds the times in the configuration (`SOURCE_DATE_EPOCH`).
    pub times: FileTimes,
    /// Docker's media types instead of OCI's.
    pub docker_types: bool,
    /// Layers that may not be distributed stay marked so.
    pub keep_nondistributable: bool,
    /// Annotations of manifests, indexes, and what names them.
    pub annotations: Vec<Annotation>,
    /// Layers that become one.
    pub squash: Option<Squash>,
    /// What is taken out of the configuration, and labelled, at the end.
    pub edits: Edits,
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
    let layers: Vec<Layer> = record.snapshot.layers().into_iter().cloned().collect();
    let layers = match options.squash {
        None => pack_all(store, &layers, options.form)?,
        Some(squash) => squash::pack(store, &layers, squash, options.form)?,
    };
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
    let platform = config.platform();
    let annotations = |target: AnnotationTarget| -> BTreeMap<String, String> {
        let ours = options.annotations.iter().filter(|a| a.target == target && a.applies_to(&platform));
        ours.map(|annotation| (annotation.key.clone(), annotation.value.clone())).collect()
    };
    let own_name = |kind: &MediaType| options.own_name(kind);
    let config_bytes = to_json(&config);
    let config_digest = store.blobs().put(&config_bytes)?;
    let layers = layers.iter().map(|layer| options.layer(&layer.descriptor)).collect::<Result<_, _>>()?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(own_name(&MediaType::ImageManifest)?),
        artifact_type: None,
        config: Descriptor::new(own_name(&MediaType::ImageConfig)?, config_digest, config_bytes.len() as u64),
        layers,
        subject: None,
        annotations: annotations(AnnotationTarget::Manifest),
        extra: BTreeMap::new(),
    };
    let bytes = to_json(&manifest);
    let digest = store.blobs().put(&bytes)?;
    let kind = own_name(&MediaType::ImageManifest)?;
    let descriptor = Descriptor {
        platform: Some(platform.clone()),
        annotations: annotations(AnnotationTarget::ManifestDescriptor),
        ..Descriptor::new(kind, digest, bytes.len() as u64)
    };
    Ok(Image { descriptor, manifest, config })
}

impl ImageOptions {
    /// A media type by the name that the output wants.
    pub(crate) fn own_name(&self, kind: &MediaType) -> Result<MediaType, ExportError> {
        if !self.docker_types {
            return Ok(media_type::to_oci(kind));
        }
        media_type::to_docker(kind).ok_or_else(|| {
            ExportError::Unsuitable(format!("oci-mediatypes=false: Docker has no media type for {kind}"))
        })
    }

    /// A layer as the manifest names it, with nothing that the base's manifest said about it but what makes an
    /// eStargz one.
    fn layer(&self, layer: &Descriptor) -> Result<Descriptor, ExportError> {
        let mut media_type = media_type::to_oci(&layer.media_type);
        let mut urls = layer.urls.clone();
        if !self.keep_nondistributable {
            let distributable = media_type::to_distributable(&media_type);
            if distributable != media_type {
                // It travels with the image from now on.
                (media_type, urls) = (distributable, Vec::new());
            }
        }
        let mut annotations = layer.annotations.clone();
        annotations.retain(|key, _| !self.docker_types && is_of_estargz(key));
        let media_type = self.own_name(&media_type)?;
        Ok(Descriptor { urls, annotations, ..Descriptor::new(media_type, layer.digest, layer.size) })
    }
}

fn is_of_estargz(key: &str) -> bool {
    use forge_store::layer::estargz::{TOC_DIGEST_ANNOTATION, UNCOMPRESSED_SIZE_ANNOTATION};
    [TOC_DIGEST_ANNOTATION, UNCOMPRESSED_SIZE_ANNOTATION].contains(&key)
}

/// Packs layers side by side; each one uses what cores are free by itself.
pub(crate) fn pack_all(
    store: &Store,
    layers: &[Layer],
    form: LayerForm,
) -> Result<Vec<PackedLayer>, ExportError> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let slots: Vec<_> = layers.iter().map(|_| std::sync::OnceLock::new()).collect();
    std::thread::scope(|scope| {
        let work = || {
            while let Some(at) =
                Some(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)).filter(|at| *at < layers.len())
            {
                let _ = slots[at].set(store.layers().pack(&layers[at], form));
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
    options.edits.apply(&mut config.config);
    config.rootfs =
        RootFs { diff_ids: layers.iter().map(|layer| layer.diff_id).collect(), ..RootFs::default() };
    let bound = |ns: i128| bounded(ns, options.times);
    let base = plan.stage.base_created.as_deref().and_then(parse_ns);
    let mut latest = match base {
        Some(ns) => Some(ns),
        None if has_own_layer(plan) => None,
        None => Some(first_seen(store, &config, plan)?),
    };
    if latest.is_none() {
        latest = plan.stage.history.iter().find_map(|line| made_at(line, solved));
    }
    let mut latest = bound(latest.unwrap_or(0));
    let mut history = Vec::new();
    for line in &plan.stage.history {
        if let Some(ns) = made_at(line, solved) {
            latest = bound(ns);
        }
        history.push(line.to_history(Some(rfc3339(latest))));
    }
    config.history = match options.squash {
        None => history,
        Some(squash) => squash::history(history, &plan.stage.history, layers, squash, rfc3339(latest)),
    };
    config.created = Some(rfc3339(latest));
    Ok(config)
}

fn bounded(ns: i128, times: FileTimes) -> i128 {
    const NS: i128 = 1_000_000_000;
    match times {
        FileTimes::Kept => ns,
        FileTimes::Clamped(latest) => ns.min(i128::from(latest) * NS),
        FileTimes::Fixed(time) => i128::from(time) * NS,
    }
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
