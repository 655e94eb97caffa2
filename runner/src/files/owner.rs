//! `--chown` and the owner of what WORKDIR makes: names are looked up in the destination's own files.

use std::io::Read;
use std::path::Path;

use forge_store::rootdir::FileKind;

use super::error::{At, FilesError};
use super::view::{TreeView, resolve};
use crate::user::{MAX_ID, resolve_user};

/// The most of `/etc/passwd` and `/etc/group` that is read, in bytes.
const MOST_BYTES: u64 = 8 << 20;

/// The user and group id that `user[:group]` names in a tree.
///
/// A number is an id as it stands, and without a group it is the group's, too (unlike USER, which asks the tree's
/// `/etc/passwd` about numbers); the tree's files are read for names only.
///
/// # Errors
/// [`FilesError::Owner`] for names that the tree's `/etc/passwd` and `/etc/group` do not hold. BuildKit takes
/// 0 then, which gives files to root that were meant for somebody else.
pub fn lookup_owner(view: &dyn TreeView, spec: &str) -> Result<(u32, u32), FilesError> {
    let (user, group) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (spec, None),
    };
    match (id(user), group.map(id)) {
        (Some(uid), None) => return Ok((uid, uid)),
        (Some(uid), Some(Some(gid))) => return Ok((uid, gid)),
        _ => {}
    }
    let passwd = read_small(view, Path::new("etc/passwd"))?;
    let groups = read_small(view, Path::new("etc/group"))?;
    let found = resolve_user(spec, &passwd, &groups).map_err(|e| FilesError::Owner(e.to_string()))?;
    let gid = group.and_then(id).unwrap_or(found.gid);
    Ok((id(user).unwrap_or(found.uid), gid))
}

/// A number that is an id.
fn id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|id| digits && *id <= MAX_ID)
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
