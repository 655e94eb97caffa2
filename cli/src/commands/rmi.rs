//! `forge rmi`: names are removed; what only they held is cache from then on.

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
    let mut missing = None;
    for (name, text) in names.iter().zip(&args.images) {
        match store.tags().remove(&name.canonical())? {
            true => print(&format!("Untagged: {name}"))?,
            false => missing = missing.or(Some(text)),
        }
    }
    missing.map_or(Ok(()), |name| Err(no_such_image(name)))
}
