//! Names of images, by Docker's rules: `debian` is `docker.io/library/debian:latest`.
//!
//! The grammar is that of github.com/distribution/reference, exactly, with three things it leaves open closed:
//! ports are at most 65535, an IPv6 literal must be one, and digests are SHA-256. An own parser, because
//! `oci_spec`'s refuses `[::1]:5000/x` and takes `Foo/bar` for a repository of Docker Hub.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use forge_store::Digest;
use forge_store::digest::DigestError;

use crate::limits::{REPOSITORY_CHARS, TAG_CHARS};

/// Docker Hub's name, as references write it.
pub const DOCKER_HUB: &str = "docker.io";
/// Where Docker Hub's API is.
const DOCKER_HUB_API: &str = "registry-1.docker.io";
/// The namespace of Docker Hub's official images.
const OFFICIAL: &str = "library/";

/// A repository: a registry and a path in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    registry: String,
    path: String,
}

impl Repository {
    /// The registry as references name it: `docker.io`, `localhost:5000`, `[::1]:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path in the registry: `library/debian`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Host and port of the registry's API: `registry-1.docker.io` for Docker Hub.
    pub fn api_host(&self) -> &str {
        api_host(&self.registry)
    }

    /// The image of this name under `tag`.
    ///
    /// # Errors
    /// [`ReferenceError::Tag`] where `tag` is none.
    pub fn tagged(&self, tag: &str) -> Result<Reference, ReferenceError> {
        check_tag(tag)?;
        Ok(Reference { repository: self.clone(), tag: Some(tag.into()), digest: None })
    }

    /// The image of this name with `digest`.
    pub fn pinned(&self, digest: Digest) -> Reference {
        Reference { repository: self.clone(), tag: None, digest: Some(digest) }
    }

    /// The name without what Docker lets people leave out.
    pub fn familiar(&self) -> String {
        if self.registry != DOCKER_HUB {
            return self.to_string();
        }
        let short = self.path.strip_prefix(OFFICIAL).filter(|rest| !rest.contains('/'));
        short.unwrap_or(&self.path).to_owned()
    }
}

/// The host and port that serve a registry's API.
pub(crate) fn api_host(registry: &str) -> &str {
    if registry == DOCKER_HUB { DOCKER_HUB_API } else { registry }
}

/// Writes `registry/path`, in full.
impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)
    }
}

impl FromStr for Repository {
    type Err = ReferenceError;
    /// Reads a name without tag or digest.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (registry, path) = split_registry(text);
        check_registry(registry)?;
        let path = if registry == DOCKER_HUB && !path.contains('/') {
            format!("{OFFICIAL}{path}")
        } else {
            path.to_owned()
        };
        check_path(&path)?;
        Ok(Self { registry: registry.to_owned(), path })
    }
}

/// An image's name: a repository and a tag, a digest, or both. With both, the digest decides.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    repository: Repository,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The registry as references name it.
    pub fn registry(&self) -> &str {
        &self.repository.registry
    }

    /// The tag: `latest` where neither tag nor digest was written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, where one was written.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The full name: `docker.io/library/debian:latest`.
    pub fn canonical(&self) -> String {
        self.written_as(&self.repository.to_string())
    }

    /// The same name, pinned to a digest; the tag stays for people.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// What stands behind `/manifests/` in the API: the digest, else the tag.
    pub(crate) fn locator(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    fn written_as(&self, name: &str) -> String {
        let tag = self.tag.iter().map(|tag| format!(":{tag}"));
        let digest = self.digest.iter().map(|digest| format!("@{digest}"));
        std::iter::once(name.to_owned()).chain(tag).chain(digest).collect()
    }
}

/// Writes the familiar form: `debian:latest`.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written_as(&self.repository.familiar()))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let (name, tag) = split_tag(rest);
        if name.is_empty() {
            return Err(ReferenceError::Empty(quote(text)));
        }
        if let Some(at) = name.find("://") {
            let (scheme, rest) = (quote(&name[..at]), quote(&text[at + 3..]));
            return Err(ReferenceError::Scheme { scheme, rest });
        }
        if is_hex_digest(name) {
            return Err(ReferenceError::BareDigest(quote(name)));
        }
        if let Some(tag) = tag {
            check_tag(tag)?;
        }
        let latest = (tag.is_none() && digest.is_none()).then_some("latest");
        Ok(Self { repository: name.parse()?, tag: tag.or(latest).map(str::to_owned), digest })
    }
}

