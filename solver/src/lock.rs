//! `forge.lock`: what the names in a Dockerfile stood for, written down, and builds that take it from there.
//!
//! A tag, a branch and what is at a URL move. [`Recording`] stands before the world and notes what it answered;
//! [`Frozen`] stands there and lets through only what was noted: it asks for contents and never for what a name
//! stands for now. What a Dockerfile pins itself (`@sha256:…`, a whole commit, `--checksum`) needs no note.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use forge_parser::GitReference;
use forge_store::{ContentId, Digest, Platform};
use serde::{Deserialize, Serialize};

use crate::op::{Access, HttpSource, ResolvedHttp, ResolvedImage, Selection};
use crate::world::{Dated, Named, TroubleKind, World, WorldError};

/// The newest format that is read and written.
const VERSION: u32 = 1;

/// The content of a lock file. All lists are sorted, so that a change is a line of a diff.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    version: u32,
    /// Images as the Dockerfile names them, by platform: the manifest's digest.
    #[serde(default)]
    pub images: BTreeMap<String, BTreeMap<String, Digest>>,
    /// Files by URL.
    #[serde(default)]
    pub http: BTreeMap<String, LockedFile>,
    /// Repositories by `URL#REF`: the whole commit.
    #[serde(default)]
    pub git: BTreeMap<String, String>,
}

/// A file at a URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedFile {
    /// Its bytes.
    pub digest: Digest,
    /// How old the server says it is, in seconds since 1970: the file in the image is as old.
    pub mtime: i64,
}

/// Why a text is no lock file.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Not JSON of the right shape.
    #[error("it is no lock file of forge: {0}")]
    Syntax(#[from] serde_json::Error),
    /// Written by a later forge.
    #[error("it is of version {found}; this forge knows version {VERSION}")]
    Newer {
        /// What it says.
        found: u32,
    },
    /// No commit.
    #[error("git source {name}: {commit:?} is no whole commit hash")]
    Commit {
        /// The source.
        name: String,
        /// What stands there.
        commit: String,
    },
}

impl Default for Lock {
    fn default() -> Self {
        Self { version: VERSION, images: BTreeMap::new(), http: BTreeMap::new(), git: BTreeMap::new() }
    }
}

impl Lock {
    /// Reads a lock file.
    pub fn parse(bytes: &[u8]) -> Result<Self, LockError> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let Head { version } = serde_json::from_slice(bytes)?;
        if version != VERSION {
            return Err(LockError::Newer { found: version });
        }
        let lock: Self = serde_json::from_slice(bytes)?;
        match lock.git.iter().find(|(_, commit)| !is_commit(commit)) {
            Some((name, commit)) => Err(LockError::Commit { name: name.clone(), commit: commit.clone() }),
            None => Ok(lock),
        }
    }

    /// The file's text, which ends with a newline.
    pub fn to_text(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("maps of texts are JSON");
        text + "\n"
    }

    /// Takes over what another one says; what only this one knows stays.
    pub fn merge(&mut self, newer: Self) {
        for (name, platforms) in newer.images {
            self.images.entry(name).or_default().extend(platforms);
        }
        self.http.extend(newer.http);
        self.git.extend(newer.git);
    }

    /// How many things it names.
    pub fn len(&self) -> usize {
        self.images.values().map(BTreeMap::len).sum::<usize>() + self.http.len() + self.git.len()
    }

    /// True if it names nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a reference holds a digest, so that it cannot move.
pub fn is_pinned(reference: &str) -> bool {
    reference.rsplit_once('@').is_some_and(|(_, digest)| digest.parse::<Digest>().is_ok())
}

/// An image's name, pinned to a digest.
fn pinned(reference: &str, digest: &Digest) -> String {
    let is_layout = reference.contains("://");
    let has_tag = reference.rsplit('/').next().is_some_and(|last| last.contains(':'));
    // The tag stays for people, and the usual one is said: the image is called what it would be called unlocked.
    let tag = if is_layout || has_tag { "" } else { ":latest" };
    format!("{reference}{tag}@{digest}")
}

/// A URL as a lock file names it: without whoever it names.
fn name_of_url(url: &str) -> String {
    forge_parser::redacted(url).replacen("://xxxxx@", "://", 1)
}

/// A repository and a reference, as a lock file names them.
fn name_of_repository(reference: &GitReference) -> String {
    let remote = reference.shown_remote();
    // An ssh address keeps its user, which is part of where it is; passwords are nobody's business.
    let remote = if remote.starts_with("http") { name_of_url(&remote) } else { remote };
    match &reference.reference {
        Some(name) => format!("{remote}#{name}"),
        None => remote,
    }
}

/// The questions about local files, whose answers a lock file says nothing of: asked of the world behind.
macro_rules! forward_local {
    () => {
        fn named(&self, name: &str, platform: &Platform) -> Option<Named> {
            self.world.named(name, platform)
        }

        fn find(&self, context: &str, selection: &Selection) -> Result<(), WorldError> {
            self.world.find(context, selection)
        }

        fn is_ignored(&self, context: &str, path: &str) -> bool {
            self.world.is_ignored(context, path)
        }

        fn ignore_fact(&self, context: &str) -> Option<String> {
            self.world.ignore_fact(context)
        }

        fn select(&self, context: &str, selection: &Selection) -> Result<ContentId, WorldError> {
            self.world.select(context, selection)
        }
    };
}

