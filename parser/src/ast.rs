//! A Dockerfile as data: what the user wrote, typed, with its place, and nothing resolved yet.
//!
//! Words are kept *unexpanded*: `$x` is still `$x`, quotes and escapes still stand, because what they mean
//! depends on the stage's environment, which only the solver knows. [`crate::expand`] expands them.

use crate::span::{Span, Spanned};

/// A whole Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    /// The parser directives of the first lines.
    pub directives: Directives,
    /// `ARG`s before the first `FROM`, in order.
    pub global_args: Vec<Spanned<Arg>>,
    /// The build stages, in order; at least one.
    pub stages: Vec<Stage>,
}

/// Parser directives (`# escape=`, `# syntax=`, `# check=`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directives {
    /// The escape character in force: `\` or `` ` ``.
    pub escape: char,
    /// `# syntax=`, as written.
    pub syntax: Option<Spanned<String>>,
    /// `# check=`, as written.
    pub check: Option<Spanned<String>>,
}

/// `FROM` and all that follows it up to the next `FROM`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The `FROM` line.
    pub from: From,
    /// The whole `FROM` instruction's place.
    pub span: Span,
    /// The `FROM` line as written, without trailing blanks.
    pub source: String,
    /// The comment lines directly above `FROM`, without their `#`, for `--call=outline|targets`.
    pub doc: Option<String>,
    /// What follows, in order.
    pub instructions: Vec<Instruction>,
}

/// `FROM [--platform=P] IMAGE [AS NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct From {
    /// Image, stage name or `scratch`, unexpanded.
    pub image: Spanned<String>,
    /// `--platform`, unexpanded.
    pub platform: Option<Spanned<String>>,
    /// `AS name`, lower-cased.
    pub name: Option<Spanned<String>>,
}

/// One instruction of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What it is.
    pub kind: Kind,
    /// All of it, heredoc bodies included.
    pub span: Span,
    /// The logical line as written: continuations joined, comments dropped, heredoc bodies not included.
    pub source: String,
}

/// The instructions, typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `ARG name[=default] …`.
    Arg(Vec<Spanned<Arg>>),
    /// `ENV`.
    Env(Pairs),
    /// `LABEL`.
    Label(Pairs),
    /// `RUN`.
    Run(Run),
    /// `COPY`.
    Copy(Copy),
    /// `ADD`.
    Add(Add),
    /// `CMD`.
    Cmd(Command),
    /// `ENTRYPOINT`.
    Entrypoint(Command),
    /// `HEALTHCHECK`.
    Healthcheck(Healthcheck),
    /// `SHELL ["…"]`.
    Shell(Vec<String>),
    /// `STOPSIGNAL`, unexpanded.
    Stopsignal(Spanned<String>),
    /// `USER`, unexpanded.
    User(Spanned<String>),
    /// `WORKDIR`, unexpanded.
    Workdir(Spanned<String>),
    /// `VOLUME`, unexpanded words; `json` says that the list was in JSON form (then they hold no shell quoting).
    Volume(Words),
    /// `EXPOSE`, unexpanded words.
    Expose(Vec<Spanned<String>>),
    /// `ONBUILD instruction`: the trigger's text (heredoc bodies appended), and it parsed.
    Onbuild {
        /// The text that goes to `config.OnBuild`.
        trigger: Spanned<String>,
        /// The same, parsed: never FROM, MAINTAINER or ONBUILD.
        instruction: Box<Instruction>,
    },
    /// `MAINTAINER`.
    Maintainer(Spanned<String>),
}

/// One `name[=default]` of an `ARG`, unexpanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    /// The name.
    pub name: String,
    /// The default, with its quotes and escapes.
    pub default: Option<String>,
    /// The comment `# name text` directly above, without `# name`.
    pub doc: Option<String>,
}

/// The pairs of an `ENV` or a `LABEL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairs {
    /// `(key, value)`, both unexpanded, with quotes and escapes.
    pub pairs: Vec<(Spanned<String>, Spanned<String>)>,
    /// Written as `ENV key value` (one pair, value is the rest of the line).
    pub legacy: bool,
}

/// A list of words that may have been written as a JSON array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// The words.
    pub words: Vec<Spanned<String>>,
    /// Written as JSON.
    pub json: bool,
}

/// The command of RUN, CMD, ENTRYPOINT and HEALTHCHECK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Shell form: the text for the shell, verbatim (continuations joined).
    Shell(String),
    /// JSON form: the arguments to execute as they are.
    Exec(Vec<String>),
}

/// A here-document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter without quotes: also the file's name in COPY and ADD.
    pub name: String,
    /// Content up to the delimiter line, after `<<-` chomping.
    pub content: String,
    /// Unquoted delimiter: the builder expands variables in the content (COPY and ADD only).
    pub expand: bool,
    /// `<<-`: leading tabs were removed.
    pub chomp: bool,
    /// The file descriptor before `<<`, where one was written.
    pub fd: Option<u32>,
}

