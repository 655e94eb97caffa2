//! This room's errors as the solver's.

use std::io;

use forge_solver::{TroubleKind, WorldError};
use forge_store::StoreError;

use crate::cgroup::CgroupError;
use crate::files::FilesError;
use crate::zygote::ZygoteError;
use crate::{Failure, Phase};

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

/// A limit that cannot be kept here.
pub fn of_cgroup(error: &CgroupError) -> WorldError {
    let trouble = of_sandbox(error);
    match error.remedy() {
        "" => trouble,
        remedy => trouble.hint(remedy),
    }
}

/// A program that did not start: wrong words are the user's to correct, all else is the machine's.
///
/// The code of a program that is missing or cannot be executed is that of shells: 127 or 126.
pub fn of_start(failure: &Failure) -> WorldError {
    let code = if failure.errno == libc::ENOENT { 127 } else { 126 };
    match failure.phase {
        Phase::Exec => WorldError::new(TroubleKind::Command(code), failure.to_string())
            .hint("is the program in the image, built for this platform, and executable?"),
        Phase::WorkingDirectory => WorldError::new(TroubleKind::Input, failure.to_string())
            .hint("the working directory must be a directory of the image"),
        Phase::Namespaces if failure.errno == libc::EPERM => of_sandbox(failure)
            .hint("namespaces need CAP_SYS_ADMIN: run forge as root with it, or as an ordinary user"),
        // errno 0: the files could be read, and there is no such user in them.
        Phase::User if failure.errno == 0 => WorldError::new(TroubleKind::Input, failure.object.clone())
            .hint("create the user in an earlier RUN step, or give a number"),
        Phase::User => WorldError::new(TroubleKind::Input, failure.to_string())
            .hint("/etc/passwd and /etc/group of the image must be ordinary files"),
        _ => of_sandbox(failure),
    }
}

/// A sandbox that the zygote could not make.
pub fn of_zygote(error: ZygoteError) -> WorldError {
    match error {
        ZygoteError::Sandbox(failure) => of_start(&failure),
        other => of_sandbox(other),
    }
}

/// Sorts an error of the store.
pub fn of_store(error: StoreError) -> WorldError {
    let message = error.to_string();
    match error {
        error if error.is_disk_full() => full(message),
        StoreError::Corrupt { .. } | StoreError::Unpack { .. } => {
            WorldError::new(TroubleKind::Corrupt, message)
        }
        StoreError::Changed(_) => WorldError::new(TroubleKind::Input, message)
            .hint("build again once nothing writes to the context any more"),
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
