//! `forge pull`: an image from a registry into the store, packed as it came.

use std::sync::Arc;

use forge_store::Platform;

use super::{Session, print};
use crate::args::{ProgressMode, Pull};
use crate::failure::{Failure, Kind};
use crate::local::Shared;
use crate::progress::Display;
use crate::registries::{Registries, Travelling, parse_reference};
use crate::steps::Steps;

/// Pulls an image.
pub fn pull(session: &Session, args: &Pull) -> Result<(), Failure> {
    let store = session.store()?;
    let name = parse_reference(&args.image)?;
    let platform = match &args.platform {
        Some(text) => text.parse().map_err(|e| Failure::new(Kind::Usage, e, None))?,
        None => Platform::host(),
    };
    let registries = Registries::new(&args.registry);
    let display = Arc::new(Display::new(ProgressMode::Auto, args.quiet));
    let steps = Steps::default();
    let pulled = steps.internal(&*display, format!("pulling {}", name.canonical()), |step| {
        let image = registries.fetch_image(&name, &platform, store.blobs())?;
        let progress = Arc::new(Travelling::new(step, Shared(display.clone())));
        registries.fetch_blobs(&name, &image.manifest.layers, store.blobs(), progress)?;
        Ok::<_, forge_registry::RegistryError>(image)
    });
    display.finish();
    let pulled = pulled?;
    store.commit(&[name.canonical()], Some(&pulled.manifest_descriptor))?;
    print(&pulled.manifest_descriptor.digest.to_string())
}
