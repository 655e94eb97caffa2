//! `forge tag`: another name for an image.

use super::Session;
use super::inspect::no_such_image;
use crate::args::Tag;
use crate::failure::Failure;
use crate::registries::parse_reference;

/// Names an image.
pub fn tag(session: &Session, args: &Tag) -> Result<(), Failure> {
    let store = session.store()?;
    let (image, name) = (parse_reference(&args.image)?, parse_reference(&args.name)?);
    let descriptor = store.tags().get(&image.canonical())?.ok_or_else(|| no_such_image(&args.image))?;
    Ok(store.commit(&[name.canonical()], Some(&descriptor))?)
}
