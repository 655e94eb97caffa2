//! The Dockerfile of a build: beside the context or in it, on standard input, at a URL.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use forge_parser::{LineIndex, Parsed, Warning, is_url, redacted};
use forge_runner::sources::Sources;
use forge_solver::Plan;
use forge_solver::op::HttpSource;
use forge_store::RootDir;

use crate::contexts::{MainContext, Place};
use crate::diagnostics::{Report, SourceFile};
use crate::failure::{Failure, Kind};
use crate::limits::DOCKERFILE_BYTES_MAX;

/// A Dockerfile, read.
pub struct LoadedDockerfile {
    /// Its text, for messages.
    pub source: SourceFile,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Where it is.
    pub home: Home,
}

/// Where a Dockerfile is: an ignore file of its own would be beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Home {
    /// On this machine.
    Host(PathBuf),
    /// In a context that was fetched or unpacked.
    Inside(String),
    /// Standard input, or a URL.
    Nowhere,
}

/// Reads the Dockerfile that `-f` names, or the context's own.
pub fn load(
    place: &Place,
    context: &MainContext,
    file: Option<&str>,
    sources: &Sources<'_>,
) -> Result<LoadedDockerfile, Failure> {
    if let Some((name, bytes)) = &context.dockerfile {
        return match file {
            None => Ok(loaded(name.clone(), bytes.clone(), Home::Nowhere)),
            Some(_) => {
                let message = "ambiguous Dockerfile source: the context and -f both are Dockerfiles";
                Err(Failure::new(
                    Kind::Usage,
                    message,
                    Some("leave -f out, or give files as the context".into()),
                ))
            }
        };
    }
    match file {
        Some("-") => from_stdin(),
        Some(url) if is_url(url) => from_url(url, sources),
        // An absolute path is the user's, wherever the context is; in what came on standard input nothing else is.
        Some(path) if !context.is_transient() || (place.is_remote() && Path::new(path).is_absolute()) => {
            from_host(path.into(), &context.dir)
        }
        Some(name) => from_inside(&context.dir, name),
        None if context.is_transient() => match from_inside(&context.dir, "dockerfile") {
            Ok(lower) if !exists_inside(&context.dir, "Dockerfile") => Ok(lower),
            _ => from_inside(&context.dir, "Dockerfile"),
        },
        None => from_host(default_path(&context.dir), &context.dir),
    }
}

fn from_stdin() -> Result<LoadedDockerfile, Failure> {
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(DOCKERFILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|e| {
        Failure::new(Kind::System, format!("cannot read the Dockerfile from standard input: {e}"), None)
    })?;
    Ok(loaded("-".into(), bytes, Home::Nowhere))
}

fn from_url(url: &str, sources: &Sources<'_>) -> Result<LoadedDockerfile, Failure> {
    let source = HttpSource { url: url.to_owned(), checksum: None, mtime: None };
    let resolved = sources.resolve_http_up_to(&source, DOCKERFILE_BYTES_MAX)?;
    let bytes = sources.store.blobs().read(&resolved.digest, DOCKERFILE_BYTES_MAX)?;
    let bytes = bytes.ok_or_else(|| Failure::new(Kind::NotFound, "the Dockerfile is gone again", None))?;
    Ok(loaded(redacted(url), bytes, Home::Nowhere))
}

fn from_host(path: PathBuf, context: &Path) -> Result<LoadedDockerfile, Failure> {
    let bytes = read_regular(&path, DOCKERFILE_BYTES_MAX).map_err(|error| missing(&path, &error, context))?;
    Ok(loaded(path.display().to_string(), bytes, Home::Host(path)))
}

/// Reads a Dockerfile of a context that somebody else packed: no link in it leads out of it.
fn from_inside(dir: &Path, name: &str) -> Result<LoadedDockerfile, Failure> {
    let fail = |e: String| {
        let hint = Some("name the Dockerfile inside the context with -f FILE".to_owned());
        Failure::new(Kind::Input, format!("failed to read dockerfile: open {name}: {e}"), hint)
    };
    let root = RootDir::open_host(dir).map_err(|e| fail(e.to_string()))?;
    let (file, _) = root.open_file(name).map_err(|e| fail(e.to_string()))?;
    let mut bytes = Vec::new();
    file.take(DOCKERFILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|e| fail(e.to_string()))?;
    Ok(loaded(name.to_owned(), bytes, Home::Inside(name.to_owned())))
}

fn exists_inside(dir: &Path, name: &str) -> bool {
    RootDir::open_host(dir).is_ok_and(|root| root.stat_nofollow(name).is_ok())
}

fn loaded(name: String, bytes: Vec<u8>, home: Home) -> LoadedDockerfile {
    let text = match String::from_utf8_lossy(&bytes) {
        std::borrow::Cow::Borrowed(text) => text.to_owned(),
        // Spans count the bytes as they are: each byte that is no UTF-8 becomes one `?`.
        std::borrow::Cow::Owned(_) => {
            bytes.iter().map(|b| if b.is_ascii() { char::from(*b) } else { '?' }).collect()
        }
    };
    LoadedDockerfile { source: SourceFile::new(name, text), bytes, home }
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
pub fn read_regular(path: &Path, most: u64) -> io::Result<Vec<u8>> {
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
