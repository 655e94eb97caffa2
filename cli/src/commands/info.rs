//! `forge info`: versions, paths and limits.

use forge_store::gc::{Disk, Limits};

use super::{Session, print};
use crate::disk_flags::Info;
use crate::failure::Failure;
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
    print(&format!("collection   {when}: reserved {reserved}, at most {used} used, {free} kept free"))
}
