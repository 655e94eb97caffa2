//! Every error, sorted once: what kind it is, which exit code that has, and what the user can do.

use std::fmt;

use forge_exporter::ExportError;
use forge_registry::{ErrorKind, RegistryError};
use forge_solver::{TroubleKind, WorldError};
use forge_store::StoreError;

/// The kinds of failure. The codes are documented in `docs/exit-codes.md` and do not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A RUN step failed.
    Command,
    /// Wrong words on the command line.
    Usage,
    /// The Dockerfile or the context is wrong.
    Input,
    /// An image or file that was named is not there.
    NotFound,
    /// A registry refused or could not be reached.
    Registry,
    /// Bytes are not what they claim to be.
    Corrupt,
    /// This machine lacks a permission or a feature.
    Sandbox,
    /// The disk is full.
    DiskFull,
    /// Anything else the operating system refused.
    System,
    /// Something that is locked has moved: `forge outdated`.
    Outdated,
    /// What was built again is not the same: `forge verify`.
    Different,
    /// Stopped by a signal of this number.
    Signal(u8),
    /// A container exited with this code.
    Exit(u8),
}

impl Kind {
    /// The process's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Command => 1,
            Self::Usage => 2,
            Self::Input => 3,
            Self::NotFound => 4,
            Self::Registry => 5,
            Self::Corrupt => 6,
            Self::Sandbox => 7,
            Self::DiskFull => 8,
            Self::System => 9,
            Self::Outdated => 10,
            Self::Different => 11,
            Self::Signal(number) => 128 + number,
            Self::Exit(code) => code,
        }
    }
}

/// A failure, ready to be shown.
#[derive(Debug)]
pub struct Failure {
    /// Its kind.
    pub kind: Kind,
    /// One or more finished reports; each is shown as it is.
    pub reports: Vec<String>,
}

/// What an error of a damaged index says: the next try makes it anew.
const INDEX_HINT: &str = "the next command makes it anew from what is on disk";

impl Failure {
    /// A failure with one line and a next step.
    pub fn new(kind: Kind, message: impl fmt::Display, hint: Option<String>) -> Self {
        let hint = hint.map(|hint| format!("\n  = help: {hint}")).unwrap_or_default();
        Self { kind, reports: vec![format!("error: {message}{hint}")] }
    }

    /// A file of the user's that could not be written.
    pub fn of_output(path: &std::path::Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        let message = format!("cannot write {}: {error}", path.display());
        match error.kind() {
            StorageFull | QuotaExceeded => Self::new(Kind::DiskFull, message, Some("free some space".into())),
            _ => Self::new(Kind::System, message, None),
        }
    }

    /// True for an index that was found damaged.
    pub fn is_of_index(&self) -> bool {
        self.kind == Kind::Corrupt && self.reports.iter().any(|report| report.contains(INDEX_HINT))
    }

    /// A failure that says nothing: the exit code is all there is.
    pub fn silent(kind: Kind) -> Self {
        Self { kind, reports: Vec::new() }
    }
}

/// The first line: what happened, for the step that it ends.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.reports.first().and_then(|report| report.lines().next()).unwrap_or_default();
        f.write_str(first.trim_start_matches("error: "))
    }
}

impl From<TroubleKind> for Kind {
    fn from(kind: TroubleKind) -> Self {
        match kind {
            TroubleKind::Input => Self::Input,
            TroubleKind::NotFound => Self::NotFound,
            TroubleKind::Registry => Self::Registry,
            TroubleKind::Corrupt => Self::Corrupt,
            TroubleKind::Command(_) => Self::Command,
            TroubleKind::Sandbox => Self::Sandbox,
            TroubleKind::DiskFull => Self::DiskFull,
            TroubleKind::System => Self::System,
            TroubleKind::Cancelled => Self::Signal(2),
        }
    }
}

impl From<WorldError> for Failure {
    fn from(error: WorldError) -> Self {
        Self::new(error.kind.into(), &error.message, error.hint)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        world_error_of_store(error).into()
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        world_error_of_registry(error).into()
    }
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Self {
        let full = error.is_disk_full();
        match error {
            ExportError::Store(error) => error.into(),
            ExportError::Unsuitable(detail) => Self::new(Kind::Usage, detail, None),
            error if full => Self::new(Kind::DiskFull, error, Some("free some space".into())),
            error => Self::new(Kind::System, error, None),
        }
    }
}

/// Sorts an error of the store.
pub fn world_error_of_store(error: StoreError) -> WorldError {
    let (full, is_read_only) = (error.is_disk_full(), error.is_read_only());
    let message = error.to_string();
    let (kind, hint) = match error {
        _ if full => (TroubleKind::DiskFull, Some("free some space, or move the store with --root DIR")),
        StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
            (TroubleKind::System, Some("use another store with --root DIR, or FORGE_ROOT"))
        }
        _ if is_read_only => (TroubleKind::System, Some("use another store with --root DIR, or FORGE_ROOT")),
        StoreError::DamagedIndex(_) => (TroubleKind::Corrupt, Some(INDEX_HINT)),
        StoreError::Corrupt { .. } | StoreError::Unpack { .. } => (TroubleKind::Corrupt, None),
        StoreError::MissingBlob(_) | StoreError::MissingLayer(_) => {
            (TroubleKind::NotFound, Some("pull the image again"))
        }
        _ => (TroubleKind::System, None),
    };
    let error = WorldError::new(kind, message);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Sorts an error of a registry.
pub fn world_error_of_registry(error: RegistryError) -> WorldError {
    let kind = match error.kind() {
        ErrorKind::NotFound => TroubleKind::NotFound,
        ErrorKind::Corrupt => TroubleKind::Corrupt,
        ErrorKind::Cancelled => TroubleKind::Cancelled,
        // An address that is never fetched is the Dockerfile's to correct, settings are the user's.
        ErrorKind::Usage | ErrorKind::Settings => TroubleKind::Input,
        _ => TroubleKind::Registry,
    };
    WorldError::new(kind, error.to_string())
}
