//! Docker, by its API (docs.docker.com/reference/api/engine): `GET /images/ID/json` says what it has,
//! `POST /images/load` takes an archive.
//!
//! Docker's own layer store knows a layer by the chain of DiffIDs up to it, and `load` does not open the file of a
//! layer whose chain it has. Docker on containerd's image store knows blobs, and cannot be asked for them: there
//! the archive is whole.

use std::collections::HashSet;

use forge_store::{Blobs, Digest, ImageConfig};
use serde::Deserialize;
use serde_json::Value;

use super::http::{Address, Answer, ask, send};
use super::{Loaded, fail};
use crate::import::DOCUMENT_BYTES_MAX;
use crate::{ArchiveKind, Called, Contents, ExportError, copy_to_archive};

/// How many of its images are looked at for layers.
const IMAGES_MAX: usize = 256;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
}

pub fn load(
    address: &Address,
    contents: &Contents,
    called: &[Called],
    blobs: &Blobs,
) -> Result<Loaded, ExportError> {
    let docker = Docker(address);
    let manifest = contents.only().ok_or_else(|| {
        fail(
            "docker",
            "it takes one platform at a time; give --platform, or push the image and pull it there",
        )
    })?;
    let ids = [manifest.config.digest, contents.root.digest];
    if let Some(id) = docker.first_there(&ids)? {
        docker.name(&id, called)?;
        return Ok(Loaded::nothing());
    }
    let bytes = blobs.read(&manifest.config.digest, DOCUMENT_BYTES_MAX)?;
    let bytes = bytes.ok_or(ExportError::MissingBlob(manifest.config.digest))?;
    let config: ImageConfig = serde_json::from_slice(&bytes).map_err(|e| fail("docker", e))?;
    let own: Vec<String> = config.rootfs.diff_ids.iter().map(ToString::to_string).collect();
    let common = docker.common_layers(&own)?;
    // A layer that occurs above, too, is needed there.
    let above: HashSet<Digest> = manifest.layers[common..].iter().map(|layer| layer.digest).collect();
    let has = manifest.layers[..common].iter().map(|layer| layer.digest);
    let left_out: HashSet<Digest> = has.filter(|digest| !above.contains(digest)).collect();
    match docker.send(contents, called, &left_out, blobs) {
        Err(e) if !left_out.is_empty() => {
            docker.send(contents, called, &HashSet::new(), blobs)?;
            Ok(Loaded::after(&e, contents))
        }
        other => other.map(|()| Loaded::sent(contents, &left_out)),
    }
}

struct Docker<'a>(&'a Address);

impl Docker<'_> {
    fn ask(&self, method: &str, path: &str) -> Result<Answer, ExportError> {
        ask(self.0, method, path).map_err(|e| self.unreachable(&e))
    }

    fn unreachable(&self, error: &std::io::Error) -> ExportError {
        fail("docker", format!("{} does not answer: {error}; is it running, and may you use it?", self.0))
    }

    /// An answer that must be one, read.
    fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, ExportError> {
        let answer = self.ask("GET", path)?;
        if answer.status != 200 {
            return Err(fail("docker", answer.message()));
        }
        serde_json::from_slice(&answer.body).map_err(|e| fail("docker", e))
    }

    /// The first of these ids that Docker knows.
    fn first_there(&self, ids: &[Digest]) -> Result<Option<String>, ExportError> {
        for id in ids {
            let answer = self.ask("GET", &format!("/images/{id}/json"))?;
            match answer.status {
                200 => return Ok(Some(id.to_string())),
                404 => {}
                _ => return Err(fail("docker", answer.message())),
            }
        }
        Ok(None)
    }

    fn name(&self, id: &str, called: &[Called]) -> Result<(), ExportError> {
        for name in called.iter().filter_map(|name| name.familiar.as_deref()) {
            let (repository, tag) = name.rsplit_once(':').unwrap_or((name, "latest"));
            let answer = self.ask("POST", &format!("/images/{id}/tag?repo={repository}&tag={tag}"))?;
            if answer.status != 201 {
                return Err(fail("docker", answer.message()));
            }
        }
        Ok(())
    }

    /// How many of the lowest layers Docker has, because an image of its own stands on them.
    fn common_layers(&self, own: &[String]) -> Result<usize, ExportError> {
        let info: Value = self.get("/info")?;
        let by_blobs = |status: &Value| status.to_string().contains("io.containerd.snapshotter");
        if info.get("DriverStatus").is_some_and(by_blobs) {
            return Ok(0);
        }
        let images: Vec<Listed> = self.get("/images/json")?;
        let mut most = 0;
        for image in images.iter().take(IMAGES_MAX) {
            // One that was removed meanwhile has nothing to say.
            let Ok(image) = self.get::<Value>(&format!("/images/{}/json", image.id)) else { continue };
            let layers = image["RootFS"]["Layers"].as_array().into_iter().flatten().filter_map(Value::as_str);
            most = most.max(layers.zip(own).take_while(|(theirs, own)| theirs == own).count());
        }
        Ok(most)
    }

    fn send(
        &self,
        contents: &Contents,
        called: &[Called],
        left_out: &HashSet<Digest>,
        blobs: &Blobs,
    ) -> Result<(), ExportError> {
        let answer = send(self.0, "/images/load?quiet=1", |out| {
            copy_to_archive(contents, ArchiveKind::Docker, called, left_out, blobs, out).map_err(Broken::Own)
        });
        let answer = match answer {
            Ok(answer) => answer,
            Err(Broken::Own(error)) => return Err(error),
            Err(Broken::Connection(error)) => return Err(self.unreachable(&error)),
        };
        if answer.status != 200 {
            return Err(fail("docker", answer.message()));
        }
        // It answers with lines of JSON, and says 200 before it knows.
        let lines = serde_json::Deserializer::from_slice(&answer.body).into_iter::<Value>();
        match lines.filter_map(Result::ok).find_map(|line| Some(line.get("error")?.as_str()?.to_owned())) {
            Some(error) => Err(fail("docker", error)),
            None => Ok(()),
        }
    }
}

enum Broken {
    Own(ExportError),
    Connection(std::io::Error),
}

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Self {
        Self::Connection(error)
    }
}
