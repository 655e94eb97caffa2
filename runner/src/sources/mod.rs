//! Sources that are not on this machine: files at URLs and git repositories, made into trees of root's.
//!
//! Files come in through [`Download`], which whoever talks http brings along; repositories by git's own command
//! line, with everything taken from it that a hostile repository could use (see [`git`]).

pub mod git;
mod http;

use forge_solver::op::types::GitReference;
use forge_solver::op::{GitOp, HttpOp, HttpSource, ResolvedHttp};
use forge_solver::{TroubleKind, WorldError};
use forge_store::{Digest, Draft, Store};

use self::git::{Access, GitSettings, Repository};
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
        http::resolve(self, source)
    }

    /// The tree of a file that was resolved.
    pub fn http_tree(&self, op: &HttpOp) -> Result<Draft, WorldError> {
        http::tree(self.store, op)
    }

    /// Finds out which commit a Dockerfile's reference stands for.
    pub fn resolve_git(&self, reference: &GitReference) -> Result<String, WorldError> {
        self.repository(reference, Access::Given)?.resolve(&self.store.state_dir())
    }

    /// The tree of a commit.
    pub fn git_tree(&self, op: &GitOp, cancelled: &dyn Fn() -> bool) -> Result<Draft, WorldError> {
        let repository = self.repository(&op.reference, Access::Given)?;
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

/// Host and port of a URL, without whoever it names.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}
