//! Solved snapshots and a configuration become an image; the image becomes what the user asked for.
//!
//! This room knows no Dockerfile syntax and mounts nothing.

pub mod ahead;
mod compare;
mod contents;
mod copy_out;
mod created;
mod edits;
mod error;
mod files;
mod image;
mod import;
mod import_archive;
mod layout;
pub mod load;
mod several;
mod spec;
mod squash;

pub use ahead::{Ahead, Line, Uploads};
pub use compare::{Side, differences};
pub use contents::Contents;
pub use copy_out::{ArchiveKind, Called, copy_to_archive, copy_to_directory};
pub use created::{parse_ns, rfc3339};
pub use edits::{Edits, Field, Unset};
pub use error::ExportError;
pub use files::{DirectoryOptions, Part, write_directory, write_tar};
pub use image::{Image, ImageOptions, assemble};
pub use import::{Wanted, import_layout};
pub use import_archive::import_archive;
pub use layout::{Name, write_docker_archive, write_oci_archive, write_oci_directory};
pub use several::Images;
pub use spec::{Annotation, AnnotationTarget, ImageForm, ImageOutput, Output, OutputError};
pub use squash::Squash;
