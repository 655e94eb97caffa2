//! The commands, one file each.

pub mod build;
pub mod doctor;
pub mod explain;
pub mod images;
pub mod info;
pub mod inspect;
pub mod login;
pub mod outdated;
pub mod pull;
pub mod push;
pub mod rmi;
pub mod run;
pub mod tag;

use std::io::{self, Write};
use std::path::PathBuf;

use forge_store::Store;
use forge_store::tree::OverlayXattrs;

use crate::environment;
use crate::failure::{Failure, Kind};

/// What every command gets.
pub struct Session {
    /// `--root`.
    pub root: Option<PathBuf>,
    /// Whether forge is root of the machine.
    pub is_machine_root: bool,
}

impl Session {
    /// The store's directory, absolute: sandboxes mount layers from other working directories.
    pub fn root_dir(&self) -> Result<PathBuf, Failure> {
        let dir = self.root.clone().map_or_else(|| environment::default_root(self.is_machine_root), Ok)?;
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
        let xattrs = if self.is_machine_root { OverlayXattrs::Trusted } else { OverlayXattrs::User };
        Ok(Store::open(&self.root_dir()?, xattrs)?)
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
