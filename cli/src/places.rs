//! Where images are, in skopeo's words: `docker://`, `oci:`, `oci-archive:`, `docker-archive:`, the store, and the
//! engines of this machine.

use std::path::PathBuf;

use forge_registry::Reference;

use crate::engines::EngineChoice;
use crate::failure::{Failure, Kind};
use crate::registries::parse_reference;

/// A place that an image is copied from or to.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// `docker://NAME`
    Registry(Reference),
    /// `NAME` or `store:NAME`
    Store(Reference),
    /// `oci:DIR[:TAG][@DIGEST]`
    Layout {
        /// The directory.
        dir: PathBuf,
        /// The name in its index.
        tag: Option<String>,
        /// The digest in its index.
        digest: Option<String>,
    },
    /// `oci-archive:FILE[:TAG]`
    OciArchive {
        /// The tar; `-` is standard input or output.
        file: PathBuf,
        /// The name in its index.
        tag: Option<String>,
    },
    /// `docker-archive:FILE[:NAME]`
    DockerArchive {
        /// The tar; `-` is standard input or output.
        file: PathBuf,
        /// The name in it.
        name: Option<Reference>,
    },
    /// `docker-daemon:NAME`, `containers-storage:NAME`, `containerd:NAME`
    Engine(EngineChoice, Reference),
}

impl Place {
    /// Reads a place.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        if let Some(name) = text.strip_prefix("docker://") {
            return Ok(Self::Registry(parse_reference(name)?));
        }
        let Some((kind, rest)) = text.split_once(':') else { return Ok(Self::Store(parse_reference(text)?)) };
        let place = match kind {
            "store" => Self::Store(parse_reference(rest)?),
            "oci" => {
                let (rest, digest) = match rest.split_once('@') {
                    Some((rest, digest)) => (rest, Some(digest.to_owned())),
                    None => (rest, None),
                };
                let (dir, tag) = path_and_name(rest);
                Self::Layout { dir, tag: tag.map(str::to_owned), digest }
            }
            "oci-archive" => {
                let (file, tag) = path_and_name(rest);
                Self::OciArchive { file, tag: tag.map(str::to_owned) }
            }
            "docker-archive" => {
                let (file, name) = path_and_name(rest);
                Self::DockerArchive { file, name: name.map(parse_reference).transpose()? }
            }
            "docker-daemon" => Self::Engine(EngineChoice::Docker, parse_reference(rest)?),
            "containers-storage" => Self::Engine(EngineChoice::Podman, parse_reference(rest)?),
            "containerd" => Self::Engine(EngineChoice::Containerd, parse_reference(rest)?),
            "dir" | "ostree" | "sif" | "tarball" | "atomic" => {
                return Err(Failure::new(
                    Kind::Usage,
                    format!("forge does not copy by `{kind}:`"),
                    Some("there are docker://, oci:, oci-archive:, docker-archive:, docker-daemon:, containers-storage:, containerd: and names of the store".into()),
                ));
            }
            // A name with a port or a tag.
            _ => Self::Store(parse_reference(text)?),
        };
        match &place {
            Self::Layout { dir: path, .. }
            | Self::OciArchive { file: path, .. }
            | Self::DockerArchive { file: path, .. }
                if path.as_os_str().is_empty() =>
            {
                Err(Failure::new(
                    Kind::Usage,
                    format!("`{text}` has no path"),
                    Some(format!("write {kind}:PATH")),
                ))
            }
            _ => Ok(place),
        }
    }
}

/// At the first colon, as skopeo does it.
fn path_and_name(text: &str) -> (PathBuf, Option<&str>) {
    match text.split_once(':') {
        Some((path, name)) if !name.is_empty() => (path.into(), Some(name)),
        Some((path, _)) => (path.into(), None),
        None => (text.into(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_skopeo_reads_them() {
        let name = |text: &str| text.parse::<Reference>().unwrap();
        for (text, want) in [
            ("app", Place::Store(name("app"))),
            ("app:2", Place::Store(name("app:2"))),
            ("localhost:5000/app:2", Place::Store(name("localhost:5000/app:2"))),
            ("store:app:2", Place::Store(name("app:2"))),
            ("docker://h:1/app:2", Place::Registry(name("h:1/app:2"))),
            ("oci:a/b:c", Place::Layout { dir: "a/b".into(), tag: Some("c".into()), digest: None }),
            ("oci:a", Place::Layout { dir: "a".into(), tag: None, digest: None }),
            ("oci:a@sha256:b", Place::Layout { dir: "a".into(), tag: None, digest: Some("sha256:b".into()) }),
            (
                "oci-archive:a.tar:x/y:1",
                Place::OciArchive { file: "a.tar".into(), tag: Some("x/y:1".into()) },
            ),
            ("docker-archive:-", Place::DockerArchive { file: "-".into(), name: None }),
            ("docker-daemon:app", Place::Engine(EngineChoice::Docker, name("app"))),
        ] {
            assert_eq!(Place::parse(text).unwrap(), want, "{text}");
        }
        for bad in ["dir:x", "oci:", "docker://", "docker-archive:", "UPPER"] {
            assert!(Place::parse(bad).is_err(), "{bad}");
        }
    }
}
