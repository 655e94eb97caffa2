//! Registries as people have set them up for other programs already: podman's `registries.conf`, containerd's
//! `hosts.toml`, and the certificate directories of Docker, podman and containerd.
//!
//! Where these files are is the caller's to say; nothing here reads the environment. A file that cannot be
//! understood is an error with its line: a mirror or a block that is passed over in silence would send people's
//! images where they were not to go. For one name, `registries.conf` goes before `hosts.toml`.

mod certificates;
mod hosts_toml;
mod registries_conf;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::limits::SETTINGS_BYTES;
use crate::{ClientConfig, HostConfig, RegistryError};

/// Where settings are looked for.
#[derive(Clone, Debug, Default)]
pub struct SettingsFiles {
    /// `registries.conf`, if there is one.
    pub registries_conf: Option<PathBuf>,
    /// Directories with more of them (`*.conf`); what comes later replaces what has the same prefix.
    pub registries_conf_dirs: Vec<PathBuf>,
    /// Directories with a directory for each registry, and `hosts.toml` in it; the first that knows a registry
    /// counts.
    pub hosts_dirs: Vec<PathBuf>,
    /// Directories with a directory for each host, and `*.crt`, `*.cert` and `*.key` in it.
    pub certificate_dirs: Vec<PathBuf>,
}

impl SettingsFiles {
    /// Adds what the files say to `config`.
    ///
    /// # Errors
    /// [`RegistryError::Settings`] for a file that cannot be read or understood.
    pub fn apply(&self, config: &mut ClientConfig) -> Result<(), RegistryError> {
        let mut conf = registries_conf::Registries::default();
        if let Some(path) = &self.registries_conf {
            conf.add(path, &read(path)?)?;
        }
        for dir in &self.registries_conf_dirs {
            for path in children(dir, |name| name.ends_with(".conf"))? {
                conf.add(&path, &read(&path)?)?;
            }
        }
        conf.apply(config);
        for dir in &self.hosts_dirs {
            for registry_dir in children(dir, |_| true)? {
                hosts_toml::apply(&registry_dir, config)?;
            }
        }
        for dir in &self.certificate_dirs {
            for host_dir in children(dir, |_| true)? {
                certificates::apply(&host_dir, config);
            }
        }
        Ok(())
    }
}

/// The settings of one host, which may have none yet.
fn host<'a>(config: &'a mut ClientConfig, name: &str) -> &'a mut HostConfig {
    config.hosts.entry(name.to_owned()).or_default()
}

/// Paths in a directory whose names are wanted, in order; none where there is no directory, or none that we may
/// look into.
fn children(dir: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, RegistryError> {
    let entries = match fs::read_dir(dir) {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            return Ok(Vec::new());
        }
        other => other.map_err(|e| failure(dir, None, e.to_string()))?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| failure(dir, None, e.to_string()))?.path();
        if path.file_name().and_then(|name| name.to_str()).is_some_and(&wanted) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<String, RegistryError> {
    let length = fs::metadata(path).map_err(|e| failure(path, None, e.to_string()))?.len();
    if length > SETTINGS_BYTES {
        return Err(failure(path, None, format!("it is larger than {SETTINGS_BYTES} bytes")));
    }
    fs::read_to_string(path).map_err(|e| failure(path, None, e.to_string()))
}

/// Reads TOML; what is wrong with it is told with its line.
fn parse<T: serde::de::DeserializeOwned>(path: &Path, text: &str) -> Result<T, RegistryError> {
    toml::from_str(text).map_err(|e| {
        let line = e.span().map(|span| line_of(text, span.start));
        failure(path, line, e.message().trim().replace('\n', ", "))
    })
}

/// The line of a byte, counted from 1.
fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

fn failure(path: &Path, line: Option<usize>, detail: impl Into<String>) -> RegistryError {
    RegistryError::Settings { path: path.to_owned(), line, detail: crate::text::clean(&detail.into()) }
}
