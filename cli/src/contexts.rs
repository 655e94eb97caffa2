//! Where a build's files come from: directories, standard input, images under other names.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use forge_registry::Reference;
use forge_runner::files::LocalContext;
use forge_solver::Named;
use forge_store::layer::unpack::Owner;
use forge_store::layer::{UnpackOptions, is_archive, unpack_archive};
use forge_store::{Draft, RootDir, Store};

use crate::failure::{Failure, Kind};

/// The name that the build context has in the graph.
pub const CONTEXT: &str = "context";

/// What `--build-context` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedSource {
    /// A directory.
    Directory(PathBuf),
    /// An image: `docker-image://` without its prefix, or `oci-layout://` with it.
    Image(String),
}

/// The main context, ready to be read.
pub struct MainContext {
    /// The directory.
    pub dir: PathBuf,
    /// The Dockerfile, where standard input was one.
    pub dockerfile: Option<Vec<u8>>,
    /// Where standard input was unpacked; gone with the build.
    draft: Option<Draft>,
}

impl MainContext {
    /// A directory, or `-`: a tar or a Dockerfile on standard input.
    pub fn open(text: &str, store: &Store) -> Result<Self, Failure> {
        if text == "-" {
            return from_stdin(store);
        }
        Ok(Self { dir: text.into(), dockerfile: None, draft: None })
    }

    /// Whether the directory is this build's own: nothing of it is worth remembering.
    pub fn is_transient(&self) -> bool {
        self.draft.is_some()
    }
}

/// The most that a Dockerfile on standard input may have, in bytes.
const DOCKERFILE_BYTES_MAX: u64 = 16 << 20;

fn from_stdin(store: &Store) -> Result<MainContext, Failure> {
    let fail = |e: io::Error| {
        Failure::new(Kind::Input, format!("cannot read the context from standard input: {e}"), None)
    };
    let draft = store.draft()?;
    let mut spool = tempfile::tempfile_in(draft.work()).map_err(fail)?;
    io::copy(&mut io::stdin().lock(), &mut spool).map_err(fail)?;
    spool.rewind().map_err(fail)?;
    let dir = draft.tree();
    let archive = is_archive(&spool);
    spool.rewind().map_err(fail)?;
    if archive {
        let root = RootDir::open_host(&dir).map_err(|e| Failure::new(Kind::System, e, None))?;
        let options =
            UnpackOptions { owner: Owner::OfProcess, ..UnpackOptions::archive(store.layers().xattrs()) };
        unpack_archive(spool, &root, &options)
            .map_err(|e| Failure::new(Kind::Input, format!("cannot unpack the context: {e}"), None))?;
        return Ok(MainContext { dir, dockerfile: None, draft: Some(draft) });
    }
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(spool, DOCKERFILE_BYTES_MAX + 1), &mut bytes).map_err(fail)?;
    Ok(MainContext { dir, dockerfile: Some(bytes), draft: Some(draft) })
}

/// Reads `NAME=SOURCE`.
pub fn parse_named(text: &str) -> Result<(String, NamedSource), Failure> {
    let usage = |message: String, hint: &str| Failure::new(Kind::Usage, message, Some(hint.to_owned()));
    let Some((name, source)) = text.split_once('=') else {
        return Err(usage(format!("--build-context {text} has no value"), "write NAME=DIR"));
    };
    let name = name.to_lowercase();
    if matches!(name.as_str(), CONTEXT | "scratch" | "") {
        return Err(usage(format!("`{name}` cannot be the name of a build context"), "choose another name"));
    }
    let source = match source.split_once("://") {
        Some(("docker-image", reference)) => NamedSource::Image(reference.to_owned()),
        Some(("oci-layout", _)) => NamedSource::Image(source.to_owned()),
        Some(_) => {
            let message = format!("this version of forge takes no build context from `{source}`");
            return Err(usage(
                message,
                "give a directory, docker-image://REFERENCE or oci-layout://DIR[:TAG]",
            ));
        }
        None => NamedSource::Directory(source.into()),
    };
    Ok((name, source))
}

/// The named contexts of a build, as its plan asks for them.
#[derive(Clone, Default)]
pub struct NamedContexts {
    /// Directories, the main one among them.
    pub directories: HashMap<String, Arc<LocalContext>>,
    /// Images under other names.
    pub images: BTreeMap<String, String>,
}

impl NamedContexts {
    /// What was given under `name`: as it stands, or as another spelling of the same image.
    pub fn find(&self, name: &str) -> Option<Named> {
        let lower = name.to_lowercase();
        let same = |given: &str| given == lower || is_same_image(given, name);
        if let Some(found) = self.directories.keys().find(|given| *given != CONTEXT && same(given)) {
            return Some(Named::Directory(found.clone()));
        }
        self.images
            .iter()
            .find(|(given, _)| same(given))
            .map(|(_, reference)| Named::Image(reference.clone()))
    }
}

fn is_same_image(given: &str, name: &str) -> bool {
    match (given.parse::<Reference>(), name.parse::<Reference>()) {
        (Ok(given), Ok(name)) => given == name,
        _ => false,
    }
}

/// Takes `oci-layout://DIR[:TAG][@DIGEST]` apart.
pub fn split_layout(reference: &str) -> Option<(&Path, Option<&str>, Option<&str>)> {
    let rest = reference.strip_prefix("oci-layout://")?;
    let (rest, digest) = match rest.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (rest, None),
    };
    match rest.rsplit_once(':') {
        Some((dir, tag)) if !tag.contains('/') => Some((Path::new(dir), Some(tag), digest)),
        _ => Some((Path::new(rest), None, digest)),
    }
}
