//! Cache keys: a function of an op and what goes into it, and of nothing else.
//!
//! No time, host path, mtime, inode or secret value can enter a key, because no [`Op`] holds one. What a key
//! covers is written out field by field below: the patterns name every field, so a field that is added to an op
//! does not compile until it was decided here. A change of what is covered changes [`VERSION`] and the golden
//! file `testdata/keys.txt`.

use std::fmt;

use forge_store::{ContentId, Platform, Snapshot};
use serde::{Deserialize, Serialize};

use forge_parser::{GitMtime, GitReference};

use crate::op::{
    CopyOp, CopySource, DeviceOp, GitOp, HttpOp, ImageOp, MountOp, Op, RunOp, Selection, Ulimit, Unpack,
    WorkdirOp,
};

/// Part of every key: keys of another version never meet.
const VERSION: &str = "forge cache key v1";

/// Names the result of a vertex before it is there. Never an OCI digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheKey([u8; 32]);

impl CacheKey {
    /// The key of an op over inputs.
    pub fn new(op: &Op, inputs: &[InputKey]) -> Self {
        let mut hasher = KeyHasher::new();
        hash_op(&mut hasher, op);
        hasher.list("inputs", inputs, |hasher, input| match input {
            InputKey::Made(key) => hasher.bytes("made", &key.0),
            InputKey::Snapshot(snapshot) => hash_snapshot(hasher, snapshot),
            InputKey::Content(contents) => {
                hasher.list("content", contents, |hasher, content| hasher.bytes("id", content.as_bytes()));
            }
        });
        hasher.finish()
    }

    /// 64 hex digits.
    pub fn hex(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }
}

impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex()[..16])
    }
}

impl Serialize for CacheKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.hex())
    }
}

impl<'de> Deserialize<'de> for CacheKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let hash = blake3::Hash::from_hex(text).map_err(serde::de::Error::custom)?;
        Ok(Self(*hash.as_bytes()))
    }
}

/// What stands for an input in a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputKey {
    /// How the input is made: known before it is there.
    Made(CacheKey),
    /// What the input is: known once it is there.
    Snapshot(Snapshot),
    /// What was selected of the input's files: one id per selection, in the op's order.
    Content(Vec<ContentId>),
}

fn hash_op(hasher: &mut KeyHasher, op: &Op) {
    match op {
        Op::Scratch => hasher.text("op", "scratch"),
        Op::Image(ImageOp { reference: _, digest, snapshot: _ }) => {
            hasher.text("op", "image");
            hasher.text("digest", &digest.to_string());
        }
        // A context is never a result: whoever reads it has what was selected of it in the key.
        Op::Context(_) => hasher.text("op", "context"),
        Op::Http(HttpOp { digest, name, mtime }) => {
            hasher.text("op", "http");
            hasher.text("digest", &digest.to_string());
            hasher.text("name", name);
            hasher.bytes("mtime", &mtime.to_le_bytes());
        }
        Op::Git(op) => hash_git(hasher, op),
        Op::Copy(op) => hash_copy(hasher, op),
        Op::Run(op) => hash_run(hasher, op),
        Op::Workdir(WorkdirOp { path, user }) => {
            hasher.text("op", "workdir");
            hasher.text("path", path);
            hasher.text("user", user);
        }
    }
}

fn hash_git(hasher: &mut KeyHasher, op: &GitOp) {
    // Whose keys opened the repository changes nothing about what is in it.
    let GitOp { reference, commit, keep_git_dir, access: _ } = op;
    // The commit says what the reference meant; a checksum that did not hold would have been an error.
    let GitReference {
        remote: _,
        reference: _,
        subdir,
        checksum: _,
        keep_git_dir: _,
        submodules,
        fetch_by_commit: _,
        mtime,
    } = reference;
    hasher.text("op", "git");
    // A `.git` that is kept, and the addresses of submodules, name the repository.
    hasher.text("remote", &reference.shown_remote());
    hasher.text("commit", commit);
    hasher.text("subdir", subdir);
    hasher.flag("keep git dir", *keep_git_dir);
    hasher.flag("submodules", *submodules);
    hasher.flag("commit time", *mtime == GitMtime::Commit);
}

fn hash_copy(hasher: &mut KeyHasher, op: &CopyOp) {
    let CopyOp { sources, dest, chown, chmod, parents, link, reset_owner } = op;
    hasher.text("op", "copy");
    hasher.list("sources", sources, |hasher, source| match source {
        CopySource::Files { input, selection, unpack } => {
            hasher.number("input", *input as u64);
            hash_selection(hasher, selection);
            hasher.flag("unpack", *unpack == Unpack::IfArchive);
        }
        CopySource::Inline { name, content } => {
            hasher.text("name", name);
            hasher.text("content", content);
        }
    });
    hasher.text("dest", dest);
    hasher.option("chown", chown.as_ref(), |hasher, chown| hasher.text("owner", chown));
    hasher.option("chmod", chmod.as_ref(), |hasher, chmod| hasher.text("mode", chmod));
    hasher.flag("parents", *parents);
    hasher.flag("link", *link);
    hasher.flag("reset owner", *reset_owner);
}

