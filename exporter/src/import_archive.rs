//! Images out of a tar: an image layout (`oci-archive`), or what `docker save` writes (`docker-archive`).
//!
//! The tar is read once, from a file or a pipe, and by our own reader. What is called by a digest goes into the
//! store under it, checked; what is not (the layers of an old Docker archive) under the digest that it has. Nothing
//! of the tar is written anywhere else, so there is no path in it that could lead out.

use std::collections::HashMap;
use std::io::{Read, Write};

use forge_registry::Reference;
use forge_store::digest::Hashing;
use forge_store::image::to_json;
use forge_store::layer::{Accept, Decompressed, Encoding, EntryKind, TarReader};
use forge_store::{Blobs, Descriptor, Digest, ImageConfig, ImageIndex, Manifest, MediaType};
use serde::Deserialize;

use crate::ExportError;
use crate::import::{DOCUMENT_BYTES_MAX, Wanted, pick, resolve_in_store};

/// The most links between names of an archive that are followed.
const LINKS_MAX: usize = 16;
/// The most entries that an archive may have.
const ENTRIES_MAX: usize = 100_000;

/// What stands under a name in the archive.
enum Named {
    Blob(Digest, u64),
    Link(String),
}

#[derive(Default)]
struct Archive {
    names: HashMap<String, Named>,
    index: Option<Vec<u8>>,
    manifest: Option<Vec<u8>>,
}

/// One image of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

fn fail(detail: impl Into<String>) -> ExportError {
    ExportError::Destination(format!("the archive: {}", detail.into()))
}

/// Reads an archive into the store, and says what the wanted image is. With `name`, that of `manifest.json` with
/// this name (`repository:tag`).
pub fn import_archive(
    archive: impl Read + Send,
    wanted: &Wanted<'_>,
    name: Option<&Reference>,
    blobs: &Blobs,
) -> Result<Descriptor, ExportError> {
    let archive = read(archive, blobs)?;
    // An archive of `docker save` names its images in `manifest.json`; since version 25 it is a layout, too.
    let by_tag = |index: &ImageIndex| pick(index, wanted).cloned();
    if let Some(bytes) = &archive.index {
        let index: ImageIndex =
            serde_json::from_slice(bytes).map_err(|e| fail(format!("index.json: {e}")))?;
        let named = name.and_then(|name| {
            let full = |d: &&Descriptor| d.annotations.values().any(|value| is(value, name));
            index.manifests.iter().find(full).cloned()
        });
        let found = if name.is_some() { named } else { by_tag(&index) };
        if let Some(found) = found {
            return resolve_in_store(found, wanted.platform, blobs);
        }
    }
    let Some(manifest) = &archive.manifest else { return Err(fail("it has no such image")) };
    let saved: Vec<Saved> =
        serde_json::from_slice(manifest).map_err(|e| fail(format!("manifest.json: {e}")))?;
    let has_name =
        |saved: &&Saved| name.is_none_or(|name| saved.repo_tags.iter().flatten().any(|tag| is(tag, name)));
    let mut fitting = saved.iter().filter(has_name);
    let image = fitting.next().ok_or_else(|| fail("it has no such image"))?;
    if fitting.next().is_some() {
        let names: Vec<&String> = saved.iter().flat_map(|saved| saved.repo_tags.iter().flatten()).collect();
        return Err(fail(format!("it has several images; name one: {names:?}")));
    }
    archive.convert(image, blobs)
}

/// Whether a text means this name: `docker save` writes short ones, skopeo whole ones.
fn is(text: &str, name: &Reference) -> bool {
    text.parse::<Reference>().is_ok_and(|own| own == *name)
}

fn read(archive: impl Read + Send, blobs: &Blobs) -> Result<Archive, ExportError> {
    let io = |e: std::io::Error| ExportError::io("read", "the archive", e);
    let stream = Decompressed::new(archive, Accept::Archive).map_err(io)?;
    let mut tar = TarReader::new(stream);
    let mut found = Archive::default();
    for _ in 0..ENTRIES_MAX {
        let Some(entry) = tar.next_entry().map_err(|e| fail(e.to_string()))? else { return Ok(found) };
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        let path = path.trim_start_matches("./").to_owned();
        match entry.kind {
            EntryKind::Regular => found.take(&mut tar, &path, entry.size, blobs)?,
            EntryKind::Symlink(target) => {
                let target = String::from_utf8_lossy(&target).into_owned();
                found.names.insert(path.clone(), Named::Link(beside(&path, &target)));
            }
            EntryKind::HardLink(target) => {
                found.names.insert(path, Named::Link(String::from_utf8_lossy(&target).into_owned()));
            }
            _ => {}
        }
    }
    Err(fail(format!("it has more than {ENTRIES_MAX} entries")))
}

