//! Where a build's files come from: directories, standard input, URLs, repositories, images under other names.

mod archive;
mod main_context;
mod named;
mod place;

pub use main_context::MainContext;
pub use named::{ContextName, NamedContexts, NamedSource, parse_named, split_layout};
pub use place::Place;

/// The name that the build context has in the graph.
pub const CONTEXT: &str = "context";
