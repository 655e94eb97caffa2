//! The bounds of this room, in one place: past one of them there is one clear error.

/// A Dockerfile, wherever it is read from, in bytes.
pub const DOCKERFILE_BYTES_MAX: u64 = forge_parser::limits::MAX_FILE_BYTES as u64;

/// An ignore file, in bytes.
pub const IGNORE_FILE_BYTES_MAX: u64 = forge_parser::limits::MAX_IGNORE_FILE_BYTES as u64;

/// A file of build arguments, in bytes.
pub const ARGUMENT_FILE_BYTES_MAX: u64 = 1 << 20;

/// A context on standard input or at a URL, in bytes as they come.
pub const CONTEXT_PACKED_BYTES_MAX: u64 = 16 << 30;

/// What such a context unpacks to, in bytes, holes counted.
pub const CONTEXT_UNPACKED_BYTES_MAX: u64 = 64 << 30;

/// How much of a context's beginning is looked at to tell an archive from a Dockerfile. A block of bzip2 has 900 kB,
/// and the first header of a tar may have attributes of 1 MiB.
pub const CONTEXT_HEAD_BYTES: u64 = 2 << 20;

/// What may follow an archive's end, padding above all, in bytes.
pub const ARCHIVE_TRAILER_BYTES_MAX: u64 = 64 << 20;
