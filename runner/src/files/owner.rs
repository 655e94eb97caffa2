//! `--chown` and the owner of what WORKDIR makes: names are looked up in the destination's own files.

use std::io::Read;
use std::path::Path;

use forge_store::rootdir::FileKind;

use super::error::{At, FilesError};
use super::view::{TreeView, resolve};
use crate::user::{Ids, resolve_user};

/// The most of `/etc/passwd` and `/etc/group` that is read, in bytes.
const MOST_BYTES: u64 = 8 << 20;

/// The ids that `user[:group]` names in a tree.
///
/// # Errors
/// [`FilesError::Owner`] for names that the tree's `/etc/passwd` and `/etc/group` do not hold. BuildKit takes
/// 0 then, which gives files to root that were meant for somebody else.
pub fn lookup_owner(view: &dyn TreeView, spec: &str) -> Result<Ids, FilesError> {
    let passwd = read_small(view, Path::new("etc/passwd"))?;
    let group = read_small(view, Path::new("etc/group"))?;
    resolve_user(spec, &passwd, &group).map_err(|error| FilesError::Owner(error.to_string()))
}

/// A regular file's bytes; none if there is no such file.
fn read_small(view: &dyn TreeView, path: &Path) -> Result<Vec<u8>, FilesError> {
    let resolved = resolve(view, path, true)?;
    match view.stat(&resolved)? {
        Some(stat) if stat.kind == FileKind::Regular => {
            let (file, _) = view.open(&resolved)?;
            let mut bytes = Vec::new();
            file.take(MOST_BYTES + 1).read_to_end(&mut bytes).at("read", path)?;
            if bytes.len() as u64 > MOST_BYTES {
                return Err(FilesError::Owner(format!(
                    "/{} is larger than {MOST_BYTES} bytes",
                    path.display()
                )));
            }
            Ok(bytes)
        }
        Some(_) => Err(FilesError::Owner(format!("/{} is not a regular file", path.display()))),
        None => Ok(Vec::new()),
    }
}
