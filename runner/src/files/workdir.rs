//! WORKDIR: a directory and its parents, made where missing.

use std::path::Path;

use forge_solver::op::WorkdirOp;
use forge_store::Draft;
use forge_store::rootdir::NewDir;
use forge_store::tree::OverlayXattrs;

use super::error::FilesError;
use super::owner::lookup_owner;
use super::upper::Upper;
use super::view::TreeView;

/// Fills a draft with the directory that WORKDIR asks for; what is there already is left as it is.
pub fn make_workdir(
    op: &WorkdirOp,
    below: &dyn TreeView,
    draft: &Draft,
    marks: OverlayXattrs,
) -> Result<(), FilesError> {
    let owner = match op.user.as_str() {
        "" => (0, 0),
        user => lookup_owner(below, user)?,
    };
    let upper = Upper::new(draft, below, marks)?;
    let path = upper.resolve(Path::new(&op.path))?;
    if upper.stat(&path)?.is_none() {
        upper.dir(&path, NewDir { mode: 0o755, owner: Some(owner) })?;
    } else if upper.stat(&path)?.is_some_and(|stat| stat.kind != forge_store::rootdir::FileKind::Directory) {
        return Err(FilesError::DirectoryOverFile(Path::new("/").join(path)));
    }
    upper.finish()
}
