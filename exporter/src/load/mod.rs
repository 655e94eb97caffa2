//! Into an engine that runs on this machine: Docker, podman or containerd, with only those layers that it lacks.
//!
//! An engine is asked what it has. If that is the image, it gets names and nothing else. What it is asked may be
//! gone a moment later: a load without some layers that fails is made once more with all of them.

mod containerd;
mod docker;
mod http;
mod podman;

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::PathBuf;

use forge_store::{Blobs, Digest, media_type};

use crate::{Called, Contents, ExportError};

pub use http::Address;

/// An engine, and how it is reached.
#[derive(Clone, Debug)]
pub enum Engine {
    /// By its API.
    Docker(Address),
    /// By its program.
    Podman(Program),
    /// By `ctr`.
    Containerd {
        /// `ctr`.
        program: Program,
        /// The socket, where it is not the usual one.
        address: Option<String>,
        /// The namespace.
        namespace: String,
    },
}

/// A program and the environment it gets.
#[derive(Clone, Debug)]
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    /// Its whole environment.
    pub environment: Vec<(OsString, OsString)>,
}

/// What came of a load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The engine had the image already.
    pub was_there: bool,
    /// Bytes of layers that were handed over.
    pub layer_bytes: u64,
    /// Why everything was handed over, although the engine seemed to have a part.
    pub instead: Option<String>,
}

impl Loaded {
    fn nothing() -> Self {
        Self { was_there: true, ..Self::default() }
    }

    /// Everything but these blobs was handed over.
    fn sent(contents: &Contents, left_out: &HashSet<Digest>) -> Self {
        let layers = contents.parts().into_iter().filter(|blob| media_type::is_layer(&blob.media_type));
        let sent = layers.filter(|layer| !left_out.contains(&layer.digest));
        Self { layer_bytes: sent.map(|layer| layer.size).sum(), ..Self::default() }
    }

    /// Everything was handed over, after a part of it was not enough.
    fn after(failure: &ExportError, contents: &Contents) -> Self {
        Self { instead: Some(failure.to_string()), ..Self::sent(contents, &HashSet::new()) }
    }
}

impl Engine {
    /// Its name, for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Docker(_) => "docker",
            Self::Podman(_) => "podman",
            Self::Containerd { .. } => "containerd",
        }
    }

    /// Gives the engine an image under these names.
    pub fn load(&self, contents: &Contents, called: &[Called], blobs: &Blobs) -> Result<Loaded, ExportError> {
        let missing = contents.missing(blobs)?;
        if let Some(blob) = missing.first() {
            return Err(ExportError::MissingBlob(blob.digest));
        }
        match self {
            Self::Docker(address) => docker::load(address, contents, called, blobs),
            Self::Podman(program) => podman::load(program, contents, called, blobs),
            Self::Containerd { program, address, namespace } => {
                let ctr = containerd::Ctr { program, address: address.as_deref(), namespace };
                ctr.load(contents, called, blobs)
            }
        }
    }
}

fn fail(engine: &str, detail: impl std::fmt::Display) -> ExportError {
    ExportError::Destination(format!("cannot load into {engine}: {detail}"))
}
