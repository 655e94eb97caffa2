//! This room's errors as the solver's.

use std::io;

use forge_solver::{TroubleKind, WorldError};
use forge_store::StoreError;

use crate::files::FilesError;

/// Sorts an error of files that are selected, hashed or copied.
pub fn of_files(error: FilesError) -> WorldError {
    let message = error.to_string();
    match error {
        FilesError::NotFound { ignored: true, .. } => WorldError::new(TroubleKind::Input, message)
            .hint("the file is there, but the ignore file (.dockerignore) excludes it"),
        FilesError::NotFound { .. } => WorldError::new(TroubleKind::Input, message).hint(
            "sources are looked up in the build context, not in the Dockerfile's directory or the host",
        ),
        FilesError::Io { source, .. } if is_full(&source) => full(message),
        FilesError::RootDir(inner) if inner.errno().is_some_and(|errno| is_full(&errno.into())) => {
            full(message)
        }
        FilesError::Store(inner) => of_store(inner),
        FilesError::Io { .. } | FilesError::RootDir(_) => WorldError::new(TroubleKind::System, message),
        FilesError::Owner(_) => WorldError::new(TroubleKind::Input, message)
            .hint("create the user in an earlier RUN step, or give a number"),
        FilesError::Changed(_) => WorldError::new(TroubleKind::Input, message)
            .hint("build again once nothing writes to the context any more"),
        _ => WorldError::new(TroubleKind::Input, message),
    }
}

/// Any error of starting a sandbox: this machine lacks something.
pub fn of_sandbox(error: impl std::fmt::Display) -> WorldError {
    WorldError::new(TroubleKind::Sandbox, format!("cannot start a sandbox: {error}"))
}

/// Sorts an error of the store.
pub fn of_store(error: StoreError) -> WorldError {
    let message = error.to_string();
    match error {
        error if error.is_disk_full() => full(message),
        StoreError::Corrupt { .. } | StoreError::Unpack { .. } => {
            WorldError::new(TroubleKind::Corrupt, message)
        }
        StoreError::MissingBlob(_) | StoreError::MissingLayer(_) => {
            WorldError::new(TroubleKind::NotFound, message)
        }
        _ => WorldError::new(TroubleKind::System, message),
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn full(message: String) -> WorldError {
    WorldError::new(TroubleKind::DiskFull, message).hint("free some space, or move the store with --root DIR")
}
