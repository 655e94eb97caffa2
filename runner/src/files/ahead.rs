//! Reading a whole tree ahead, on all cores: the walk that follows finds everything at hand.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use forge_store::rootdir::FileKind;

use super::view::TreeView;

/// Fewer directories than this on one level are not worth a thread.
const WORTH_A_THREAD: usize = 8;

/// Lists every directory at and below `path`, level by level. Errors are left to whoever needs the directory.
pub fn read_ahead(view: &dyn TreeView, path: &Path) {
    let mut level = vec![path.to_owned()];
    while !level.is_empty() {
        level = below(view, &level);
    }
}

/// The directories in those of one level.
fn below(view: &dyn TreeView, level: &[PathBuf]) -> Vec<PathBuf> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    let work = || {
        let mut own = Vec::new();
        while let Some(path) = level.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Ok(children) = view.children(path) else { continue };
            let directories = children.iter().filter(|child| child.stat.kind == FileKind::Directory);
            own.extend(directories.map(|child| path.join(&child.name)));
        }
        found.lock().unwrap_or_else(PoisonError::into_inner).append(&mut own);
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        (1..cores.min(level.len() / WORTH_A_THREAD + 1)).for_each(|_| drop(scope.spawn(work)));
        work();
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}
