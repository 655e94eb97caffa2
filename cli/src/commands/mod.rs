//! The commands, one file each.

pub mod build;
pub mod copy;
pub mod doctor;
pub mod du;
pub mod explain;
pub mod images;
pub mod info;
pub mod inspect;
pub mod login;
pub mod logs;
pub mod outdated;
pub mod prune;
pub mod pull;
pub mod push;
pub mod replay;
pub mod rmi;
pub mod run;
pub mod shell;
pub mod store;
pub mod tag;
pub mod verify;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use forge_store::Store;
use forge_store::tree::OverlayXattrs;

use crate::environment;
use crate::failure::{Failure, Kind};
use crate::identity::Identity;

/// What every command gets.
pub struct Session {
    /// `--root`.
    pub root: Option<PathBuf>,
    /// What forge may do on this machine.
    pub identity: Identity,
}

impl Session {
    /// The store's directory, absolute: sandboxes mount layers from other working directories.
    pub fn root_dir(&self) -> Result<PathBuf, Failure> {
        let dir =
            self.root.clone().map_or_else(|| environment::default_root(self.identity.is_machine_root), Ok)?;
        std::path::absolute(&dir).map_err(|error| {
            Failure::new(
                Kind::Usage,
                format!("find the directory of --root {}: {error}", dir.display()),
                None,
            )
        })
    }

    /// Opens the store.
    pub fn store(&self) -> Result<Store, Failure> {
        open(&self.root_dir()?, self.identity.marks[0])
    }

    /// Opens the store for reading its trees, whatever isolation they were made for.
    pub fn store_as_it_is(&self) -> Result<Store, Failure> {
        let store = self.store()?;
        match store.tree_marks()? {
            kept if kept == self.identity.marks[0] => Ok(store),
            kept => open(store.root(), kept),
        }
    }

    /// Opens the store for steps: the trees in it must be of a kind that this isolation can use.
    pub fn store_for_steps(&self) -> Result<Store, Failure> {
        let (dir, usable) = (self.root_dir()?, self.identity.marks);
        let fresh = if takes_whiteouts(&dir) { usable[0] } else { *usable.last().unwrap_or(&usable[0]) };
        let store = open(&dir, fresh)?;
        let kept = store.tree_marks()?;
        if kept == fresh {
            return Ok(store);
        }
        if usable.contains(&kept) {
            return open(&dir, kept);
        }
        let message = format!(
            "the layers in {} were unpacked for {}, and isolation `{}` needs them for {}",
            dir.display(),
            describe(kept),
            self.identity.isolation.rung,
            describe(fresh),
        );
        Err(Failure::new(
            Kind::Sandbox,
            message,
            Some("use another store with --root DIR, or the isolation that this one was made with".into()),
        ))
    }

    /// What steps need to know of this machine.
    pub fn runtime_dir(&self) -> PathBuf {
        environment::runtime_dir(self.identity.is_machine_root)
    }
}

/// Opens a store, and says so if its index had to be made anew.
fn open(dir: &Path, marks: OverlayXattrs) -> Result<Store, Failure> {
    let store = Store::open(dir, marks)?;
    if let Some(recovered) = store.recovered() {
        store::say_recovered(recovered);
    }
    Ok(store)
}

/// Whether a store's directory is on a file system that knows whiteouts; they are what root's marks need. Asked of a new
/// store only.
fn takes_whiteouts(dir: &Path) -> bool {
    use std::os::unix::fs::DirBuilderExt;
    let make = || std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    if dir.join("state/marks").exists() || make().is_err() {
        return true;
    }
    forge_store::tree::takes_whiteouts(dir)
}

/// For whom trees of a kind are.
fn describe(marks: OverlayXattrs) -> &'static str {
    match marks {
        OverlayXattrs::Trusted => "root",
        OverlayXattrs::User => "a user namespace with many ids (or root without CAP_SYS_ADMIN)",
        OverlayXattrs::Single => "a single user id",
    }
}

/// Writes a result to standard output.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written =
        out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
    match written {
        // Whoever read our output went away; that is theirs to judge.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other
            .map_err(|e| Failure::new(Kind::System, format!("cannot write to standard output: {e}"), None)),
    }
}
