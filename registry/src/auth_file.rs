//! Docker's `config.json` and podman's `auth.json`: where logins are kept.
//!
//! Reading takes only what concerns credentials. Writing keeps every other key, goes through a new file of mode
//! 0600 that takes the old one's place in one step, and holds a lock on the directory, so that two logins at
//! once both stay.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

use crate::limits::AUTH_FILE_BYTES;
use crate::reference::DOCKER_HUB;
use crate::{Credential, RegistryError, Secret};

/// Docker Hub's name in credentials files and in the helper protocol.
pub(crate) const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// One credentials file.
#[derive(Clone)]
pub struct AuthFile {
    path: PathBuf,
    mode: u32,
    document: Map<String, Value>,
}

/// Shows the path only.
impl std::fmt::Debug for AuthFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What a file says about a registry.
pub(crate) enum Entry {
    /// This.
    Credential(Credential),
    /// Nothing here, but the registry is known: `{}` stands for "the helper has it".
    Empty,
}

impl AuthFile {
    /// Reads the file at `path`; `None` where there is none.
    ///
    /// # Errors
    /// [`RegistryError::AuthFile`] where it cannot be read or is no JSON object.
    pub fn read(path: &Path) -> Result<Option<Self>, RegistryError> {
        let fail = |detail: String| failure("read", path, detail);
        let file = match File::open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|e| fail(e.to_string()))?,
        };
        let mode = file.metadata().map_err(|e| fail(e.to_string()))?.permissions().mode();
        let mut text = Vec::new();
        file.take(AUTH_FILE_BYTES + 1).read_to_end(&mut text).map_err(|e| fail(e.to_string()))?;
        if text.len() as u64 > AUTH_FILE_BYTES {
            return Err(fail(format!("it is larger than {AUTH_FILE_BYTES} bytes")));
        }
        let mut parsed = Self::parse(path, &text)?;
        parsed.mode = mode;
        Ok(Some(parsed))
    }

    /// Reads the text of a file that is, or will be, at `path`.
    ///
    /// # Errors
    /// [`RegistryError::AuthFile`] where it is no JSON object.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Self, RegistryError> {
        let blank = text.iter().all(u8::is_ascii_whitespace);
        let document = if blank { Ok(Map::new()) } else { serde_json::from_slice(text) };
        // serde's message may quote the file: only the place is told.
        let at = |e: serde_json::Error| format!("it is not JSON (line {}, column {})", e.line(), e.column());
        let document = document.map_err(|e| failure("read", path, at(e)))?;
        Ok(Self { path: path.to_owned(), mode: 0o600, document })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// True if other users may read the file and it holds secrets: worth a warning.
    pub fn is_exposed(&self) -> bool {
        let secrets =
            self.auths().is_some_and(|auths| auths.values().any(|entry| *entry != Value::Object(Map::new())));
        self.mode & 0o044 != 0 && secrets
    }

    /// The helper that keeps this registry's credentials: its own (`credHelpers`), or everyone's (`credsStore`).
    pub fn helper_for(&self, registry: &str) -> Option<&str> {
        let own = self.document.get("credHelpers").and_then(Value::as_object).and_then(|helpers| {
            helpers.iter().find(|(key, _)| normalised(key) == registry).and_then(|(_, name)| name.as_str())
        });
        let all = || self.document.get("credsStore").and_then(Value::as_str);
        own.or_else(all).filter(|name| !name.is_empty())
    }

    /// The registries that the file has entries for.
    pub fn registries(&self) -> Vec<String> {
        self.auths().into_iter().flatten().map(|(key, _)| normalised(key).to_owned()).collect()
    }

    /// The entry for the repository: the longest key that is the registry or a path in it that the repository
    /// is at or below.
    pub(crate) fn entry(&self, registry: &str, path: &str) -> Result<Option<Entry>, RegistryError> {
        let full = format!("{registry}/{path}");
        let covers = |key: &str| {
            key == registry
                || full.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let auths = self.auths().into_iter().flatten();
        let best = auths
            .map(|(key, entry)| (normalised(key), entry))
            .filter(|(key, _)| key.starts_with(registry) && covers(key))
            .max_by_key(|(key, _)| key.len());
        best.map(|(key, entry)| self.read_entry(key, entry)).transpose()
    }

    fn auths(&self) -> Option<&Map<String, Value>> {
        self.document.get("auths").and_then(Value::as_object)
    }

    fn read_entry(&self, key: &str, entry: &Value) -> Result<Entry, RegistryError> {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        if let Some(token) = text("registrytoken") {
            return Ok(Entry::Credential(Credential::Bearer(Secret::new(token))));
        }
        if let Some(token) = text("identitytoken") {
            return Ok(Entry::Credential(Credential::Identity(Secret::new(token))));
        }
        if let Some(auth) = text("auth") {
            let fail = || {
                failure("read", &self.path, format!("its `auth` for {key} is not base64 of user:password"))
            };
            return Ok(Entry::Credential(decode(auth).ok_or_else(fail)?));
        }
        match (text("username"), text("password")) {
            (Some(username), Some(password)) => Ok(Entry::Credential(Credential::basic(username, password))),
            _ => Ok(Entry::Empty),
        }
    }

    /// Keeps a login in the file at `path`, which is made if need be.
    ///
    /// # Errors
    /// [`RegistryError::AuthFile`] where it cannot be read or written.
    pub fn store(path: &Path, registry: &str, credential: &Credential) -> Result<(), RegistryError> {
        Self::update(path, |auths| {
            auths.retain(|key, _| normalised(key) != registry);
            auths.insert(key_for(registry), encode(credential));
            true
        })
        .map(drop)
    }

    /// Removes a login from the file at `path`; says whether there was one.
    ///
    /// # Errors
    /// [`RegistryError::AuthFile`] where it cannot be read or written.
    pub fn erase(path: &Path, registry: &str) -> Result<bool, RegistryError> {
        if !path.exists() {
            return Ok(false);
        }
        Self::update(path, |auths| {
            let before = auths.len();
            auths.retain(|key, _| normalised(key) != registry);
            auths.len() < before
        })
    }

    /// Edits `auths` under the directory's lock; writes if `edit` says that something changed.
    fn update(
        path: &Path,
        edit: impl FnOnce(&mut Map<String, Value>) -> bool,
    ) -> Result<bool, RegistryError> {
        let fail = |e: io::Error| failure("write", path, e.to_string());
        // Where the file is a link, what it points to is replaced, not the link.
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let directory = target.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(directory).map_err(fail)?;
        let lock = File::open(directory).map_err(fail)?;
        lock.lock().map_err(fail)?;
        let mut file = match Self::read(&target)? {
            Some(file) => file,
            None => Self::parse(&target, b"")?,
        };
        let auths = file.document.entry("auths").or_insert_with(|| Value::Object(Map::new()));
        let Some(auths) = auths.as_object_mut() else {
            return Err(failure("write", path, "its `auths` is not an object".into()));
        };
        let changed = edit(auths);
        if changed {
            file.save(directory).map_err(fail)?;
        }
        Ok(changed)
    }

    fn save(&self, directory: &Path) -> io::Result<()> {
        let aside = directory.join(format!(".forge-auth-{}", std::process::id()));
        let _ = fs::remove_file(&aside);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
        let mut text = Vec::new();
        let format = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        serde::Serialize::serialize(
            &self.document,
            &mut serde_json::Serializer::with_formatter(&mut text, format),
        )?;
        text.push(b'\n');
        let written = file
            .write_all(&text)
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&aside, &self.path));
        if written.is_err() {
            let _ = fs::remove_file(&aside);
        }
        written
    }
}

fn failure(verb: &'static str, path: &Path, detail: String) -> RegistryError {
    RegistryError::AuthFile { verb, path: path.to_owned(), detail }
}

/// The key that Docker and podman look under.
pub(crate) fn key_for(registry: &str) -> String {
    if registry == DOCKER_HUB { DOCKER_HUB_KEY.into() } else { registry.into() }
}

/// A key as a reference would write it: without scheme and API version, Docker Hub under its one name.
fn normalised(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    match key {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB,
        other => other,
    }
}

fn decode(auth: &str) -> Option<Credential> {
    let text = String::from_utf8(BASE64.decode(auth.trim()).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    Some(Credential::basic(username, password.trim_matches('\0')))
}

fn encode(credential: &Credential) -> Value {
    match credential {
        Credential::Basic { username, password } => {
            serde_json::json!({ "auth": BASE64.encode(format!("{username}:{}", password.expose())) })
        }
        Credential::Identity(token) => serde_json::json!({ "identitytoken": token.expose() }),
        Credential::Bearer(token) => serde_json::json!({ "registrytoken": token.expose() }),
    }
}
