//! A checkout brought into one shape: the same commit is the same tree, whoever checks it out and when.

use forge_store::RootDir;
use forge_store::rootdir::{Dir, FileKind, Mtime, RootDirError};

/// What git writes down about this very checkout, below a `.git` that is kept.
const OF_THIS_CHECKOUT: [&str; 6] =
    ["logs", "FETCH_HEAD", "ORIG_HEAD", "refs/forge", "branches", "COMMIT_EDITMSG"];

/// Removes what git needed, and gives every file root's ownership, 0755 or 0644, and `mtime` if there is one.
pub fn tidy(root: &RootDir, keep_git_dir: bool, mtime: Option<Mtime>) -> Result<(), RootDirError> {
    if keep_git_dir {
        OF_THIS_CHECKOUT.iter().try_for_each(|path| root.remove(format!(".git/{path}")))?;
    }
    directory(root.dir(), keep_git_dir, mtime)?;
    settle(root.dir(), mtime)
}

fn directory(dir: &Dir, keep_git_dir: bool, mtime: Option<Mtime>) -> Result<(), RootDirError> {
    for entry in dir.read_dir()? {
        let at = dir.at(&entry.name)?;
        // A commit cannot hold such a name: it is git's own, of the repository or of a submodule.
        if entry.name == ".git" && !keep_git_dir {
            at.remove_tree()?;
            continue;
        }
        let stat = at.stat()?;
        match stat.kind {
            FileKind::Directory => {
                let below = at.open_dir()?;
                directory(&below, keep_git_dir, mtime)?;
                settle(&below, mtime)?;
            }
            FileKind::Regular => {
                at.chmod(if stat.mode & 0o100 != 0 { 0o755 } else { 0o644 })?;
                mtime.map_or(Ok(()), |mtime| at.set_mtime(mtime))?;
            }
            _ => mtime.map_or(Ok(()), |mtime| at.set_mtime(mtime))?,
        }
    }
    Ok(())
}

/// A directory, once nothing in it changes any more.
fn settle(dir: &Dir, mtime: Option<Mtime>) -> Result<(), RootDirError> {
    dir.itself().chmod(0o755)?;
    mtime.map_or(Ok(()), |mtime| dir.itself().set_mtime(mtime))
}
