//! Credential helpers: programs `docker-credential-NAME` that keep logins
//! (github.com/docker/docker-credential-helpers).
//!
//! A helper is a program of the user's, named by a file that others may have written: its name may hold only
//! `a-z`, `0-9` and `-`, so that it is a name and no path; it gets a time limit and its output a size limit.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::auth_file::key_for;
use crate::limits::{HELPER_BYTES, HELPER_TIME};
use crate::text::{clean, redact};
use crate::{Credential, Secret};

/// The user name that marks a helper's secret as an identity token.
const TOKEN_USER: &str = "<token>";

/// How credential helpers are found and run.
#[derive(Clone, Debug)]
pub struct Helpers {
    /// Directories to look in, as `PATH` lists them.
    pub search: Vec<PathBuf>,
    /// The environment that helpers get, whole.
    pub environment: Vec<(OsString, OsString)>,
    /// How long a helper may take.
    pub timeout: Duration,
}

impl Default for Helpers {
    fn default() -> Self {
        Self { search: Vec::new(), environment: Vec::new(), timeout: HELPER_TIME }
    }
}

/// Why a credential helper gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// Its name could be a path.
    #[error("`{0}` is no name of a credential helper; names have only a-z, 0-9 and `-`")]
    Name(String),
    /// It is not installed.
    #[error(
        "credential helper docker-credential-{0} is not installed; install it, or take it out of the credentials file"
    )]
    Missing(String),
    /// It did not start.
    #[error("cannot run docker-credential-{name}: {cause}")]
    Start {
        /// The helper's name.
        name: String,
        /// What the system said.
        cause: String,
    },
    /// It ran and failed.
    #[error("docker-credential-{name} failed for {registry}: {detail}")]
    Failed {
        /// The helper's name.
        name: String,
        /// What it was asked for.
        registry: String,
        /// What it said, or what is wrong with what it said.
        detail: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

impl Helpers {
    /// Asks a helper for a registry's login; `None` where it has none.
    ///
    /// # Errors
    /// [`HelperError`], where it is not there, or fails, or says what cannot be understood.
    pub async fn get(&self, name: &str, registry: &str) -> Result<Option<Credential>, HelperError> {
        let (ok, output) = self.run(name, "get", registry, key_for(registry).into_bytes()).await?;
        if !ok {
            if output.contains("credentials not found") {
                return Ok(None);
            }
            return Err(failed(name, registry, clean(&output)));
        }
        let answer: Answer = serde_json::from_str(&output).map_err(|_| {
            failed(name, registry, "its answer is not the JSON of the helper protocol".into())
        })?;
        Ok(match answer {
            Answer { secret, .. } if secret.is_empty() => None,
            Answer { username, secret } if username == TOKEN_USER => {
                Some(Credential::Identity(Secret::new(secret)))
            }
            Answer { username, secret } => Some(Credential::basic(username, secret)),
        })
    }

    /// Gives a helper a login to keep.
    ///
    /// # Errors
    /// As [`Helpers::get`].
    pub async fn store(
        &self,
        name: &str,
        registry: &str,
        credential: &Credential,
    ) -> Result<(), HelperError> {
        let username = match credential {
            Credential::Basic { username, .. } => username,
            Credential::Identity(_) | Credential::Bearer(_) => TOKEN_USER,
        };
        let request = serde_json::json!({
            "ServerURL": key_for(registry), "Username": username, "Secret": credential.secret(),
        });
        let (ok, output) = self.run(name, "store", registry, request.to_string().into_bytes()).await?;
        let detail = || clean(&redact(&output, &[credential.secret()]));
        if ok { Ok(()) } else { Err(failed(name, registry, detail())) }
    }

    /// Makes a helper forget a login.
    ///
    /// # Errors
    /// As [`Helpers::get`].
    pub async fn erase(&self, name: &str, registry: &str) -> Result<(), HelperError> {
        let (ok, output) = self.run(name, "erase", registry, key_for(registry).into_bytes()).await?;
        if ok || output.contains("credentials not found") {
            return Ok(());
        }
        Err(failed(name, registry, clean(&output)))
    }

    /// Runs one helper command; says whether it succeeded and what it wrote.
    async fn run(
        &self,
        name: &str,
        verb: &str,
        registry: &str,
        input: Vec<u8>,
    ) -> Result<(bool, String), HelperError> {
        let mut child = self.start(name, verb)?;
        match tokio::time::timeout(self.timeout, converse(&mut child, &input)).await {
            Ok(Ok(Some(answer))) => Ok(answer),
            Ok(Ok(None)) => Err(failed(name, registry, format!("it wrote more than {HELPER_BYTES} bytes"))),
            Ok(Err(e)) => Err(failed(name, registry, e.to_string())),
            Err(_) => {
                Err(failed(name, registry, format!("it did not answer within {} s", self.timeout.as_secs())))
            }
        }
    }

    fn start(&self, name: &str, verb: &str) -> Result<Child, HelperError> {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        {
            return Err(HelperError::Name(clean(name)));
        }
        let file = format!("docker-credential-{name}");
        let found = self
            .search
            .iter()
            .filter(|dir| dir.is_absolute())
            .map(|dir| dir.join(&file))
            .find(|p| p.is_file());
        let program = found.ok_or_else(|| HelperError::Missing(name.to_owned()))?;
        Command::new(program)
            .arg(verb)
            .env_clear()
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| HelperError::Start { name: name.to_owned(), cause: e.to_string() })
    }
}

fn failed(name: &str, registry: &str, detail: String) -> HelperError {
    HelperError::Failed { name: name.to_owned(), registry: registry.to_owned(), detail }
}

/// Sends the request and reads the answer; `None` where that is too long.
async fn converse(child: &mut Child, input: &[u8]) -> std::io::Result<Option<(bool, String)>> {
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that knows its answer before it read the question closes the pipe: not an error.
        let _ = stdin.write_all(input).await;
    }
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(HELPER_BYTES + 1).read_to_end(&mut output).await?;
    }
    if output.len() as u64 > HELPER_BYTES {
        return Ok(None);
    }
    let status = child.wait().await?;
    Ok(Some((status.success(), String::from_utf8_lossy(&output).into_owned())))
}