/// `RUN [flags] command`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The command; for a RUN with heredocs the line without their bodies.
    pub command: Command,
    /// Heredocs in order of appearance.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`, in order; values unexpanded.
    pub mounts: Vec<Spanned<Mount>>,
    /// `--network`.
    pub network: Option<Spanned<Network>>,
    /// `--security`.
    pub security: Option<Spanned<Security>>,
    /// `--device`, as written.
    pub devices: Vec<Spanned<String>>,
}

/// `RUN --network`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Network {
    /// An own network namespace with outbound traffic.
    Default,
    /// Loopback only.
    None,
    /// The host's network.
    Host,
}

/// `RUN --security`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Security {
    /// The ordinary sandbox.
    Sandbox,
    /// All capabilities and no filter.
    Insecure,
}

/// `RUN --mount=…`: the options as written, keys checked against the type; values unexpanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// `type=`.
    pub kind: MountKind,
    /// `target`, `dst`, `destination`.
    pub target: Option<String>,
    /// `source`, `src`.
    pub source: Option<String>,
    /// `from` (never expanded).
    pub from: Option<String>,
    /// `id`.
    pub id: Option<String>,
    /// `ro`/`readonly` → `Some(true)`, `rw`/`readwrite` → `Some(false)`.
    pub readonly: Option<bool>,
    /// `sharing`.
    pub sharing: Option<Sharing>,
    /// `size`, unexpanded text.
    pub size: Option<String>,
    /// `mode`, unexpanded text (octal).
    pub mode: Option<String>,
    /// `uid`, unexpanded text.
    pub uid: Option<String>,
    /// `gid`, unexpanded text.
    pub gid: Option<String>,
    /// `required`.
    pub required: bool,
    /// `env`: `Some("")` where the key stood bare.
    pub env: Option<String>,
    /// The whole option list, as the flag gave it. [`Mount::expand`](crate::ast::Mount::expand) reads it again
    /// with the variables expanded.
    pub raw: String,
}

/// The kinds of `RUN --mount`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MountKind {
    /// Files of the context, a stage or an image.
    Bind,
    /// A directory kept between builds.
    Cache,
    /// An empty tmpfs.
    Tmpfs,
    /// A secret's file or variable.
    Secret,
    /// The ssh agent's socket.
    Ssh,
}

/// `sharing=` of a cache mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// Used by several at once.
    #[default]
    Shared,
    /// A new one where the first is in use.
    Private,
    /// One after the other.
    Locked,
}

/// `COPY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Sources, unexpanded, in order; heredocs among them as [`Source::Heredoc`].
    pub sources: Vec<Spanned<Source>>,
    /// Destination, unexpanded.
    pub dest: Spanned<String>,
    /// Written as JSON: words carry no shell quoting of their own.
    pub json: bool,
    /// `--from`, never expanded.
    pub from: Option<Spanned<String>>,
    /// Flags shared with ADD.
    pub flags: CopyFlags,
    /// `--parents`.
    pub parents: bool,
}

/// `ADD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Add {
    /// Sources, unexpanded, in order.
    pub sources: Vec<Spanned<Source>>,
    /// Destination, unexpanded.
    pub dest: Spanned<String>,
    /// Written as JSON.
    pub json: bool,
    /// Flags shared with COPY.
    pub flags: CopyFlags,
    /// `--checksum`, unexpanded.
    pub checksum: Option<Spanned<String>>,
    /// `--keep-git-dir`.
    pub keep_git_dir: Option<bool>,
    /// `--unpack`.
    pub unpack: Option<bool>,
}

/// One source of COPY or ADD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A path, URL or git reference, unexpanded.
    Path(String),
    /// A file written in place.
    Heredoc(Heredoc),
}

/// Flags that COPY and ADD share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyFlags {
    /// `--chown`, unexpanded.
    pub chown: Option<Spanned<String>>,
    /// `--chmod`, unexpanded.
    pub chmod: Option<Spanned<String>>,
    /// `--link`.
    pub link: bool,
    /// `--exclude`, in order, never expanded.
    pub excludes: Vec<Spanned<String>>,
}

/// `HEALTHCHECK`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Healthcheck {
    /// `HEALTHCHECK NONE`.
    None,
    /// `HEALTHCHECK [flags] CMD …`. Durations in nanoseconds; 0 = the runtime's default.
    Cmd {
        /// The command.
        command: Command,
        /// `--interval`.
        interval_ns: i64,
        /// `--timeout`.
        timeout_ns: i64,
        /// `--start-period`.
        start_period_ns: i64,
        /// `--start-interval`.
        start_interval_ns: i64,
        /// `--retries`.
        retries: i64,
    },
}