/// Why a text names no image. Every message says what to write instead where that can be known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// No name at all.
    #[error("`{0}` names no image; write for example `debian:13`")]
    Empty(String),
    /// A URL.
    #[error("an image name has no scheme; write `{rest}` without `{scheme}://`")]
    Scheme {
        /// What stands before `://`.
        scheme: String,
        /// What stands behind it.
        rest: String,
    },
    /// 64 hex digits.
    #[error("`{0}` looks like a digest, not a name; write name@sha256:{0}")]
    BareDigest(String),
    /// Capitals in the repository.
    #[error("`{0}` has capital letters; repository names are lower case")]
    Capitals(String),
    /// A repository path outside the grammar.
    #[error(
        "`{0}` is not a repository name; its parts are lower-case letters and digits, joined by single `.`, `_`, `__` or `-`"
    )]
    Path(String),
    /// A repository path too long.
    #[error("the repository name is longer than {REPOSITORY_CHARS} characters")]
    TooLong,
    /// Not a host.
    #[error("`{0}` is not a registry; write host or host:port")]
    Registry(String),
    /// Not a port.
    #[error("`{0}` is not a port; ports are 1 to 65535")]
    Port(String),
    /// Not a tag.
    #[error(
        "`{0}` is not a tag; tags are at most {TAG_CHARS} letters, digits, `_`, `.` and `-`, and start with neither `.` nor `-`"
    )]
    Tag(String),
    /// Not a digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

fn quote(text: &str) -> String {
    crate::text::clean(&text.chars().take(100).collect::<String>())
}

/// A tag is behind the last `:`, unless a `/` follows: then that is a port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    }
}

/// Docker's rule: what stands before the first `/` is a registry if it has a `.`, a `:` or a capital, or is
/// `localhost`; else the image is Docker Hub's.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some(("index.docker.io" | "registry-1.docker.io" | DOCKER_HUB, path)) => (DOCKER_HUB, path),
        Some((host, path))
            if host == "localhost" || host.contains(['.', ':']) || host.chars().any(char::is_uppercase) =>
        {
            (host, path)
        }
        _ => (DOCKER_HUB, name),
    }
}

/// Checks `host`, `host:port`, `[v6]` or `[v6]:port`.
pub(crate) fn check_registry(registry: &str) -> Result<(), ReferenceError> {
    let fail = || ReferenceError::Registry(quote(registry));
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => {
            let (literal, port) = rest.split_once(']').ok_or_else(fail)?;
            literal.parse::<Ipv6Addr>().map_err(|_| fail())?;
            (None, if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(fail)?) })
        }
        None => match registry.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(registry), None),
        },
    };
    if host.is_some_and(|host| host.len() > 253 || !host.split('.').all(is_host_component)) {
        return Err(fail());
    }
    port.map_or(Ok(()), check_port)
}

fn is_host_component(part: &str) -> bool {
    let sound = |c: char| c.is_ascii_alphanumeric() || c == '-';
    !part.is_empty() && part.chars().all(sound) && !part.starts_with('-') && !part.ends_with('-')
}

fn check_port(port: &str) -> Result<(), ReferenceError> {
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(1..) if digits => Ok(()),
        _ => Err(ReferenceError::Port(quote(port))),
    }
}

fn check_path(path: &str) -> Result<(), ReferenceError> {
    if path.chars().count() > REPOSITORY_CHARS {
        return Err(ReferenceError::TooLong);
    }
    if path.split('/').all(is_path_component) {
        return Ok(());
    }
    let lower = path.to_ascii_lowercase();
    let shown = quote(path.strip_prefix(OFFICIAL).unwrap_or(path));
    if lower.split('/').all(is_path_component) {
        return Err(ReferenceError::Capitals(shown));
    }
    Err(ReferenceError::Path(shown))
}

/// `[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(part: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let ends_sound = part.starts_with(plain) && part.ends_with(plain);
    ends_sound
        && part
            .split(plain)
            .all(|joint| matches!(joint, "" | "." | "_" | "__") || joint.chars().all(|c| c == '-'))
}

/// `[\w][\w.-]{0,127}`
fn check_tag(tag: &str) -> Result<(), ReferenceError> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let sound = tag.starts_with(word)
        && tag.chars().all(|c| word(c) || c == '.' || c == '-')
        && tag.len() <= TAG_CHARS;
    if sound { Ok(()) } else { Err(ReferenceError::Tag(quote(tag))) }
}

fn is_hex_digest(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
#[path = "reference_tests.rs"]
mod tests;