/// A world that notes what it was asked and what it answered.
pub struct Recording<'a> {
    world: &'a dyn World,
    seen: Mutex<Lock>,
}

impl<'a> Recording<'a> {
    /// Nothing noted yet.
    pub fn new(world: &'a dyn World) -> Self {
        Self { world, seen: Mutex::default() }
    }

    /// What was noted.
    pub fn seen(&self) -> Lock {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, edit: impl FnOnce(&mut Lock)) {
        edit(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl World for Recording<'_> {
    fn resolve_image(&self, reference: &str, platform: &Platform) -> Result<ResolvedImage, WorldError> {
        let found = self.world.resolve_image(reference, platform)?;
        if !is_pinned(reference) {
            let (name, platform, digest) = (reference.to_owned(), platform.to_string(), found.digest);
            self.note(|lock| {
                lock.images.entry(name).or_default().insert(platform, digest);
            });
        }
        Ok(found)
    }

    fn resolve_http(&self, source: &HttpSource) -> Result<ResolvedHttp, WorldError> {
        let found = self.world.resolve_http(source)?;
        let file = LockedFile { digest: found.digest, mtime: found.mtime };
        self.note(|lock| {
            lock.http.insert(name_of_url(&source.url), file);
        });
        Ok(found)
    }

    fn resolve_git(&self, reference: &GitReference, access: Access) -> Result<String, WorldError> {
        let commit = self.world.resolve_git(reference, access)?;
        if reference.commit().is_none() {
            self.note(|lock| {
                lock.git.insert(name_of_repository(reference), commit.clone());
            });
        }
        Ok(commit)
    }

    fn image_at_hand(&self, reference: &str, platform: &Platform) -> Option<ResolvedImage> {
        self.world.image_at_hand(reference, platform)
    }

    fn time_of(&self, dated: Dated<'_>) -> Result<Option<i64>, WorldError> {
        match dated {
            Dated::Context => {}
            Dated::Http(source) => {
                self.resolve_http(source)?;
            }
            Dated::Git(reference, access) => {
                // Of the very commit that is noted, should the branch move meanwhile.
                let pinned = at_commit(reference, self.resolve_git(reference, access)?);
                return self.world.time_of(Dated::Git(&pinned, access));
            }
        }
        self.world.time_of(dated)
    }

    forward_local!();
}

/// The same at a commit.
fn at_commit(reference: &GitReference, commit: String) -> GitReference {
    GitReference { reference: Some(commit), ..reference.clone() }
}

/// A world in which names stand for what a lock file says, and for nothing else.
pub struct Frozen<'a> {
    world: &'a dyn World,
    lock: &'a Lock,
    /// What the lock file is called in messages.
    name: &'a str,
}

impl<'a> Frozen<'a> {
    /// Lets through what `lock` says.
    pub fn new(world: &'a dyn World, lock: &'a Lock, name: &'a str) -> Self {
        Self { world, lock, name }
    }

    fn missing(&self, what: &str) -> WorldError {
        WorldError::new(TroubleKind::Input, format!("{what} is not in {}", self.name))
            .hint("add it with `forge build --lock=update`")
    }

    /// An error of something that is locked, with what that means for the user.
    fn locked(&self, error: WorldError, what: &str) -> WorldError {
        let Self { name, .. } = self;
        match error.kind {
            TroubleKind::Corrupt => WorldError { message: format!("{what}: {}, as {name} says", error.message), ..error }
                .hint("it changed since it was locked; `forge build --lock=update` takes it as it is now, if you trust it"),
            TroubleKind::NotFound => WorldError { message: format!("{}, but {name} locks it", error.message), ..error }
                .hint("it is gone from where it was; `forge build --lock=update` takes what is there now"),
            _ => error,
        }
    }
}

impl World for Frozen<'_> {
    fn resolve_image(&self, reference: &str, platform: &Platform) -> Result<ResolvedImage, WorldError> {
        if is_pinned(reference) {
            return self.world.resolve_image(reference, platform);
        }
        let locked = self.lock.images.get(reference).and_then(|all| all.get(&platform.to_string()));
        let digest = locked.ok_or_else(|| self.missing(&format!("image {reference} for {platform}")))?;
        let found = self.world.resolve_image(&pinned(reference, digest), platform);
        let mut found = found.map_err(|error| self.locked(error, reference))?;
        if let Some(bare) = found.reference.strip_suffix(&format!("@{digest}")) {
            found.reference = bare.to_owned();
        }
        Ok(found)
    }