fn hash_selection(hasher: &mut KeyHasher, selection: &Selection) {
    let Selection { pattern, pivot, excludes, required: _, deep_wildcards } = selection;
    hasher.text("pattern", pattern);
    hasher.option("pivot", pivot.as_ref(), |hasher, pivot| hasher.number("at", *pivot as u64));
    hasher.list("excludes", excludes, |hasher, pattern| hasher.text("pattern", pattern));
    hasher.flag("deep", *deep_wildcards);
}

fn hash_run(hasher: &mut KeyHasher, op: &RunOp) {
    let RunOp {
        args,
        env,
        declared_args: _,
        proxy_env: _,
        cwd,
        user,
        network,
        security,
        mounts,
        ulimits,
        shm_size,
        devices,
        script,
        platform,
        hostname,
    } = op;
    hasher.text("op", "run");
    hasher.list("args", args, |hasher, arg| hasher.text("arg", arg));
    hasher.list("env", env, |hasher, (name, value)| {
        hasher.text("name", name);
        hasher.text("value", value);
    });
    hasher.text("cwd", cwd);
    hasher.text("user", user);
    hasher.text("network", &format!("{network:?}"));
    hasher.text("security", &format!("{security:?}"));
    hasher.list("mounts", mounts, hash_mount);
    hasher.option("script", script.as_ref(), |hasher, (name, content)| {
        hasher.text("name", name);
        hasher.text("content", content);
    });
    hash_platform(hasher, platform);
    // Added later: where they are not used, keys are what they were.
    if !ulimits.is_empty() {
        hasher.list("ulimits", ulimits, |hasher, Ulimit { name, soft, hard }| {
            hasher.text("name", name);
            hasher.option("soft", soft.as_ref(), |hasher, limit| hasher.number("limit", *limit));
            hasher.option("hard", hard.as_ref(), |hasher, limit| hasher.number("limit", *limit));
        });
    }
    if let Some(bytes) = shm_size {
        hasher.number("shm size", *bytes);
    }
    if !devices.is_empty() {
        hasher.list("devices", devices, |hasher, DeviceOp { name, required: _ }| hasher.text("name", name));
    }
    if let Some(hostname) = hostname {
        hasher.text("hostname", hostname);
    }
}

fn hash_mount(hasher: &mut KeyHasher, mount: &MountOp) {
    // A cache's name and sharing decide what a step may find, not what it means: they stay out, as does
    // whether a secret must be there.
    let MountOp {
        kind,
        target,
        input,
        selection,
        readonly,
        id,
        sharing: _,
        size,
        mode,
        uid,
        gid,
        required: _,
        env,
    } = mount;
    hasher.text("kind", &format!("{kind:?}"));
    hasher.text("target", target);
    hasher.option("input", input.as_ref(), |hasher, input| hasher.number("at", *input as u64));
    hash_selection(hasher, selection);
    hasher.flag("readonly", *readonly);
    if !matches!(kind, forge_parser::ast::MountKind::Cache) {
        hasher.text("id", id);
    }
    hasher.number("size", *size);
    hasher.option("mode", mode.as_ref(), |hasher, mode| hasher.number("bits", u64::from(*mode)));
    hasher.number("uid", u64::from(*uid));
    hasher.number("gid", u64::from(*gid));
    hasher.option("env", env.as_ref(), |hasher, env| hasher.text("name", env));
}

fn hash_platform(hasher: &mut KeyHasher, platform: &Platform) {
    let Platform { architecture, os, os_version, os_features, variant } = platform;
    hasher.text("os", os);
    hasher.text("architecture", architecture);
    hasher.option("variant", variant.as_ref(), |hasher, text| hasher.text("name", text));
    hasher.option("os version", os_version.as_ref(), |hasher, text| hasher.text("name", text));
    hasher.list("os features", os_features, |hasher, text| hasher.text("name", text));
}

fn hash_snapshot(hasher: &mut KeyHasher, snapshot: &Snapshot) {
    hasher.list("layers", &snapshot.layers(), |hasher, layer| hasher.text("id", &layer.id.hex()));
}

/// Feeds named, length-prefixed fields to a hash: no two different ops feed it the same bytes.
struct KeyHasher(blake3::Hasher);

impl KeyHasher {
    fn new() -> Self {
        Self(blake3::Hasher::new_derive_key(VERSION))
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) {
        for part in [name.as_bytes(), bytes] {
            self.0.update(&(part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
    }

    fn text(&mut self, name: &str, text: &str) {
        self.bytes(name, text.as_bytes());
    }

    fn number(&mut self, name: &str, number: u64) {
        self.bytes(name, &number.to_le_bytes());
    }

    fn flag(&mut self, name: &str, flag: bool) {
        self.number(name, u64::from(flag));
    }

    fn option<T>(&mut self, name: &str, value: Option<&T>, feed: impl FnOnce(&mut Self, &T)) {
        self.flag(name, value.is_some());
        if let Some(value) = value {
            feed(self, value);
        }
    }

    fn list<T>(&mut self, name: &str, items: &[T], mut feed: impl FnMut(&mut Self, &T)) {
        self.number(name, items.len() as u64);
        for item in items {
            feed(self, item);
        }
    }

    fn finish(self) -> CacheKey {
        CacheKey(*self.0.finalize().as_bytes())
    }
}
