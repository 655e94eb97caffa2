//! Files that the user named, written whole or not at all.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::failure::Failure;

/// Writes a file aside and renames it; `-` is standard output.
pub fn to_file(
    dest: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let fail = |e: io::Error| Failure::of_output(dest, &e);
    if dest == Path::new("-") {
        let mut out = BufWriter::with_capacity(1 << 20, io::stdout().lock());
        write(&mut out)?;
        return out.flush().map_err(fail);
    }
    let dir = dest.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let aside = tempfile::Builder::new().prefix(".forge-").tempfile_in(dir).map_err(fail)?;
    let mut out = BufWriter::with_capacity(1 << 20, aside);
    write(&mut out)?;
    let aside = out.into_inner().map_err(|e| fail(e.into_error()))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    aside.as_file().set_permissions(mode).map_err(fail)?;
    aside.persist(dest).map_err(|e| fail(e.error)).map(drop)
}
