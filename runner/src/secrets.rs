//! Secrets and ssh agents that steps may ask for: read when a step that wants them starts, never kept.
//!
//! A secret's bytes go to the sandbox in memory and onto a tmpfs there; they are in no layer, key, record or log.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use forge_solver::{TroubleKind, WorldError};

/// The most that a secret may have, in bytes (BuildKit's `MaxSecretSize`).
pub const SECRET_BYTES_MAX: u64 = 500 << 10;

/// Where a secret comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A file of this machine.
    File(PathBuf),
    /// The value of a variable, taken by the command line.
    Value(Vec<u8>),
}

/// Never the value.
impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Value(_) => f.write_str("Value(…)"),
        }
    }
}

/// What `--secret` and `--ssh` gave, by id.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// `--secret`.
    pub secrets: BTreeMap<String, SecretSource>,
    /// `--ssh`: the agents' sockets.
    pub agents: BTreeMap<String, PathBuf>,
}

impl Secrets {
    /// A secret's bytes; `None` if nobody gave one of that id.
    pub fn read(&self, id: &str) -> Result<Option<Vec<u8>>, WorldError> {
        let bytes = match self.secrets.get(id) {
            None => return Ok(None),
            Some(SecretSource::Value(value)) => value.clone(),
            Some(SecretSource::File(path)) => {
                let fail = |e: std::io::Error| {
                    WorldError::new(
                        TroubleKind::Input,
                        format!("cannot read secret {id} from {}: {e}", path.display()),
                    )
                };
                let mut bytes = Vec::new();
                File::open(path)
                    .map_err(fail)?
                    .take(SECRET_BYTES_MAX + 1)
                    .read_to_end(&mut bytes)
                    .map_err(fail)?;
                bytes
            }
        };
        if bytes.len() as u64 > SECRET_BYTES_MAX {
            let message = format!("secret {id} is larger than {SECRET_BYTES_MAX} bytes");
            return Err(WorldError::new(TroubleKind::Input, message));
        }
        Ok(Some(bytes))
    }
}
