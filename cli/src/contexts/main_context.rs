//! The main context, ready to be read: a directory of the user's, or a directory of this build's own that a stream or
//! a repository was put into.

use std::io;
use std::path::PathBuf;

use forge_parser::{GitReference, redacted};
use forge_runner::sources::{Sources, newest_file};
use forge_solver::op::{Access, HttpSource};
use forge_solver::{TroubleKind, WorldError};
use forge_store::{Draft, RootDir, Store};

use super::archive::{Bounds, Content, take_in};
use super::place::Place;
use crate::failure::Failure;
use crate::limits::CONTEXT_PACKED_BYTES_MAX;

/// The main context.
pub struct MainContext {
    /// The directory.
    pub dir: PathBuf,
    /// The Dockerfile, where the context is nothing else.
    pub dockerfile: Option<(String, Vec<u8>)>,
    /// Where it was unpacked; gone with the build.
    draft: Option<Draft>,
    origin: Origin,
}

/// What a context's time is taken from.
enum Origin {
    Directory,
    Stream,
    Url(HttpSource),
    Git(Box<GitReference>, String),
}

impl MainContext {
    /// Opens it: fetched and unpacked where it is not a directory.
    pub fn open(place: &Place, sources: &Sources<'_>, keep_git_dir: bool) -> Result<Self, Failure> {
        match place {
            Place::Directory(dir) => {
                Ok(Self { dir: dir.clone(), dockerfile: None, draft: None, origin: Origin::Directory })
            }
            Place::Stdin => {
                Self::of_stream(io::stdin(), sources.store, "standard input", "-", Origin::Stream)
            }
            Place::Url(url) => Self::of_url(url, sources),
            Place::Git(reference) => Self::of_git(reference, sources, keep_git_dir),
        }
    }

    /// Whether the directory is this build's own: nothing of it is worth remembering, and no link leads out of it.
    pub fn is_transient(&self) -> bool {
        self.draft.is_some()
    }

    /// How old it is, if it has a time of its own.
    pub fn time(&self, sources: &Sources<'_>) -> Result<Option<i64>, WorldError> {
        match &self.origin {
            Origin::Directory => Ok(None),
            Origin::Stream => {
                let newest = RootDir::open_host(&self.dir).and_then(|root| newest_file(&root));
                newest.map_err(|error| WorldError::new(TroubleKind::System, error.to_string()))
            }
            Origin::Url(source) => sources.time_of_http(source),
            Origin::Git(reference, commit) => {
                sources.time_of_commit(reference, Access::User, commit).map(Some)
            }
        }
    }

    fn of_stream(
        stream: impl io::Read + Send,
        store: &Store,
        what: &str,
        name: &str,
        origin: Origin,
    ) -> Result<Self, Failure> {
        let draft = store.draft()?;
        let dockerfile = match take_in(stream, &draft, store, Bounds::default(), what)? {
            Content::Archive => None,
            Content::Dockerfile(bytes) => Some((name.to_owned(), bytes)),
        };
        Ok(Self { dir: draft.tree(), dockerfile, draft: Some(draft), origin })
    }

    fn of_url(url: &str, sources: &Sources<'_>) -> Result<Self, Failure> {
        let source = HttpSource { url: url.to_owned(), checksum: None, mtime: None };
        let resolved = sources.resolve_http_up_to(&source, CONTEXT_PACKED_BYTES_MAX)?;
        let blob = sources.store.blobs().open(&resolved.digest)?;
        let (file, _) = blob.ok_or_else(|| {
            WorldError::new(TroubleKind::NotFound, format!("{} is not here any more", redacted(url)))
                .hint("build again")
        })?;
        Self::of_stream(file, sources.store, &redacted(url), &redacted(url), Origin::Url(source))
    }

    fn of_git(reference: &GitReference, sources: &Sources<'_>, keep_git_dir: bool) -> Result<Self, Failure> {
        let repository = sources.repository(reference, Access::User)?;
        let commit = repository.resolve(&sources.store.state_dir())?;
        let keep = keep_git_dir || reference.keep_git_dir == Some(true);
        let draft = repository.checkout(sources.store, &commit, keep, &|| false)?;
        let origin = Origin::Git(Box::new(reference.clone()), commit);
        Ok(Self { dir: draft.tree(), dockerfile: None, draft: Some(draft), origin })
    }
}
