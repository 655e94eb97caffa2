//! One case for each trick that an archive has been known to play, and for each honest one that looks like a trick.

mod adding;
mod breakouts;
mod escapes;
mod headers;
mod known_bad;
mod layers;
mod links;
mod listings;
mod metadata;
mod names;
mod rows;
mod sizes;
pub mod sparse;
mod streams;
mod threads;
