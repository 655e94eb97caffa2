//! The world, as the solver sees it: traits that other rooms implement and tests fake.

use std::any::Any;

use forge_store::{ContentId, Platform, Snapshot};

use crate::event::{Events, StepId};
use crate::graph::VertexId;
use crate::key::CacheKey;
use forge_parser::GitReference;

use crate::op::{Access, HttpSource, Op, ResolvedHttp, ResolvedImage, RunOp, Selection};
use crate::record::Record;

/// Why something outside could not be had. The command line sorts it by `kind`.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct WorldError {
    /// What sort of trouble.
    pub kind: TroubleKind,
    /// What happened: verb, object, cause.
    pub message: String,
    /// What the user can do.
    pub hint: Option<String>,
    /// The last output of a failed command.
    pub output: Vec<u8>,
}

impl WorldError {
    /// Trouble without a hint.
    pub fn new(kind: TroubleKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, output: Vec::new() }
    }

    /// The same with a next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Sorts of trouble, each with an exit code of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TroubleKind {
    /// The Dockerfile, the context or an option is wrong.
    Input,
    /// An image or a file that was named is not there.
    NotFound,
    /// A registry refused or could not be reached.
    Registry,
    /// Bytes are not what they claim to be.
    Corrupt,
    /// A command exited with this code.
    Command(i32),
    /// This machine lacks a permission or a feature.
    Sandbox,
    /// The disk is full.
    DiskFull,
    /// The operating system refused something else.
    System,
    /// The user stopped it.
    Cancelled,
}

/// What a named build context is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// A directory: the context of this name.
    Directory(String),
    /// An image, by a reference that [`World::resolve_image`] takes.
    Image(String),
    /// A file at a URL; an archive stands for what is in it.
    Http(String),
    /// A git repository.
    Git(Box<GitReference>),
}

/// Something that has a time of its own, which `SOURCE_DATE_EPOCH` may be taken from.
#[derive(Clone, Copy, Debug)]
pub enum Dated<'a> {
    /// The main build context.
    Context,
    /// A file at a URL.
    Http(&'a HttpSource),
    /// A commit.
    Git(&'a GitReference, Access),
}

/// What planning asks of the world.
pub trait World: Sync {
    /// Finds a base image: local first, then its registry. Fetches the manifest and the configuration only.
    fn resolve_image(&self, reference: &str, platform: &Platform) -> Result<ResolvedImage, WorldError>;

    /// The same, if that takes nobody's answer.
    fn image_at_hand(&self, reference: &str, platform: &Platform) -> Option<ResolvedImage>;

    /// What `--build-context` gave under this name of a stage, an image or a source, for builds of the platform;
    /// none if it gave nothing.
    fn named(&self, name: &str, platform: &Platform) -> Option<Named>;

    /// Finds out what is at a URL now, and sees to it that its bytes are in the store.
    fn resolve_http(&self, source: &HttpSource) -> Result<ResolvedHttp, WorldError>;

    /// Finds out which commit a repository's reference stands for now: whole, in hex.
    fn resolve_git(&self, reference: &GitReference, access: Access) -> Result<String, WorldError>;

    /// How old something is, in seconds since 1970: a commit's time, `Last-Modified`, or else the newest file of an
    /// archive. None if it has no time of its own.
    fn time_of(&self, dated: Dated<'_>) -> Result<Option<i64>, WorldError>;

    /// True if the context's ignore file excludes the path for certain: nothing in it takes anything back.
    fn is_ignored(&self, context: &str, path: &str) -> bool;

    /// Something that stands for what the context's ignore file says, for explanations only.
    fn ignore_fact(&self, _context: &str) -> Option<String> {
        None
    }

    /// Fails if a file that the selection requires is not in the local directory. Reads none.
    fn find(&self, context: &str, selection: &Selection) -> Result<(), WorldError>;

    /// What a selection of a local directory holds, by content. Fails if a required file is missing.
    fn select(&self, context: &str, selection: &Selection) -> Result<ContentId, WorldError>;
}

/// What solving asks of the world: carrying out one vertex.
pub trait Executor: Sync {
    /// Told what is to come before anything is carried out, so that it can make ready. Some of it may turn out to be
    /// there already.
    fn expect(&self, _outlook: &Outlook<'_>) {}

    /// Carries out one op. `inputs` stand in the vertex's order; a context's place holds `None`.
    fn execute(&self, job: &Job<'_>) -> Result<Snapshot, WorldError>;

    /// What a selection of an input's files holds, by content.
    fn select(&self, input: &Snapshot, selection: &Selection) -> Result<ContentId, WorldError>;

    /// True if the snapshot can still be had: its layers are here, or can be fetched again.
    fn is_available(&self, snapshot: &Snapshot) -> Result<bool, WorldError>;

    /// Asks for everything that runs to be ended.
    fn cancel(&self);
}

/// Hears of results while other vertices still run. Called from one thread; it must be quick.
pub trait Results: Sync {
    /// What a vertex gave: made or found just now, or, where `cached`, at hand from the start.
    fn came(&self, id: VertexId, record: &Record, cached: bool);
}

/// Nobody listens.
impl Results for () {
    fn came(&self, _: VertexId, _: &Record, _: bool) {}
}

/// What is to come.
#[derive(Clone, Debug, Default)]
pub struct Outlook<'a> {
    /// Every RUN.
    pub steps: Vec<&'a RunOp>,
    /// Those that wait for no other RUN, as many as may run at once.
    pub first: Vec<&'a RunOp>,
}

/// One vertex to carry out.
pub struct Job<'a> {
    /// What to do.
    pub op: &'a Op,
    /// What to do it to.
    pub inputs: &'a [Option<Snapshot>],
    /// The names of those inputs that are contexts.
    pub contexts: &'a [Option<String>],
    /// Whether another step of this build reads the result's files. If not, nobody needs a tree of them.
    pub is_read: bool,
    /// Its line of progress.
    pub step: StepId,
    /// Its name, for messages.
    pub label: &'a str,
    /// Where to report.
    pub events: &'a dyn Events,
}

/// Cache records by key.
pub trait Records: Sync {
    /// The record under `key`.
    fn get(&self, key: &CacheKey) -> Result<Option<Record>, WorldError>;

    /// The records under several keys, each as [`Records::get`] gives it.
    fn get_all(&self, keys: &[CacheKey]) -> Result<Vec<Option<Record>>, WorldError> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    /// Writes the record under each of `keys`.
    fn put(&self, keys: &[CacheKey], record: &Record) -> Result<(), WorldError>;

    /// Waits until nobody else, in this process or another, works on `key`. Held until the value is dropped.
    fn lock(&self, key: &CacheKey) -> Result<Box<dyn Any + Send>, WorldError>;

    /// The time now, in nanoseconds since 1970: when a record is made.
    fn now_ns(&self) -> i128;
}
