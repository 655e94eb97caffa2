//! OCI image layouts and Docker archives: one list of entries, written as a directory or as a tar.
//!
//! A Docker archive is a layout with a `manifest.json` beside it, as `docker save` writes since version 25, so
//! that both kinds of reader take it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use forge_store::image::to_json;
use forge_store::{Blobs, Descriptor, Digest, ImageIndex, Manifest, MediaType};
use serde_json::json;

use crate::{ExportError, Images};

/// The annotation that holds a tag in an image layout.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation that holds the full name, as containerd's importer reads it.
pub(crate) const IMAGE_NAME: &str = "io.containerd.image.name";

/// A full name and its tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// `registry/repository:tag`.
    pub full: String,
    /// As Docker shows it: without Docker Hub's own parts.
    pub familiar: String,
    /// What stands behind the colon.
    pub tag: String,
}

/// Writes an image layout as a tar.
pub fn write_oci_archive(
    images: &Images,
    names: &[Name],
    blobs: &Blobs,
    out: impl Write,
) -> Result<(), ExportError> {
    let mut archive = Archive::new(out);
    archive.layout(&blobs_of(images), &index_entries(images, names), blobs)?;
    archive.finish()
}

/// Writes what `docker load` reads: one image.
pub fn write_docker_archive(
    images: &Images,
    names: &[Name],
    blobs: &Blobs,
    out: impl Write,
) -> Result<(), ExportError> {
    let image = images.only().ok_or_else(|| {
        let detail = "type=docker holds an image for one platform; use type=oci, or give one --platform";
        ExportError::Unsuitable(detail.into())
    })?;
    let mut archive = Archive::new(out);
    archive.layout(&blobs_of(images), &index_entries(images, names), blobs)?;
    let blob = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    let manifest = json!([{
        "Config": blob(image.id()),
        "RepoTags": names.iter().map(|name| &name.familiar).collect::<Vec<_>>(),
        "Layers": image.manifest.layers.iter().map(|layer| blob(&layer.digest)).collect::<Vec<_>>(),
    }]);
    archive.file("manifest.json", manifest.to_string().as_bytes())?;
    archive.finish()
}

/// Writes or extends an image layout directory: entries of other names stay.
pub fn write_oci_directory(
    images: &Images,
    names: &[Name],
    blobs: &Blobs,
    dir: &Path,
) -> Result<(), ExportError> {
    let blob_dir = dir.join("blobs/sha256");
    fs::create_dir_all(&blob_dir).map_err(|e| ExportError::io("create", &blob_dir, e))?;
    for descriptor in blobs_of(images) {
        copy_blob(blobs, &descriptor.digest, &blob_dir)?;
    }
    let _held = lock(dir)?;
    replace(&dir.join("oci-layout"), LAYOUT)?;
    let index_path = dir.join("index.json");
    let index = merge(read_index(&index_path)?, index_entries(images, names));
    replace(&index_path, &to_json(&index))
}

pub(crate) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Every blob of the images, each once: what names others comes after them.
fn blobs_of(images: &Images) -> Vec<Descriptor> {
    let mut seen = BTreeSet::new();
    let of_images = images.images.iter().flat_map(|image| {
        let Manifest { config, layers, .. } = &image.manifest;
        layers.iter().chain([config, &image.descriptor])
    });
    of_images.chain([&images.root]).filter(|blob| seen.insert(blob.digest)).cloned().collect()
}

/// The root as an index lists it: once for each name, or once without one.
fn index_entries(images: &Images, names: &[Name]) -> Vec<Descriptor> {
    if names.is_empty() {
        return vec![images.root.clone()];
    }
    let entry = |name: &Name| {
        let mut descriptor = images.root.clone();
        descriptor.annotations.insert(REF_NAME.into(), name.tag.clone());
        descriptor.annotations.insert(IMAGE_NAME.into(), name.full.clone());
        descriptor
    };
    names.iter().map(entry).collect()
}

pub(crate) fn merge(old: Option<ImageIndex>, entries: Vec<Descriptor>) -> ImageIndex {
    let mut index = old.unwrap_or_else(|| ImageIndex {
        schema_version: 2,
        media_type: Some(MediaType::ImageIndex),
        artifact_type: None,
        manifests: Vec::new(),
        annotations: BTreeMap::new(),
        extra: BTreeMap::new(),
    });
    index.manifests.retain(|old| !entries.iter().any(|entry| is_replaced(old, entry)));
    // Images may share a tag and differ in the repository: each is an entry, as BuildKit has them. Who asks by the
    // tag alone gets the newest, for readers take the first.
    index.manifests.splice(0..0, entries);
    index
}

