//! `forge inspect`: an image's documents, whole or by a template in Docker's style.

use forge_registry::Reference;
use forge_store::{Descriptor, Platform, Store};
use serde_json::{Map, Value, json};

use super::{Session, print};
use crate::args::Inspect;
use crate::failure::{Failure, Kind};
use crate::local::{LocalImage, MOST_DOCUMENT_BYTES, document};
use crate::registries::{Registries, parse_reference};
use crate::template::Template;

/// Shows images.
pub fn inspect(session: &Session, args: &Inspect) -> Result<(), Failure> {
    let template = args.format.as_deref().filter(|text| *text != "json").map(Template::parse).transpose();
    let template = template.map_err(|e| {
        let hint = "forge knows fields, index, json, len, join, range, if and println; {{json .}} shows all";
        Failure::new(Kind::Usage, format!("the --format template: {e}"), Some(hint.into()))
    })?;
    let store = session.store()?;
    let registries = Registries::new(&args.registry);
    let mut all = Vec::new();
    for text in &args.images {
        let found = find(&store, &registries, text)?;
        if args.raw || args.config {
            let digest = match args.raw {
                true => found.root.digest,
                false => found.image(&store)?.manifest.config.digest,
            };
            let bytes = store.blobs().read(&digest, MOST_DOCUMENT_BYTES)?.unwrap_or_default();
            print_exactly(&bytes)?;
            continue;
        }
        let shown = shown(&store, &found)?;
        match &template {
            Some(template) => {
                let text = template.render(&shown).map_err(|e| {
                    let hint = "`{{json .}}` shows what there is";
                    Failure::new(Kind::Usage, format!("the --format template: {e}"), Some(hint.into()))
                })?;
                print(&text)?;
            }
            None => all.push(shown),
        }
    }
    let wants_list = template.is_none() && !args.raw && !args.config;
    if wants_list { print(&format!("{:#}", Value::Array(all))) } else { Ok(()) }
}

/// An image that was found.
struct Found {
    name: Reference,
    root: Descriptor,
}

impl Found {
    /// The image itself: for this machine's platform where there are several.
    fn image(&self, store: &Store) -> Result<LocalImage, Failure> {
        let wanted = Platform::host();
        let mut descriptor = self.root.clone();
        while forge_store::media_type::is_index(&descriptor.media_type) {
            let index: forge_store::ImageIndex = document(store, &descriptor)?;
            let fits = |d: &&Descriptor| d.platform.as_ref().is_some_and(|found| found.satisfies(&wanted));
            let images = &index.manifests;
            let image = images.iter().find(fits).or(images.first());
            descriptor = image.cloned().ok_or_else(|| no_such_image(&self.name.to_string()))?;
        }
        let manifest: forge_store::Manifest = document(store, &descriptor)?;
        let config = document(store, &manifest.config)?;
        Ok(LocalImage { root: self.root.clone(), descriptor, manifest, config })
    }
}

/// Looks in the store; behind `docker://`, in the registry.
fn find(store: &Store, registries: &Registries, text: &str) -> Result<Found, Failure> {
    if let Some(rest) = text.strip_prefix("docker://") {
        let name = parse_reference(rest)?;
        let root = registries.fetch_image(&name, &Platform::host(), store.blobs())?.root;
        return Ok(Found { name, root });
    }
    let name = parse_reference(text)?;
    match store.tags().get(&name.canonical())? {
        Some(root) => Ok(Found { name, root }),
        // By a digest that a tag of the repository stands for, too.
        None => by_digest(store, &name)?.ok_or_else(|| no_such_image(text)),
    }
}

fn by_digest(store: &Store, name: &Reference) -> Result<Option<Found>, Failure> {
    let Some(digest) = name.digest() else { return Ok(None) };
    let prefix = format!("{}:", name.repository());
    let tags = store.tags().list()?;
    let found = tags.iter().find(|tag| tag.descriptor.digest == *digest && tag.name.starts_with(&prefix));
    Ok(found.map(|tag| Found { name: name.clone(), root: tag.descriptor.clone() }))
}

/// The image as `docker inspect` shows it, with its manifest besides.
fn shown(store: &Store, found: &Found) -> Result<Value, Failure> {
    let image = found.image(store)?;
    let names = store.tags().list()?;
    let own = names.iter().filter(|tag| tag.descriptor.digest == found.root.digest);
    let own: Vec<Reference> = own.filter_map(|tag| tag.name.parse().ok()).collect();
    let tags: Vec<String> =
        own.iter().filter(|name| name.tag().is_some()).map(Reference::to_string).collect();
    let mut digests: Vec<String> = own
        .iter()
        .chain([&found.name])
        .map(|name| format!("{}@{}", name.repository().familiar(), found.root.digest))
        .collect();
    digests.sort();
    digests.dedup();
    let size: u64 = image.manifest.layers.iter().map(|layer| layer.size).sum();
    Ok(json!({
        "Id": image.manifest.config.digest,
        "RepoTags": tags,
        "RepoDigests": digests,
        "Digest": image.root.digest,
        "Name": found.name.canonical(),
        "Created": image.config.created,
        "Author": image.config.author,
        "Architecture": image.config.architecture,
        "Os": image.config.os,
        "Variant": image.config.variant,
        "Size": size,
        "Config": with_all_fields(serde_json::to_value(&image.config.config).unwrap_or_default()),
        "RootFS": { "Type": "layers", "Layers": image.config.rootfs.diff_ids },
        "History": image.config.history,
        "Manifest": image.manifest,
    }))
}

/// Docker shows every field of a configuration, set or not; templates rely on it.
fn with_all_fields(config: Value) -> Value {
    let fields = [
        ("User", json!("")),
        ("ExposedPorts", Value::Null),
        ("Env", Value::Null),
        ("Entrypoint", Value::Null),
        ("Cmd", Value::Null),
        ("Volumes", Value::Null),
        ("WorkingDir", json!("")),
        ("Labels", Value::Null),
        ("StopSignal", json!("")),
        ("OnBuild", Value::Null),
        ("Healthcheck", Value::Null),
        ("Shell", Value::Null),
    ];
    let mut all: Map<String, Value> =
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    if let Value::Object(set) = config {
        all.extend(set);
    }
    Value::Object(all)
}

/// Without a newline behind it: what is piped on must have the document's digest.
fn print_exactly(bytes: &[u8]) -> Result<(), Failure> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Kind::System, format!("cannot write to standard output: {e}"), None))
        }
        _ => Ok(()),
    }
}

/// The failure for a name that the store does not have.
pub fn no_such_image(name: &str) -> Failure {
    Failure::new(
        Kind::NotFound,
        format!("no such image: {name}"),
        Some("`forge images` lists what is here; `forge pull` fetches more".into()),
    )
}
