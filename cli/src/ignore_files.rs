//! The ignore file that applies to a context: the Dockerfile's own, or else the context's.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use forge_parser::IgnorePatterns;
use forge_store::RootDir;

use crate::contexts::MainContext;
use crate::dockerfile::{Home, read_regular};
use crate::failure::{Failure, Kind};
use crate::limits::IGNORE_FILE_BYTES_MAX;

/// The ignore file of a context of one's own.
const USUAL: &str = ".dockerignore";

/// What the main context leaves out.
pub fn of_main(context: &MainContext, dockerfile: &Home) -> Result<IgnorePatterns, Failure> {
    let own = match dockerfile {
        Home::Host(path) => Some(beside(path)),
        Home::Inside(_) | Home::Nowhere => None,
    };
    if !context.is_transient() {
        return of_host(own, &context.dir);
    }
    // Somebody else packed it: no link in it leads out of it.
    if let Some(own) = own
        && let Some(patterns) = read_host(&own)?
    {
        return Ok(patterns);
    }
    let inside = match dockerfile {
        Home::Inside(name) => Some(format!("{name}{USUAL}")),
        _ => None,
    };
    for name in inside.iter().map(String::as_str).chain([USUAL]) {
        if let Some(patterns) = read_inside(&context.dir, name)? {
            return Ok(patterns);
        }
    }
    Ok(IgnorePatterns::default())
}

/// What a named directory leaves out.
pub fn of_directory(dir: &Path) -> Result<IgnorePatterns, Failure> {
    of_host(None, dir)
}

/// What a directory of an earlier build leaves out.
pub fn of_kept(dir: &Path, dockerfile: Option<&Path>) -> Result<IgnorePatterns, Failure> {
    of_host(dockerfile.map(beside), dir)
}

fn beside(dockerfile: &Path) -> PathBuf {
    let mut name = dockerfile.as_os_str().to_owned();
    name.push(USUAL);
    name.into()
}

fn of_host(own: Option<PathBuf>, context: &Path) -> Result<IgnorePatterns, Failure> {
    for path in own.into_iter().chain([context.join(USUAL)]) {
        // A link could lead out of the context, to a file that is not the user's to show.
        let is_link = path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
        let patterns = read_host(&path)?;
        if patterns.is_some() && is_link && !stays_inside(&path, context) {
            let message = format!("the ignore file {} is a link out of the context", path.display());
            return Err(Failure::new(Kind::Input, message, Some("put a regular file there".into())));
        }
        if let Some(patterns) = patterns {
            return Ok(patterns);
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

fn read_host(path: &Path) -> Result<Option<IgnorePatterns>, Failure> {
    match read_regular(path, IGNORE_FILE_BYTES_MAX) {
        Ok(bytes) => parse(&bytes, &path.display()).map(Some),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(unreadable(&path.display(), &e)),
    }
}

fn read_inside(dir: &Path, name: &str) -> Result<Option<IgnorePatterns>, Failure> {
    let root = RootDir::open_host(dir).map_err(|e| unreadable(&name, &e))?;
    let file = match root.open_file(name) {
        Ok((file, _)) => file,
        Err(e) if e.not_found() => return Ok(None),
        Err(e) => return Err(unreadable(&name, &e)),
    };
    let mut bytes = Vec::new();
    file.take(IGNORE_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|e| unreadable(&name, &e))?;
    parse(&bytes, &name).map(Some)
}

fn parse(bytes: &[u8], name: &dyn std::fmt::Display) -> Result<IgnorePatterns, Failure> {
    let patterns = IgnorePatterns::parse(bytes);
    patterns.map_err(|e| Failure::new(Kind::Input, format!("error reading {name}: {e}"), None))
}

fn unreadable(name: &dyn std::fmt::Display, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Kind::Input, format!("cannot read {name}: {error}"), None)
}
