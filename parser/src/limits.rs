//! The bounds of this room, in one place: past one of them there is one clear error, never a crash.

/// A Dockerfile's size in bytes.
pub const MAX_FILE_BYTES: usize = 16 << 20;

/// One physical line, and one logical line after its continuations were joined. BuildKit stops at 65,535.
pub const MAX_LINE_BYTES: usize = 1 << 20;

/// Instructions in one file.
pub const MAX_INSTRUCTIONS: usize = 10_000;

/// Words that all instructions together are split into: pairs, paths, ports, flags, elements of JSON arrays. What
/// goes to a shell as it is does not count.
pub const MAX_WORDS: usize = 250_000;

/// Problems reported for one file; what is wrong beyond them shows once these are mended.
pub const MAX_PROBLEMS: usize = 1_000;

/// What one word may become when its variables are expanded.
pub const MAX_EXPANSION_BYTES: usize = 1 << 20;

/// All words of one build together, for whoever adds them up.
pub const MAX_EXPANSION_TOTAL_BYTES: usize = 16 << 20;

/// `${…}` inside `${…}`.
pub const MAX_EXPANSION_DEPTH: usize = 100;

/// Steps of matching one `${v#pattern}` or `${v/pattern/…}` against its value.
pub const MAX_PATTERN_STEPS: u64 = 1 << 26;

/// An ignore file's size in bytes.
pub const MAX_IGNORE_FILE_BYTES: usize = 16 << 20;

/// Patterns in one ignore file.
pub const MAX_IGNORE_PATTERNS: usize = 200_000;
