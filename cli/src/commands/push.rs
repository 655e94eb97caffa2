//! `forge push`: an image of the store to the registry that its name says.

use std::sync::Arc;

use super::inspect::no_such_image;
use super::{Session, print};
use crate::args::{ProgressMode, Push};
use crate::failure::Failure;
use crate::local::Shared;
use crate::progress::Display;
use crate::registries::{Registries, Travelling, parse_reference};
use crate::steps::Steps;

/// Pushes an image.
pub fn push(session: &Session, args: &Push) -> Result<(), Failure> {
    let store = session.store()?;
    let name = parse_reference(&args.image)?;
    let descriptor = store.tags().get(&name.canonical())?.ok_or_else(|| no_such_image(&args.image))?;
    let registries = Registries::new(&args.registry);
    let display = Arc::new(Display::new(ProgressMode::Auto, args.quiet));
    let pushed = Steps::default().internal(&*display, format!("pushing {}", name.canonical()), |step| {
        let progress = Arc::new(Travelling::new(step, Shared(display.clone())));
        registries.push(&name, &descriptor, store.blobs(), progress)
    });
    display.finish();
    print(&pushed?.digest.to_string())
}
