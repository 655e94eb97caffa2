//! `forge info`: versions, paths and limits.

use forge_store::gc::{Disk, Limits};

use super::{Session, print};
use crate::disk_flags::Info;
use crate::failure::Failure;
use crate::limits;
use crate::size::human;

/// Prints them.
pub fn info(session: &Session, args: &Info) -> Result<(), Failure> {
    let root = session.root_dir()?;
    print(&format!("version      {}", env!("CARGO_PKG_VERSION")))?;
    print(&format!("store        {}", root.display()))?;
    print(&format!("platform     {}", forge_store::Platform::host()))?;
    let rights =
        if session.identity.is_machine_root { "root" } else { "an ordinary user, by a user namespace" };
    print(&format!("builds as    {rights}"))?;
    // The store may not be there yet; its disk is that of the nearest directory.
    let there = root.ancestors().find(|dir| dir.is_dir()).unwrap_or(&root);
    let limits = args.gc.limits()?.or(Limits::of_disk(Disk::of(there)?));
    let size = |bytes: Option<u64>| human(bytes.unwrap_or(0));
    let (reserved, used, free) = (size(limits.reserved), size(limits.max_used), size(limits.min_free));
    let when = if args.gc.gc { "after builds" } else { "off" };
    print(&format!("collection   {when}: reserved {reserved}, at most {used} used, {free} kept free"))?;
    print("limits, past which there is one clear error:")?;
    bounds().iter().try_for_each(|(what, bound)| print(&format!("  {what:<44} {bound}")))
}

/// What users meet of the rooms' `limits.rs`.
fn bounds() -> Vec<(&'static str, String)> {
    use forge_parser::limits as language;
    use forge_registry::limits as registry;
    use forge_store::limits as store;
    let size = |bytes: u64| human_binary(bytes);
    let of = |bytes: usize| human_binary(bytes as u64);
    vec![
        ("Dockerfile", of(language::MAX_FILE_BYTES)),
        ("line of a Dockerfile", of(language::MAX_LINE_BYTES)),
        ("instructions in a Dockerfile", language::MAX_INSTRUCTIONS.to_string()),
        ("one word, expanded", of(language::MAX_EXPANSION_BYTES)),
        ("all words of a Dockerfile, expanded", of(language::MAX_EXPANSION_TOTAL_BYTES)),
        ("depth of ${…} in ${…}", language::MAX_EXPANSION_DEPTH.to_string()),
        ("patterns in an ignore file", language::MAX_IGNORE_PATTERNS.to_string()),
        ("context as a tar, packed", size(limits::CONTEXT_PACKED_BYTES_MAX)),
        ("context as a tar, unpacked", size(limits::CONTEXT_UNPACKED_BYTES_MAX)),
        ("secret", size(forge_runner::secrets::SECRET_BYTES_MAX)),
        ("processes and threads of a step", forge_runner::spec::DEFAULT_PIDS_MAX.to_string()),
        ("/dev/shm of a step", size(forge_runner::spec::DEFAULT_SHM_SIZE_BYTES)),
        ("manifest or configuration", size(registry::MANIFEST_BYTES)),
        ("layers in an image", registry::LAYERS.to_string()),
        ("depth of indexes", registry::INDEX_DEPTH.to_string()),
        ("redirects of one request", registry::REDIRECTS.to_string()),
        ("layer, unpacked", size(store::UNPACKED_BYTES_MAX)),
        ("files in a layer", store::ARCHIVE_ENTRIES_MAX.to_string()),
        ("window of a zstd layer", size(1 << store::ZSTD_WINDOW_LOG_MAX)),
        ("extended header of a layer's entry", size(store::EXTENDED_HEADER_BYTES_MAX)),
    ]
}

/// Bounds are powers of two: shown as such.
fn human_binary(bytes: u64) -> String {
    match bytes {
        _ if bytes.is_multiple_of(1 << 30) => format!("{} GiB", bytes >> 30),
        _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ => format!("{} KiB", bytes >> 10),
    }
}