    fn resolve_http(&self, source: &HttpSource) -> Result<ResolvedHttp, WorldError> {
        let name = name_of_url(&source.url);
        let Some(LockedFile { digest, mtime }) = self.lock.http.get(&name).cloned() else {
            return match source.checksum {
                Some(_) => self.world.resolve_http(source),
                None => Err(self.missing(&name)),
            };
        };
        if let Some(checksum) = source.checksum.filter(|checksum| *checksum != digest) {
            let message = format!("{name} has --checksum {checksum}, but {} says {digest}", self.name);
            return Err(WorldError::new(TroubleKind::Input, message)
                .hint("the Dockerfile changed since it was locked: run `forge build --lock=update`"));
        }
        let pinned = HttpSource { checksum: Some(digest), mtime: Some(mtime), ..source.clone() };
        self.world.resolve_http(&pinned).map_err(|error| self.locked(error, &name))?;
        Ok(ResolvedHttp { digest, mtime })
    }

    fn resolve_git(&self, reference: &GitReference, access: Access) -> Result<String, WorldError> {
        if reference.commit().is_some() {
            return self.world.resolve_git(reference, access);
        }
        let name = name_of_repository(reference);
        let commit = self.lock.git.get(&name).ok_or_else(|| self.missing(&name))?;
        // A whole commit is its own answer: nobody is asked, only a checksum is compared.
        let pinned = at_commit(reference, commit.clone());
        self.world.resolve_git(&pinned, access).map_err(|error| self.locked(error, &name))
    }

    fn image_at_hand(&self, reference: &str, platform: &Platform) -> Option<ResolvedImage> {
        if is_pinned(reference) {
            return self.world.image_at_hand(reference, platform);
        }
        let digest = self.lock.images.get(reference)?.get(&platform.to_string())?;
        self.world.image_at_hand(&pinned(reference, digest), platform)
    }

    fn time_of(&self, dated: Dated<'_>) -> Result<Option<i64>, WorldError> {
        match dated {
            Dated::Context => self.world.time_of(dated),
            Dated::Http(source) => {
                let ResolvedHttp { digest, mtime } = self.resolve_http(source)?;
                let pinned = HttpSource { checksum: Some(digest), mtime: Some(mtime), ..source.clone() };
                self.world.time_of(Dated::Http(&pinned))
            }
            Dated::Git(reference, access) => {
                let pinned = at_commit(reference, self.resolve_git(reference, access)?);
                self.world.time_of(Dated::Git(&pinned, access))
            }
        }
    }

    forward_local!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_file_is_sorted_and_read_as_it_was_written() {
        let mut lock = Lock::default();
        let digest = Digest::of(b"x");
        for name in ["debian:12", "alpine"] {
            let platforms = lock.images.entry(name.into()).or_default();
            platforms.insert("linux/arm64".into(), digest);
            platforms.insert("linux/amd64".into(), digest);
        }
        lock.http.insert("https://h/f".into(), LockedFile { digest, mtime: 7 });
        lock.git.insert("https://h/r.git#main".into(), "c".repeat(40));
        let text = lock.to_text();
        let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
        assert_eq!(lines[..4], ["{", "\"version\": 1,", "\"images\": {", "\"alpine\": {"], "{text}");
        assert!(lines[4].starts_with("\"linux/amd64\": \"sha256:"), "{text}");
        assert_eq!(Lock::parse(text.as_bytes()).unwrap(), lock);
        assert_eq!(lock.len(), 6);
    }

    #[test]
    fn what_is_no_lock_file_is_told() {
        for (text, want) in [
            ("", "it is no lock file of forge: EOF"),
            ("{\"version\": 2, \"new\": {}}", "it is of version 2; this forge knows version 1"),
            ("{\"version\": 1, \"typo\": {}}", "it is no lock file of forge: unknown field `typo`"),
            ("{\"version\": 1, \"git\": {\"u#m\": \"main\"}}", "git source u#m: \"main\" is no whole commit"),
            ("{\"version\": 1, \"images\": {\"a\": {\"linux/amd64\": \"12\"}}}", "it is no lock file"),
        ] {
            let error = Lock::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(want), "{text}: {error}");
        }
    }

    #[test]
    fn names_are_pinned_and_hold_no_password() {
        let digest = Digest::of(b"x");
        for (reference, want) in [
            ("debian", "debian:latest"),
            ("h:5000/debian", "h:5000/debian:latest"),
            ("debian:12", "debian:12"),
            ("oci-layout://dir:tag", "oci-layout://dir:tag"),
            ("oci-layout:///dir", "oci-layout:///dir"),
        ] {
            assert_eq!(pinned(reference, &digest), format!("{want}@{digest}"));
            assert!(!is_pinned(reference) && is_pinned(&pinned(reference, &digest)));
        }
        assert_eq!(name_of_url("https://u:p@h/f?x=1"), "https://h/f?x=1");
        let git = |text: &str| name_of_repository(&GitReference::parse(text).unwrap());
        assert_eq!(git("https://u:p@h/r.git#v1:sub"), "https://h/r.git#v1");
        assert_eq!(git("https://h/r.git"), "https://h/r.git");
        assert_eq!(git("git@h:r.git#main"), "git@h:r.git#main");
    }
}