/// The path that a link's target means, in the archive and nowhere else.
fn beside(path: &str, target: &str) -> String {
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

impl Archive {
    fn take<R: Read>(
        &mut self,
        tar: &mut TarReader<R>,
        path: &str,
        size: u64,
        blobs: &Blobs,
    ) -> Result<(), ExportError> {
        if matches!(path, "index.json" | "manifest.json" | "oci-layout" | "repositories")
            || path.ends_with("/json")
            || path.ends_with("/VERSION")
        {
            let mut bytes = Vec::new();
            if size > DOCUMENT_BYTES_MAX {
                return Err(fail(format!("{path} is larger than {DOCUMENT_BYTES_MAX} bytes")));
            }
            copy(tar, &mut bytes)?;
            match path {
                "index.json" => self.index = Some(bytes),
                "manifest.json" => self.manifest = Some(bytes),
                _ => {}
            }
            return Ok(());
        }
        let hex = path.strip_prefix("blobs/sha256/");
        let digest = match hex.and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok()) {
            Some(digest) => {
                if !blobs.contains(&digest)? {
                    let mut ingest = blobs.ingest(&digest, Some(size))?;
                    ingest.restart()?;
                    copy(tar, &mut ingest)?;
                    ingest.commit()?;
                }
                digest
            }
            None => {
                let mut blob = blobs.create()?;
                copy(tar, &mut blob)?;
                blob.commit()?.0
            }
        };
        self.names.insert(path.to_owned(), Named::Blob(digest, size));
        Ok(())
    }

    fn blob(&self, name: &str) -> Result<(Digest, u64), ExportError> {
        let mut name = name.trim_start_matches("./").to_owned();
        for _ in 0..LINKS_MAX {
            match self.names.get(&name) {
                Some(Named::Blob(digest, size)) => return Ok((*digest, *size)),
                Some(Named::Link(target)) => name.clone_from(target),
                None => return Err(fail(format!("manifest.json names {name:?}, which is not in it"))),
            }
        }
        Err(fail(format!("{name:?} is a link to itself")))
    }

    /// An image of `docker save`, which has no manifest: one is written for the blobs as they are.
    fn convert(&self, image: &Saved, blobs: &Blobs) -> Result<Descriptor, ExportError> {
        let (digest, size) = self.blob(&image.config)?;
        let bytes = blobs.read(&digest, DOCUMENT_BYTES_MAX)?.ok_or(ExportError::MissingBlob(digest))?;
        let config: ImageConfig =
            serde_json::from_slice(&bytes).map_err(|e| fail(format!("its configuration: {e}")))?;
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != image.layers.len() {
            return Err(fail(format!("it has {} DiffIDs for {} layers", diff_ids.len(), image.layers.len())));
        }
        let mut layers = Vec::new();
        for (name, diff_id) in image.layers.iter().zip(diff_ids) {
            let (digest, size) = self.blob(name)?;
            let (kind, found) = look_into(&digest, blobs)?;
            if found.to_string() != diff_id.to_string() {
                return Err(fail(format!("layer {name:?} hashes to {found}, not to the DiffID {diff_id}")));
            }
            layers.push(Descriptor::new(kind, digest, size));
        }
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(MediaType::ImageManifest),
            artifact_type: None,
            config: Descriptor::new(MediaType::ImageConfig, digest, size),
            layers,
            subject: None,
            annotations: Default::default(),
            extra: Default::default(),
        };
        let bytes = to_json(&manifest);
        let mut descriptor =
            Descriptor::new(MediaType::ImageManifest, blobs.put(&bytes)?, bytes.len() as u64);
        descriptor.platform = Some(config.platform());
        Ok(descriptor)
    }
}

/// How a layer is packed, and the digest of what is in it.
fn look_into(digest: &Digest, blobs: &Blobs) -> Result<(MediaType, Digest), ExportError> {
    let (file, _) = blobs.open(digest)?.ok_or(ExportError::MissingBlob(*digest))?;
    let io = |e: std::io::Error| ExportError::io("read", blobs.path(digest), e);
    let stream = Decompressed::new(file, Accept::Archive).map_err(io)?;
    let kind = match stream.encoding() {
        Encoding::Gzip => MediaType::ImageLayerGzip,
        Encoding::Zstd => MediaType::ImageLayerZstd,
        Encoding::Identity => MediaType::ImageLayer,
        other => return Err(fail(format!("a layer packed with {}; use gzip or zstd", other.name()))),
    };
    let mut hashing = Hashing::new(stream);
    std::io::copy(&mut hashing, &mut std::io::sink()).map_err(io)?;
    Ok((kind, hashing.finish().1))
}

fn copy<R: Read>(tar: &mut TarReader<R>, to: &mut impl Write) -> Result<(), ExportError> {
    let mut at = 0;
    while let Some(piece) = tar.next_piece().map_err(|e| fail(e.to_string()))? {
        if piece.offset != at {
            return Err(fail("it has sparse files"));
        }
        to.write_all(piece.bytes).map_err(|e| ExportError::io("write", "a blob of the archive", e))?;
        at += piece.bytes.len() as u64;
    }
    Ok(())
}
