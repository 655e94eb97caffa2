//! What can go wrong with a registry. Every message names the host, the object and what to try.

use std::path::PathBuf;
use std::time::Duration;

use forge_store::{Digest, StoreError};

use crate::ReferenceError;
use crate::helper::HelperError;

/// A failure of pulling, pushing or logging in.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The registry has no such thing.
    #[error("{object} is not at {host}{detail}; check the name and the tag")]
    NotFound {
        /// What was asked for.
        object: String,
        /// Who was asked.
        host: String,
        /// What the registry said, with a leading `: `, or nothing.
        detail: String,
    },
    /// The registry wants a login, or refuses the one it got.
    #[error("{host} refuses {object} without a login that it accepts{detail}; run `forge login {registry}`")]
    Unauthorized {
        /// What was asked for.
        object: String,
        /// Who was asked.
        host: String,
        /// What to log in to.
        registry: String,
        /// Why.
        detail: String,
    },
    /// The login is good, but not for this.
    #[error(
        "{host} denies {object}{detail}; it may not exist, or the login may lack the right to it (`forge login {registry}` takes another)"
    )]
    Denied {
        /// What was asked for.
        object: String,
        /// Who was asked.
        host: String,
        /// What to log in to.
        registry: String,
        /// Why.
        detail: String,
    },
    /// No answer: no name, no route, refused, cut off, or silent for too long.
    #[error(
        "cannot reach {host} for {object}: {cause}; check the name, the network and the proxy, then try again"
    )]
    Unreachable {
        /// What was asked for.
        object: String,
        /// Host and port.
        host: String,
        /// What the network said.
        cause: String,
    },
    /// The TLS handshake failed: the registry could not prove who it is.
    #[error(
        "cannot trust {host} for {object}: {cause}; `--registry-ca FILE` adds a certificate to trust, `--insecure-registry {host}` speaks plain http"
    )]
    Tls {
        /// What was asked for.
        object: String,
        /// Host and port.
        host: String,
        /// What the handshake said.
        cause: String,
    },
    /// The registry wants to see a certificate of ours, or refuses the one it saw.
    #[error(
        "{host} does not let us ask for {object}: {detail}; put NAME.cert and NAME.key into certs.d/{host}, or name them as `client` in hosts.toml"
    )]
    ClientCertificate {
        /// What was asked for.
        object: String,
        /// Host and port.
        host: String,
        /// What the handshake showed.
        detail: String,
    },
    /// Too many requests, still after waiting.
    #[error("{host} limits how often it is asked for {object}{detail}; {}", wait_hint(*wait, registry))]
    RateLimited {
        /// What was asked for.
        object: String,
        /// Who was asked.
        host: String,
        /// What to log in to for a higher limit.
        registry: String,
        /// When the registry wants to be asked again.
        wait: Option<Duration>,
        /// What the registry said.
        detail: String,
    },
    /// The registry failed (HTTP 5xx), still after several tries.
    #[error("{host} failed on {object} with HTTP {status}{detail}; it may work later")]
    Server {
        /// What was asked for.
        object: String,
        /// Who was asked.
        host: String,
        /// The HTTP status.
        status: u16,
        /// What the registry said.
        detail: String,
    },
    /// Bytes that are not what their digest or size says.
    #[error("{host} sent wrong bytes for {object}: {detail}; nothing of it was kept")]
    Corrupt {
        /// What was asked for.
        object: String,
        /// Who sent it.
        host: String,
        /// What was expected and found.
        detail: String,
    },
    /// An answer outside the protocol or outside what forge takes.
    #[error("{host} gave an answer that forge does not take for {object}: {detail}")]
    Protocol {
        /// What was asked for.
        object: String,
        /// Who answered.
        host: String,
        /// What is wrong with the answer.
        detail: String,
    },
    /// No image for the platform.
    #[error("{object} has no image for {wanted}; it has {}", available.join(", "))]
    NoPlatform {
        /// The index.
        object: String,
        /// The platform asked for.
        wanted: String,
        /// The platforms there are.
        available: Vec<String>,
    },
    /// A blob that should be pushed is neither here nor where it came from.
    #[error(
        "cannot push blob {digest} to {target}: it is not in the store, and no registry that had it serves it"
    )]
    MissingBlob {
        /// Which.
        digest: Digest,
        /// Where it should go.
        target: String,
    },
    /// The operation was stopped.
    #[error("{object} was cancelled")]
    Cancelled {
        /// What was under way.
        object: String,
    },
    /// A setting of the client is no good.
    #[error("the settings for {host} are no good: {detail}")]
    Config {
        /// The registry they are for.
        host: String,
        /// What is wrong.
        detail: String,
    },
    /// An image under the digest of another.
    #[error("{target} cannot name an image whose digest is {digest}")]
    OtherDigest {
        /// The name.
        target: String,
        /// The image's digest.
        digest: Digest,
    },
    /// The user's settings forbid this registry.
    #[error("{name} is blocked by {by}; take the setting out to use it")]
    Blocked {
        /// The repository.
        name: String,
        /// The file and the line that say so.
        by: String,
    },
    /// A settings file is no good.
    #[error("cannot use {}{}: {detail}", path.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
    Settings {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: Option<usize>,
        /// What is wrong, and what to write instead.
        detail: String,
    },
    /// A failure that another request met before.
    #[error("{message}")]
    Again {
        /// What it said.
        message: String,
        /// What sort of failure it is.
        kind: ErrorKind,
    },
    /// A file at a URL could not be had.
    #[error("cannot fetch {url}: {detail}")]
    Download {
        /// The address, without credentials.
        url: String,
        /// Why not.
        detail: String,
        /// What sort of failure it is.
        kind: ErrorKind,
    },
    /// A credentials file could not be read or written.
    #[error("cannot {verb} {}: {detail}", path.display())]
    AuthFile {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        detail: String,
    },
    /// A credential helper failed.
    #[error(transparent)]
    Helper(#[from] HelperError),
    /// A name that is none.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn wait_hint(wait: Option<Duration>, registry: &str) -> String {
    match wait {
        Some(wait) => format!("try again in {} s, or `forge login {registry}`", wait.as_secs().max(1)),
        None => format!("try again later, or `forge login {registry}` for a higher limit"),
    }
}

