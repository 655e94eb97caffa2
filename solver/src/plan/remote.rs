//! Remote sources of ADD: what the words ask for, and one vertex for each source.
//!
//! What is at an address is found out last, and for all of them side by side: until then a vertex stands there
//! without an op of its own.

use forge_parser::ast::Add;
use forge_parser::{GitReference, Span, Spanned, file_name_of_url, is_git_reference, redacted};
use forge_store::Digest;

use super::error::PlanProblem;
use super::lower::Lowering;
use super::side_by_side::at_once;
use super::stages::Planner;
use crate::VertexId;
use crate::op::{Access, GitOp, HttpOp, HttpSource, Op, ResolvedHttp, Selection};

/// A source that must be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Remote {
    /// A file, and what it will be called.
    Http(HttpSource, String),
    /// A repository; whether `.git` is kept; whose keys open it.
    Git(GitReference, bool, Access),
}

/// What was found.
enum Resolved {
    Http(ResolvedHttp),
    Git(String),
}

impl Lowering<'_, '_> {
    /// What a source of ADD that is no path asks for, and what of it is copied.
    pub(super) fn remote(
        &mut self,
        word: &str,
        add: &Add,
        span: Span,
    ) -> Result<(Remote, Selection), PlanProblem> {
        let checksum = match &add.checksum {
            Some(flag) => Some(Spanned::new(self.word(&flag.value)?, flag.span)),
            None => None,
        };
        let excludes = add.flags.excludes.iter().map(|pattern| pattern.value.clone()).collect();
        if is_git_reference(word) {
            let remote = repository(word, add.keep_git_dir, checksum, span)?;
            let selection = Selection { required: true, excludes, ..Selection::path(String::new()) };
            return Ok((remote, selection));
        }
        if add.keep_git_dir.is_some() {
            let problem = PlanProblem::input("--keep-git-dir requires a Git source", span);
            return Err(problem.hint("remove the flag"));
        }
        let checksum = checksum.map(|flag| {
            flag.value.parse::<Digest>().map_err(|error| {
                PlanProblem::input(error.to_string(), flag.span).hint("write sha256: and 64 hex digits")
            })
        });
        let source = HttpSource { url: word.to_owned(), checksum: checksum.transpose()?, mtime: None };
        // The tree holds this one file, whatever it is called.
        let selection = Selection { required: true, ..Selection::path("*".into()) };
        Ok((Remote::Http(source, file_name_of_url(word)), selection))
    }
}

pub(super) fn repository(
    word: &str,
    keep_git_dir: Option<bool>,
    checksum: Option<Spanned<String>>,
    span: Span,
) -> Result<Remote, PlanProblem> {
    let wrong = |error: &dyn std::fmt::Display, span| PlanProblem::input(error.to_string(), span);
    let mut reference = GitReference::parse(word).map_err(|error| wrong(&error, span))?;
    if let Some(flag) = checksum {
        reference.set_checksum(&flag.value).map_err(|error| wrong(&error, flag.span))?;
    }
    let keep = match (keep_git_dir, reference.keep_git_dir) {
        (Some(flag), Some(query)) if flag != query => {
            let problem = PlanProblem::input("inconsistent keep-git-dir configuration", span);
            return Err(problem.hint("the flag and the URL say different things: remove one of them"));
        }
        (flag, query) => flag.or(query).unwrap_or(false),
    };
    Ok(Remote::Git(reference, keep, Access::Given))
}

impl Remote {
    /// The source for people and for history: without credentials.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Http(source, _) => redacted(&source.url),
            Self::Git(reference, ..) => {
                let fragment = match (&reference.reference, reference.subdir.as_str()) {
                    (None, "") => String::new(),
                    (name, "") => format!("#{}", name.as_deref().unwrap_or_default()),
                    (name, subdir) => format!("#{}:{subdir}", name.as_deref().unwrap_or_default()),
                };
                format!("{}{fragment}", reference.shown_remote())
            }
        }
    }
}

impl Planner<'_> {
    /// The vertex that holds a remote source's files; the same for the same source.
    pub(super) fn remote_vertex(&mut self, remote: Remote, span: Span) -> VertexId {
        if let Some((_, vertex, _)) = self.remotes.iter().find(|(known, ..)| *known == remote) {
            return *vertex;
        }
        let vertex = self.add_source(Op::Scratch, remote.shown(), span);
        self.remotes.push((remote, vertex, span));
        vertex
    }

    /// Finds out what all remote sources are now; gives what is wrong with any.
    pub(super) fn resolve_remotes(&mut self) -> Vec<PlanProblem> {
        if self.options.check_only || self.offline {
            return Vec::new();
        }
        let remotes = std::mem::take(&mut self.remotes);
        let world = self.world;
        let resolve = |(remote, ..): &(Remote, VertexId, Span)| match remote {
            Remote::Http(source, _) => world.resolve_http(source).map(Resolved::Http),
            Remote::Git(reference, _, access) => world.resolve_git(reference, *access).map(Resolved::Git),
        };
        let found = at_once(&remotes, MOST_AT_ONCE, resolve);
        let mut problems = Vec::new();
        for ((remote, vertex, span), found) in remotes.into_iter().zip(found) {
            match found {
                Ok(resolved) => self.graph.set_op(vertex, op(remote, resolved)),
                Err(error) => problems.push(PlanProblem::world(error, Some(span))),
            }
        }
        problems
    }
}

/// How many sources are asked for at once.
const MOST_AT_ONCE: usize = 8;

fn op(remote: Remote, resolved: Resolved) -> Op {
    match (remote, resolved) {
        (Remote::Http(_, name), Resolved::Http(ResolvedHttp { digest, mtime })) => {
            Op::Http(HttpOp { digest, name, mtime })
        }
        (Remote::Git(reference, keep_git_dir, access), Resolved::Git(commit)) => {
            Op::Git(GitOp { reference, commit, keep_git_dir, access })
        }
        _ => unreachable!("each kind of source is resolved as what it is"),
    }
}