/// Whether an entry is of the same name as a new one. Programs that write tags only mean all images of that tag.
fn is_replaced(old: &Descriptor, new: &Descriptor) -> bool {
    let of = |descriptor: &Descriptor, key: &str| descriptor.annotations.get(key).cloned();
    let (Some(tag), Some(old_tag)) = (of(new, REF_NAME), of(old, REF_NAME)) else {
        return old.digest == new.digest && of(old, REF_NAME) == of(new, REF_NAME);
    };
    match (of(new, IMAGE_NAME), of(old, IMAGE_NAME)) {
        (Some(full), Some(old_full)) => full == old_full,
        _ => tag == old_tag,
    }
}

/// Holds a layout's directory while its index is read and written: builds that run at once keep each other's entries.
pub(crate) fn lock(dir: &Path) -> Result<File, ExportError> {
    let held = File::open(dir).and_then(|dir| dir.lock().map(|()| dir));
    held.map_err(|e| ExportError::io("lock", dir, e))
}

pub(crate) fn read_index(path: &Path) -> Result<Option<ImageIndex>, ExportError> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| ExportError::io("read the image index", path, io::Error::other(e))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(ExportError::io("read", path, e)),
    }
}

pub(crate) fn copy_blob(blobs: &Blobs, digest: &Digest, dir: &Path) -> Result<(), ExportError> {
    let to = dir.join(digest.hex());
    if to.exists() {
        return Ok(());
    }
    let (mut from, _) = blobs.open_checked(digest)?.ok_or(ExportError::MissingBlob(*digest))?;
    let aside = dir.join(format!(".{}.part", digest.hex()));
    let mut file = File::create(&aside).map_err(|e| ExportError::io("create", &aside, e))?;
    let copied = io::copy(&mut from, &mut file).and_then(|_| fs::rename(&aside, &to));
    copied.map_err(|e| {
        let _ = fs::remove_file(&aside);
        ExportError::io("write", &to, e)
    })
}

/// Writes a file aside and puts it in place of the old one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), ExportError> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".part");
    let aside = PathBuf::from(aside);
    let written = fs::write(&aside, bytes).and_then(|()| fs::rename(&aside, path));
    written.map_err(|e| {
        let _ = fs::remove_file(&aside);
        ExportError::io("write", path, e)
    })
}

/// A tar of plain files with fixed headers.
pub(crate) struct Archive<W: Write> {
    tar: tar::Builder<W>,
}

impl<W: Write> Archive<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { tar: tar::Builder::new(out) }
    }

    pub(crate) fn layout(
        &mut self,
        parts: &[Descriptor],
        entries: &[Descriptor],
        blobs: &Blobs,
    ) -> Result<(), ExportError> {
        self.directory("blobs/")?;
        self.directory("blobs/sha256/")?;
        for descriptor in parts {
            let (file, size) =
                blobs.open_checked(&descriptor.digest)?.ok_or(ExportError::MissingBlob(descriptor.digest))?;
            self.entry(&format!("blobs/sha256/{}", descriptor.digest.hex()), size, file)?;
        }
        self.file("index.json", &to_json(&merge(None, entries.to_vec())))?;
        self.file("oci-layout", LAYOUT)
    }

    fn directory(&mut self, name: &str) -> Result<(), ExportError> {
        let header = header(tar::EntryType::Directory, 0o755, 0);
        self.append(header, name, io::empty())
    }

    pub(crate) fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), ExportError> {
        self.entry(name, bytes.len() as u64, bytes)
    }

    fn entry(&mut self, name: &str, size: u64, bytes: impl Read) -> Result<(), ExportError> {
        self.append(header(tar::EntryType::Regular, 0o644, size), name, bytes)
    }

    fn append(&mut self, mut header: tar::Header, name: &str, bytes: impl Read) -> Result<(), ExportError> {
        self.tar
            .append_data(&mut header, name, bytes)
            .map_err(|e| ExportError::io("write the archive entry", name, e))
    }

    pub(crate) fn finish(self) -> Result<(), ExportError> {
        let mut out = self.tar.into_inner().map_err(|e| ExportError::io("finish", "the archive", e))?;
        out.flush().map_err(|e| ExportError::io("write", "the archive", e))
    }
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}
