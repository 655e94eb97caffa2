//! The pattern languages of a [`crate::op::Selection`], for whoever carries one out.

pub use forge_parser::Chmod;
pub use forge_parser::glob::{Component, components, has_meta};
pub use forge_parser::ignore::{IgnoreDirectory, IgnorePatterns};
