//! Where a build's text comes from: the Dockerfile and the ignore files.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use forge_parser::{IgnorePatterns, LineIndex, Parsed, Warning};
use forge_solver::Plan;

use forge_store::RootDir;

use crate::contexts::MainContext;
use crate::diagnostics::{Report, SourceFile};
use crate::failure::{Failure, Kind};

/// The most that a Dockerfile may have, in bytes.
const MOST_BYTES: u64 = 16 << 20;

/// The most that an ignore file may have, in bytes.
const MOST_IGNORE_BYTES: u64 = 16 << 20;

/// A Dockerfile, read.
pub struct LoadedDockerfile {
    /// Its text, for messages.
    pub source: SourceFile,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Where it is; none for standard input.
    pub path: Option<PathBuf>,
}

/// Reads the Dockerfile that `-f` names, or the context's own.
pub fn load(context: &MainContext, file: Option<&str>) -> Result<LoadedDockerfile, Failure> {
    if let Some(bytes) = &context.dockerfile {
        return Ok(loaded("-".into(), bytes.clone(), None));
    }
    if context.is_transient() {
        return load_inside(&context.dir, file.unwrap_or("Dockerfile"));
    }
    let context = context.dir.as_path();
    if file == Some("-") {
        let mut bytes = Vec::new();
        let read = io::stdin().lock().take(MOST_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|e| {
            Failure::new(Kind::System, format!("cannot read the Dockerfile from standard input: {e}"), None)
        })?;
        return Ok(loaded("-".into(), bytes, None));
    }
    let path = match file {
        Some(file) => PathBuf::from(file),
        None => default_path(context),
    };
    let bytes = read_regular(&path, MOST_BYTES).map_err(|error| missing(&path, &error, context))?;
    Ok(loaded(path.display().to_string(), bytes, Some(path)))
}

/// Reads a Dockerfile of a context that somebody else packed: no link in it leads out of it.
fn load_inside(dir: &Path, name: &str) -> Result<LoadedDockerfile, Failure> {
    let fail = |e: String| {
        let hint = Some("name the Dockerfile inside the context with -f FILE".to_owned());
        Failure::new(Kind::Input, format!("failed to read dockerfile: open {name}: {e}"), hint)
    };
    let root = RootDir::open_host(dir).map_err(|e| fail(e.to_string()))?;
    let (file, _) = root.open_file(name).map_err(|e| fail(e.to_string()))?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|e| fail(e.to_string()))?;
    Ok(loaded(name.to_owned(), bytes, Some(dir.join(name))))
}

fn loaded(name: String, bytes: Vec<u8>, path: Option<PathBuf>) -> LoadedDockerfile {
    let text = match String::from_utf8_lossy(&bytes) {
        std::borrow::Cow::Borrowed(text) => text.to_owned(),
        // Spans count the bytes as they are: each byte that is no UTF-8 becomes one `?`.
        std::borrow::Cow::Owned(_) => {
            bytes.iter().map(|b| if b.is_ascii() { char::from(*b) } else { '?' }).collect()
        }
    };
    LoadedDockerfile { source: SourceFile { name, text }, bytes, path }
}

/// Where the Dockerfile of a context is if nobody says.
pub fn default_path(context: &Path) -> PathBuf {
    let (usual, lower) = (context.join("Dockerfile"), context.join("dockerfile"));
    if !usual.exists() && lower.exists() { lower } else { usual }
}

fn missing(path: &Path, error: &io::Error, context: &Path) -> Failure {
    let message = format!("failed to read dockerfile: open {}: {error}", path.display());
    let hint = if !context.is_dir() {
        format!("the context {} is not a directory", context.display())
    } else {
        "name the Dockerfile with -f FILE, or give the directory that holds it as the context".into()
    };
    Failure::new(Kind::Input, message, Some(hint))
}

/// Reads a regular file of at most `most` bytes; FIFOs and devices are not waited for.
fn read_regular(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    use std::os::unix::fs::OpenOptionsExt;
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(nonblock).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it is larger than {most} bytes")));
    }
    Ok(bytes)
}

/// Parses a Dockerfile; every problem is in the failure. `checks` stands in for its `# check=` line.
pub fn parse(loaded: &LoadedDockerfile, checks: Option<&str>) -> Result<Parsed, Failure> {
    forge_parser::parse_with_checks(&loaded.bytes, checks).map_err(|problems| {
        let draw = |p: &forge_parser::Problem| {
            loaded.source.error(&Report { message: &p.message, span: Some(p.span), hint: p.hint.as_deref() })
        };
        Failure { kind: Kind::Input, reports: problems.iter().map(draw).collect() }
    })
}

/// The ignore file that applies: the Dockerfile's own, or else the context's.
pub fn ignore_patterns(context: &Path, dockerfile: Option<&Path>) -> Result<IgnorePatterns, Failure> {
    let own = dockerfile.map(|path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    let candidates = own.into_iter().chain([context.join(".dockerignore")]);
    for path in candidates {
        // A link could lead out of the context, to a file that is not the user's to show.
        let is_link = path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
        match read_regular(&path, MOST_IGNORE_BYTES) {
            Ok(_) if is_link && !stays_inside(&path, context) => {
                let message = format!("the ignore file {} is a link out of the context", path.display());
                return Err(Failure::new(Kind::Input, message, Some("put a regular file there".into())));
            }
            Ok(bytes) => {
                return IgnorePatterns::parse(&bytes).map_err(|e| {
                    Failure::new(Kind::Input, format!("error reading {}: {e}", path.display()), None)
                });
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => {
                return Err(Failure::new(Kind::Input, format!("cannot read {}: {e}", path.display()), None));
            }
        }
    }
    Ok(IgnorePatterns::default())
}

fn stays_inside(path: &Path, context: &Path) -> bool {
    match (path.canonicalize(), context.canonicalize()) {
        (Ok(path), Ok(context)) => path.starts_with(context),
        _ => false,
    }
}

/// What the checks found, in the order of the text: those that need the text alone and those of the plan.
pub fn all_warnings(parsed: &Parsed, plan: &Plan) -> Vec<Warning> {
    let mut all: Vec<Warning> = parsed.warnings.iter().chain(&plan.warnings).cloned().collect();
    all.sort_by_key(|warning| (warning.span.start, warning.rule));
    all
}

/// The lines that a build's warnings make, at its end.
pub fn warning_lines(warnings: &[Warning], bytes: &[u8]) -> Vec<String> {
    if warnings.is_empty() {
        return Vec::new();
    }
    let index = LineIndex::new(bytes);
    let noun = if warnings.len() == 1 { "warning" } else { "warnings" };
    let mut lines = vec![format!(" {} {noun} found:", warnings.len())];
    lines.extend(warnings.iter().map(|warning| {
        let (line, _) = index.line_col(warning.span.start);
        format!(" - {}: {} (line {line})", warning.rule, warning.message)
    }));
    lines
}
