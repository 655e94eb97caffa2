//! Solved snapshots and a configuration become an image; the image becomes what the user asked for.
//!
//! This room knows no Dockerfile syntax and mounts nothing.

mod compare;
mod created;
mod edits;
mod error;
mod files;
mod image;
mod import;
mod layout;
mod several;
mod spec;
mod squash;

pub use compare::{Side, differences};
pub use created::{parse_ns, rfc3339};
pub use edits::{Edits, Field, Unset};
pub use error::ExportError;
pub use files::{DirectoryOptions, Part, write_directory, write_tar};
pub use image::{Image, ImageOptions, assemble};
pub use import::{Wanted, import_layout};
pub use layout::{Name, write_docker_archive, write_oci_archive, write_oci_directory};
pub use several::Images;
pub use spec::{Annotation, AnnotationTarget, ImageForm, ImageOutput, Output, OutputError};
pub use squash::Squash;
