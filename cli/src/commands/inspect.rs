//! `forge inspect`: an image's documents.

use forge_store::Platform;
use serde_json::json;

use super::{Session, print};
use crate::args::Inspect;
use crate::failure::{Failure, Kind};
use crate::local::{MOST_DOCUMENT_BYTES, find_image};
use crate::registries::parse_reference;

/// Shows an image.
pub fn inspect(session: &Session, args: &Inspect) -> Result<(), Failure> {
    let store = session.store()?;
    let name = parse_reference(&args.image)?;
    let image = find_image(&store, &name, &Platform::host())?.ok_or_else(|| no_such_image(&args.image))?;
    let document = match (args.raw, args.config) {
        (true, _) => Some(image.descriptor.digest),
        (_, true) => Some(image.manifest.config.digest),
        _ => None,
    };
    if let Some(digest) = document {
        let bytes = store.blobs().read(&digest, MOST_DOCUMENT_BYTES)?.unwrap_or_default();
        return print(&String::from_utf8_lossy(&bytes));
    }
    let size: u64 = image.manifest.layers.iter().map(|layer| layer.size).sum();
    let shown = json!([{
        "Id": image.manifest.config.digest,
        "Digest": image.root.digest,
        "Name": name.canonical(),
        "Created": image.config.created,
        "Author": image.config.author,
        "Architecture": image.config.architecture,
        "Os": image.config.os,
        "Variant": image.config.variant,
        "Size": size,
        "Config": image.config.config,
        "RootFS": { "Type": "layers", "Layers": image.config.rootfs.diff_ids },
        "History": image.config.history,
        "Manifest": image.manifest,
    }]);
    print(&format!("{shown:#}"))
}

/// The failure for a name that the store does not have.
pub fn no_such_image(name: &str) -> Failure {
    Failure::new(
        Kind::NotFound,
        format!("no such image: {name}"),
        Some("`forge images` lists what is here; `forge pull` fetches more".into()),
    )
}
