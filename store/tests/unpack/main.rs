//! Reading and unpacking archives of strangers: what must not happen, and what must still work.
//!
//! Needs root, or a user namespace where one is root: owners and device nodes are part of what is checked.

mod archive;
mod corpus;
mod differential;
#[path = "../judges/mod.rs"]
mod judges;
mod random;
