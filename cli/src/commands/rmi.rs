//! `forge rmi`: names are removed, and with an image's last name what only it needed. Layers that the cache knows
//! stay there until they are pruned.

use super::inspect::no_such_image;
use super::{Session, print};
use crate::args::Rmi;
use crate::failure::Failure;
use crate::registries::parse_reference;

/// Removes names.
pub fn rmi(session: &Session, args: &Rmi) -> Result<(), Failure> {
    let store = session.store()?;
    // All names are read before the first one is removed.
    let names = args.images.iter().map(|name| parse_reference(name)).collect::<Result<Vec<_>, _>>()?;
    let full: Vec<String> = names.iter().map(|name| name.canonical()).collect();
    let (found, gone) = store.remove_images(&full)?;
    let mut missing = None;
    for ((name, text), found) in names.iter().zip(&args.images).zip(found) {
        match found {
            true => print(&format!("Untagged: {name}"))?,
            false => missing = missing.or(Some(text)),
        }
    }
    gone.iter().try_for_each(|digest| print(&format!("Deleted: {digest}")))?;
    missing.map_or(Ok(()), |name| Err(no_such_image(name)))
}