/// What a failure is, for exit codes and for deciding what to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The image, tag, blob or platform is not there.
    NotFound,
    /// A login is needed, or was refused.
    Unauthorized,
    /// The login lacks the right.
    Denied,
    /// The network.
    Unreachable,
    /// TLS.
    Tls,
    /// Too many requests.
    RateLimited,
    /// The registry's own failure.
    Server,
    /// Wrong bytes.
    Corrupt,
    /// An answer that is not taken.
    Protocol,
    /// Stopped.
    Cancelled,
    /// Names on this side.
    Usage,
    /// Settings, credentials files and helpers on this side: the user's to correct.
    Settings,
    /// The store.
    Store,
}

impl RegistryError {
    /// The same failure, told to one more who waited for it.
    pub fn again(&self) -> Self {
        Self::Again { message: self.to_string(), kind: self.kind() }
    }

    /// Which kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } | Self::NoPlatform { .. } | Self::MissingBlob { .. } => ErrorKind::NotFound,
            Self::Unauthorized { .. } => ErrorKind::Unauthorized,
            Self::Denied { .. } => ErrorKind::Denied,
            Self::Unreachable { .. } => ErrorKind::Unreachable,
            Self::Tls { .. } | Self::ClientCertificate { .. } => ErrorKind::Tls,
            Self::RateLimited { .. } => ErrorKind::RateLimited,
            Self::Server { .. } => ErrorKind::Server,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Protocol { .. } => ErrorKind::Protocol,
            Self::Cancelled { .. } => ErrorKind::Cancelled,
            Self::Blocked { .. } => ErrorKind::Denied,
            Self::Config { .. } | Self::Settings { .. } | Self::AuthFile { .. } | Self::Helper(_) => {
                ErrorKind::Settings
            }
            Self::OtherDigest { .. } | Self::Reference(_) => ErrorKind::Usage,
            Self::Download { kind, .. } | Self::Again { kind, .. } => *kind,
            Self::Store(_) => ErrorKind::Store,
        }
    }
}
