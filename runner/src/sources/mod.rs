//! Sources that are not on this machine: files at URLs and git repositories, made into trees of root's.
//!
//! Files come in through [`Download`], which whoever talks http brings along; repositories by git's own command
//! line, with everything taken from it that a hostile repository could use (see [`git`]).

pub mod git;
mod http;

use forge_solver::op::types::GitReference;
use forge_solver::op::{Access, GitOp, HttpOp, HttpSource, ResolvedHttp};
use forge_solver::{TroubleKind, WorldError};
use forge_store::layer::{Accept, Decompressed, EntryKind, TarReader};
use forge_store::rootdir::{Dir, FileKind, RootDirError};
use forge_store::{Digest, Draft, RootDir, Store};

use self::git::{GitSettings, Repository};
use crate::secrets::Secrets;

/// Fetches files into the store's blobs.
pub trait Download: Sync {
    /// Fetches a file, unless it is what it was.
    fn download(&self, wanted: &Wanted<'_>) -> Result<Downloaded, WorldError>;
}

/// A file to fetch.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Where it is.
    pub url: &'a str,
    /// Its entity tag when it was fetched last.
    pub etag: Option<&'a str>,
    /// Its `Last-Modified` when it was fetched last.
    pub last_modified: Option<&'a str>,
    /// The value of an `Authorization` header, for the URL's own host.
    pub authorization: Option<String>,
    /// The most bytes that are taken, if fewer than the client takes anyway.
    pub most_bytes: Option<u64>,
}

/// What came of fetching a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Downloaded {
    /// It is what it was.
    Unchanged,
    /// It is in the store.
    Fetched {
        /// Its bytes.
        digest: Digest,
        /// Its entity tag.
        etag: Option<String>,
        /// Its `Last-Modified`.
        last_modified: Option<String>,
        /// The same, in seconds since 1970.
        mtime: Option<i64>,
    },
}

/// The remote sources of a build.
pub struct Sources<'a> {
    /// Where what is fetched goes.
    pub store: &'a Store,
    /// How files are fetched.
    pub download: &'a dyn Download,
    /// How git is run.
    pub git: GitSettings,
    /// Tokens and agents that the user gave to the build.
    pub secrets: &'a Secrets,
}

impl Sources<'_> {
    /// Finds out what is at a URL now; its bytes are in the store then.
    pub fn resolve_http(&self, source: &HttpSource) -> Result<ResolvedHttp, WorldError> {
        http::resolve(self, source, None)
    }

    /// The same for a file that may not have more than so many bytes.
    pub fn resolve_http_up_to(&self, source: &HttpSource, most: u64) -> Result<ResolvedHttp, WorldError> {
        http::resolve(self, source, Some(most))
    }

    /// How old a file at a URL is: `Last-Modified`, or else the newest file of an archive.
    pub fn time_of_http(&self, source: &HttpSource) -> Result<Option<i64>, WorldError> {
        let resolved = self.resolve_http(source)?;
        if resolved.mtime != 0 {
            return Ok(Some(resolved.mtime));
        }
        let blob = self.store.blobs().open(&resolved.digest).map_err(crate::trouble::of_store)?;
        Ok(blob.and_then(|(file, _)| newest_entry(file)))
    }

    /// When a commit was made, in seconds since 1970.
    pub fn time_of_git(&self, reference: &GitReference, access: Access) -> Result<i64, WorldError> {
        let repository = self.repository(reference, access)?;
        let commit = repository.resolve(&self.store.state_dir())?;
        self.time_of_commit(reference, access, &commit)
    }

    /// The same for a commit that the reference is known to stand for.
    pub fn time_of_commit(
        &self,
        reference: &GitReference,
        access: Access,
        commit: &str,
    ) -> Result<i64, WorldError> {
        let key = format!("git time {commit}");
        let known = self.store.cache().get(&key).map_err(crate::trouble::of_store)?;
        if let Some(known) = known.and_then(|text| text.parse().ok()) {
            return Ok(known);
        }
        let time = self.repository(reference, access)?.time(self.store, commit)?;
        self.store.cache().put(&key, &time.to_string()).map_err(crate::trouble::of_store)?;
        Ok(time)
    }

    /// The tree of a file that was resolved.
    pub fn http_tree(&self, op: &HttpOp) -> Result<Draft, WorldError> {
        http::tree(self.store, op)
    }

    /// Finds out which commit a reference stands for.
    pub fn resolve_git(&self, reference: &GitReference, access: Access) -> Result<String, WorldError> {
        self.repository(reference, access)?.resolve(&self.store.state_dir())
    }

    /// The tree of a commit.
    pub fn git_tree(&self, op: &GitOp, cancelled: &dyn Fn() -> bool) -> Result<Draft, WorldError> {
        let repository = self.repository(&op.reference, op.access)?;
        repository.checkout(self.store, &op.commit, op.keep_git_dir, cancelled)
    }

    /// A repository, with the credentials that there are for it.
    pub fn repository<'r>(
        &'r self,
        reference: &'r GitReference,
        access: Access,
    ) -> Result<Repository<'r>, WorldError> {
        Repository::new(&self.git, self.secrets, reference, access)
    }

    /// A token or a header that the user gave for a host: `NAME` followed by one of `suffixes`.
    fn secret(secrets: &Secrets, name: &str, suffixes: &[String]) -> Result<Option<String>, WorldError> {
        for suffix in suffixes {
            let id = format!("{name}{suffix}");
            let Some(bytes) = secrets.read(&id)? else { continue };
            let text = String::from_utf8(bytes).ok();
            let text = text.map(|text| text.trim_end_matches(['\r', '\n']).to_owned());
            return match text.filter(|text| !text.contains(char::is_control)) {
                Some(text) => Ok(Some(text)),
                None => {
                    let message = format!("secret {id} is not one line of text");
                    Err(WorldError::new(TroubleKind::Input, message))
                }
            };
        }
        Ok(None)
    }
}

/// The time of the newest regular file of an archive; none if it is no archive, or holds no file.
fn newest_entry(archive: std::fs::File) -> Option<i64> {
    let mut reader = TarReader::new(Decompressed::new(archive, Accept::Archive).ok()?);
    let mut newest = None;
    while let Some(entry) = reader.next_entry().ok()? {
        if entry.kind == EntryKind::Regular {
            newest = newest.max(Some(entry.mtime.sec));
        }
    }
    newest
}

/// The time of the newest regular file of a tree; none if it holds no file.
pub fn newest_file(root: &RootDir) -> Result<Option<i64>, RootDirError> {
    fn newest(dir: &Dir) -> Result<Option<i64>, RootDirError> {
        let mut found = None;
        for entry in dir.read_dir()? {
            let at = dir.at(&entry.name)?;
            let stat = at.stat()?;
            found = found.max(match stat.kind {
                FileKind::Regular => Some(stat.mtime.sec),
                FileKind::Directory => newest(&at.open_dir()?)?,
                _ => None,
            });
        }
        Ok(found)
    }
    newest(root.dir())
}

/// Host and port of a URL, without whoever it names.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}
