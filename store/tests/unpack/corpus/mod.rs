//! One case for each trick that an archive has been known to play, and for each honest one that looks like a trick.

mod adding;
mod escapes;
mod headers;
mod layers;
mod links;
mod metadata;
mod names;
mod sizes;
pub mod sparse;
mod streams;
mod threads;
