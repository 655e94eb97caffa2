//! Every bound of this room, in one place. What is past a bound is an error that names it.

use std::time::Duration;

/// The largest manifest or index, in bytes. Registries must take 4 MiB; nothing honest is larger than this.
pub const MANIFEST_BYTES: u64 = 16 << 20;
/// The largest image configuration, in bytes.
pub const CONFIG_BYTES: u64 = 16 << 20;
/// The most bytes that all documents of an index may have together.
pub const DOCUMENTS_BYTES: u64 = 256 << 20;
/// The largest answer of a token server or list of tags, in bytes.
pub const ANSWER_BYTES: u64 = 1 << 20;
/// How much of an error's body is read, in bytes.
pub const ERROR_BODY_BYTES: u64 = 64 << 10;
/// How deep indexes may nest.
pub const INDEX_DEPTH: usize = 8;
/// The most descriptors in one index.
pub const INDEX_ENTRIES: usize = 10_000;
/// The most layers in one image.
pub const LAYERS: usize = 500;
/// The most redirects followed for one request.
pub const REDIRECTS: usize = 10;
/// The most challenges read from one 401 answer.
pub const CHALLENGES: usize = 16;
/// The most bytes of challenges read from one 401 answer.
pub const CHALLENGE_BYTES: usize = 16 << 10;
/// The most pages of tags fetched.
pub const TAG_PAGES: usize = 1_000;
/// The most bytes read from a credential helper.
pub const HELPER_BYTES: u64 = 64 << 10;
/// How long a credential helper may take.
pub const HELPER_TIME: Duration = Duration::from_secs(30);
/// The largest credentials file, in bytes.
pub const AUTH_FILE_BYTES: u64 = 16 << 20;
/// The longest repository path, in characters (distribution's `RepositoryNameTotalLengthMax`).
pub const REPOSITORY_CHARS: usize = 255;
/// The longest tag, in characters.
pub const TAG_CHARS: usize = 128;
/// A body must bring this many bytes in each idle period, or it counts as stalled.
pub const MIN_BYTES_PER_IDLE_PERIOD: u64 = 16 << 10;
/// How fast a registry is expected to hash and move a blob that was uploaded, at the least, in bytes a second.
pub const COMMITTED_PER_SECOND: u64 = 16 << 20;
/// A download that got this many bytes further has earned a fresh set of tries.
pub const PROGRESS_BYTES: u64 = 4 << 20;
/// The most bytes of a file at a URL: as many as an archive may unpack to.
pub const DOWNLOAD_BYTES: u64 = 64 << 30;
/// A blob that is still being packed is sent once so much of it is there, and then in parts of no less.
pub const GROWN_BYTES_MIN: u64 = 4 << 20;
/// How long a part that is under way may take to its end once its upload is given up.
pub const PART_TIME: Duration = Duration::from_millis(500);
/// How long a registry may take to give an upload up.
pub const GIVE_UP_TIME: Duration = Duration::from_secs(1);
/// The largest settings file, in bytes.
pub const SETTINGS_BYTES: u64 = 1 << 20;
