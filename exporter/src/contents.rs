//! What hangs below a name in the store: an image, or an index with several, artifacts included. For whoever hands
//! images on as they are: nothing is unpacked or written anew, so every digest stays.

use std::collections::HashSet;

use forge_registry::Document;
use forge_store::{Blobs, Descriptor, Digest, Manifest};

use crate::ExportError;
use crate::import::DOCUMENT_BYTES_MAX;

/// The documents of an image or index; they are all in the store.
#[derive(Clone, Debug)]
pub struct Contents {
    /// What the name stands for.
    pub root: Descriptor,
    /// Manifests and indexes, each after those that it names.
    pub documents: Vec<Descriptor>,
    /// The manifests among them, read.
    pub manifests: Vec<(Descriptor, Manifest)>,
}

impl Contents {
    /// Reads the documents below `root`.
    pub fn of(root: &Descriptor, blobs: &Blobs) -> Result<Self, ExportError> {
        let mut contents = Self { root: root.clone(), documents: Vec::new(), manifests: Vec::new() };
        let mut seen = HashSet::new();
        let mut todo = vec![root.clone()];
        while let Some(descriptor) = todo.pop() {
            if !seen.insert(descriptor.digest) {
                continue;
            }
            match read_document(&descriptor, blobs)? {
                Document::Manifest(manifest) => contents.manifests.push((descriptor.clone(), manifest)),
                Document::Index(index) => todo.extend(index.manifests.iter().rev().cloned()),
            }
            contents.documents.push(descriptor);
        }
        // Indexes were met before what they name.
        contents.documents.reverse();
        Ok(contents)
    }

    /// Layers and configurations, each once.
    pub fn parts(&self) -> Vec<Descriptor> {
        let mut seen = HashSet::new();
        let all =
            self.manifests.iter().flat_map(|(_, manifest)| manifest.layers.iter().chain([&manifest.config]));
        all.filter(|blob| seen.insert(blob.digest)).cloned().collect()
    }

    /// Every blob, what names others after them.
    pub fn blobs(&self) -> Vec<Descriptor> {
        self.parts().into_iter().chain(self.documents.iter().cloned()).collect()
    }

    /// The only image, where there is one.
    pub fn only(&self) -> Option<&Manifest> {
        match self.manifests.as_slice() {
            [(_, manifest)] => Some(manifest),
            _ => None,
        }
    }

    /// The parts that the store lacks.
    pub fn missing(&self, blobs: &Blobs) -> Result<Vec<Descriptor>, ExportError> {
        let mut missing = Vec::new();
        for blob in self.parts() {
            if !blobs.contains(&blob.digest)? {
                missing.push(blob);
            }
        }
        Ok(missing)
    }
}

/// Reads a manifest or index of the store.
pub(crate) fn read_document(descriptor: &Descriptor, blobs: &Blobs) -> Result<Document, ExportError> {
    let digest: Digest = descriptor.digest;
    let bytes = blobs.read(&digest, DOCUMENT_BYTES_MAX)?.ok_or(ExportError::MissingBlob(digest))?;
    let (_, document) = Document::parse(&bytes, Some(descriptor.media_type.as_ref()))
        .map_err(|reason| ExportError::Destination(format!("manifest {digest}: {reason}")))?;
    Ok(document)
}
