//! What this room refuses to exceed, in one place. Each limit stops a hostile archive from costing much more than
//! its own bytes; none is in the way of an image that somebody uses.

/// Bytes of one extended header: a PAX `x` or `g` header, a GNU long name or link, a PAX 1.0 sparse map.
pub const EXTENDED_HEADER_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes of a path or of a link's target, as the kernel limits them (`PATH_MAX` less its NUL).
pub const PATH_BYTES_MAX: usize = 4095;
/// Bytes of one component of a path (`NAME_MAX`).
pub const NAME_BYTES_MAX: usize = 255;
/// Bytes of one extended attribute's value (xattr(7)).
pub const XATTR_BYTES_MAX: usize = 64 * 1024;
/// Bytes of all extended attributes of one file, names and values.
pub const XATTRS_BYTES_MAX: usize = 1024 * 1024;
/// Data segments of one sparse file.
pub const SPARSE_SEGMENTS_MAX: usize = 256 * 1024;
/// Files and directories that one archive may make, implied parents counted.
pub const ARCHIVE_ENTRIES_MAX: u64 = 10_000_000;
/// Bytes that one archive may unpack to: the uncompressed stream, and the sum of its files' sizes, holes counted.
pub const UNPACKED_BYTES_MAX: u64 = 64 * 1024 * 1024 * 1024;
/// Bytes of directories' paths that are remembered until the end of an archive, for their times and modes.
pub const DIRECTORY_PATHS_BYTES_MAX: usize = 256 * 1024 * 1024;
/// The largest window, as a power of two, that a zstd frame may ask for: 128 MiB, the zstd tool's own default.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// Compressed bytes of one block that is remembered; the largest that is made has little over two megabytes.
pub const BLOCK_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of memory that an xz stream may ask for; `xz -9` needs 65 MiB.
pub const XZ_MEMORY_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Bytes that unpacking leaves free on the store's file system: at least so many,
pub const FREE_BYTES_RESERVED_MIN: u64 = 1024 * 1024 * 1024;
/// at least so many hundredths of it,
pub const FREE_PERCENT_RESERVED: u64 = 5;
/// and at most this part of it: a small file system is one that somebody chose for a small store.
pub const FREE_RESERVED_OF_SMALL_DISKS: u64 = 16;

/// Bytes of a blob that is looked at to see whether it is a manifest.
pub const DOCUMENT_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How deep indexes of images may lie in each other.
pub const DOCUMENTS_DEPTH_MAX: u32 = 8;

/// Seconds after which things that nobody used may go by themselves; before, they count as in recent use.
pub const RECENT_SECONDS: i64 = 48 * 60 * 60;
/// Seconds after which what nobody used goes although there is space.
pub const STALE_SECONDS: i64 = 60 * 24 * 60 * 60;
/// Bytes of cache mounts and context hashes from which on those not in recent use go.
pub const VOLATILE_BYTES_MAX: u64 = 512 * 1000 * 1000;
/// The part of the disk, in percent, and the most bytes that the store may always keep.
pub const RESERVED: (u64, u64) = (10, 10_000_000_000);
/// The part of the disk, in percent, and the most bytes that the store may take.
pub const USED_MAX: (u64, u64) = (80, 100_000_000_000);
/// The part of the disk, in percent, that is to stay free.
pub const FREE_MIN_PERCENT: u64 = 20;
/// Seconds between two looks at the store after builds, as long as its size is within the limit.
pub const COLLECT_INTERVAL_SECONDS: i64 = 60;
/// Bytes put by, so that there is room to write down what is removed when the disk is full.
pub const BALLAST_BYTES: u64 = 4 * 1024 * 1024;
