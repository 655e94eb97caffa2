//! `forge info`: versions, paths and limits.

use super::{Session, print};
use crate::failure::Failure;

/// Prints them.
pub fn info(session: &Session) -> Result<(), Failure> {
    print(&format!("version      {}", env!("CARGO_PKG_VERSION")))?;
    print(&format!("store        {}", session.root_dir()?.display()))?;
    print(&format!("platform     {}", forge_store::Platform::host()))?;
    let rights =
        if session.identity.is_machine_root { "root" } else { "an ordinary user, by a user namespace" };
    print(&format!("builds as    {rights}"))
}
