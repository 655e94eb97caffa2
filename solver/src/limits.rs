//! The bounds of this room, in one place: past one of them there is one clear error.

/// What all words of a Dockerfile expand to, together, in bytes.
pub const EXPANDED_BYTES_MAX: usize = forge_parser::limits::MAX_EXPANSION_TOTAL_BYTES;

/// What stages and steps carry along of it, in bytes: history, environments, what a stage takes over from its base.
pub const CARRIED_BYTES_MAX: usize = 64 << 20;

/// Bytes of one name in a path, as every file system of Linux takes them (`NAME_MAX`).
pub const NAME_BYTES_MAX: usize = 255;

/// Bytes of a path, as the kernel takes them (`PATH_MAX` less its NUL).
pub const PATH_BYTES_MAX: usize = 4095;

/// Variables in the environment of one stage.
pub const VARIABLES_MAX: usize = 10_000;

/// Remote sources of one Dockerfile: each is asked for.
pub const REMOTES_MAX: usize = 1_000;

/// Warnings that are kept of one Dockerfile.
pub const WARNINGS_MAX: usize = forge_parser::limits::MAX_PROBLEMS;

/// Problems that are told of one Dockerfile.
pub const PROBLEMS_MAX: usize = forge_parser::limits::MAX_PROBLEMS;
