//! Images out of an image layout directory, into the store. Nothing in the directory is believed: files must be
//! regular, of the size and digest that their descriptors say.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use forge_registry::Document;
use forge_store::{Blobs, Descriptor, Digest, ImageIndex, Platform, StoreError};
use serde::Deserialize;

use crate::ExportError;
use crate::contents::read_document;

/// The most that a document may have, in bytes.
pub(crate) const DOCUMENT_BYTES_MAX: u64 = 16 << 20;

/// The most that the file `oci-layout` may have, in bytes.
const MARKER_BYTES_MAX: u64 = 4096;

/// How deep indexes may nest.
const INDEX_DEPTH_MAX: usize = 8;

/// Which image of a layout.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Its tag; without one, and without a digest, the layout's only image.
    pub tag: Option<&'a str>,
    /// Its manifest's or index's digest.
    pub digest: Option<&'a Digest>,
    /// Its platform, where an index offers several; all of them without one.
    pub platform: Option<&'a Platform>,
}

/// Brings one blob into the store, from wherever the image is.
type Take<'a> = dyn Fn(&Descriptor) -> Result<(), ExportError> + 'a;

/// Copies an image of a layout into the store, and says what it is: a manifest, or an index.
pub fn import_layout(dir: &Path, wanted: &Wanted<'_>, blobs: &Blobs) -> Result<Descriptor, ExportError> {
    let fail = |detail: &str| ExportError::Destination(format!("image layout {}: {detail}", dir.display()));
    check_marker(dir)?;
    let bytes = read(&dir.join("index.json"), DOCUMENT_BYTES_MAX)?;
    let index: ImageIndex = serde_json::from_slice(&bytes).map_err(|e| fail(&format!("index.json: {e}")))?;
    let found = pick(&index, wanted).ok_or_else(|| fail("it has no such image"))?.clone();
    bring(found, wanted.platform, blobs, &|blob| take(dir, blob, blobs), 0)
}

/// The same for an image whose blobs are in the store already.
pub(crate) fn resolve_in_store(
    found: Descriptor,
    platform: Option<&Platform>,
    blobs: &Blobs,
) -> Result<Descriptor, ExportError> {
    let take = |blob: &Descriptor| match blobs.contains(&blob.digest)? {
        true => Ok(()),
        false => Err(ExportError::MissingBlob(blob.digest)),
    };
    bring(found, platform, blobs, &take, 0)
}

/// Brings an image, or all images of an index where no platform is wanted.
fn bring(
    found: Descriptor,
    platform: Option<&Platform>,
    blobs: &Blobs,
    take: &Take<'_>,
    depth: usize,
) -> Result<Descriptor, ExportError> {
    let fail = |detail: &str| ExportError::Destination(format!("{}: {detail}", found.digest));
    if depth > INDEX_DEPTH_MAX {
        return Err(fail("its indexes nest too deep"));
    }
    take(&found)?;
    // What an index of a layout says about it (its name there) is no part of it.
    let found = Descriptor { annotations: Default::default(), ..found };
    let index = match read_document(&found, blobs)? {
        Document::Manifest(manifest) => {
            manifest.layers.iter().chain([&manifest.config]).try_for_each(take)?;
            return Ok(found);
        }
        Document::Index(index) => index,
    };
    let Some(platform) = platform else {
        for child in index.manifests {
            bring(child, None, blobs, take, depth + 1)?;
        }
        return Ok(found);
    };
    let fits = |d: &&Descriptor| d.platform.as_ref().is_none_or(|p| p.satisfies(platform));
    let child = index.manifests.iter().find(fits).ok_or_else(|| fail("it has nothing for this platform"))?;
    bring(child.clone(), Some(platform), blobs, take, depth + 1)
}

pub(crate) fn pick<'a>(index: &'a ImageIndex, wanted: &Wanted<'_>) -> Option<&'a Descriptor> {
    let tag_of = |d: &'a Descriptor| d.annotations.get("org.opencontainers.image.ref.name");
    match (wanted.digest, wanted.tag, index.manifests.as_slice()) {
        (Some(digest), ..) => index.manifests.iter().find(|d| d.digest == *digest),
        (None, Some(tag), all) => all.iter().find(|d| tag_of(d).is_some_and(|name| name == tag)),
        (None, None, [only]) => Some(only),
        (None, None, all) => all.iter().find(|d| tag_of(d).is_some_and(|name| name == "latest")),
    }
}

/// The file that makes a directory a layout, of a version that is known (OCI image-spec, image-layout.md).
fn check_marker(dir: &Path) -> Result<(), ExportError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Marker {
        image_layout_version: String,
    }
    let path = dir.join("oci-layout");
    let fail = |why: &str| ExportError::Destination(format!("{} {why}: no image layout", path.display()));
    let marker: Marker =
        serde_json::from_slice(&read(&path, MARKER_BYTES_MAX)?).map_err(|_| fail("says no version"))?;
    match marker.image_layout_version.starts_with("1.") {
        true => Ok(()),
        false => Err(fail("is of a version that forge does not know")),
    }
}

/// Copies one blob into the store, checked.
fn take(dir: &Path, descriptor: &Descriptor, blobs: &Blobs) -> Result<(), ExportError> {
    if let Some(size) = blobs.size(&descriptor.digest)? {
        return match size == descriptor.size {
            true => Ok(()),
            false => {
                let detail = format!("it has {size} bytes, and {} were announced", descriptor.size);
                Err(StoreError::Corrupt { object: format!("blob {}", descriptor.digest), detail }.into())
            }
        };
    }
    let path = dir.join("blobs/sha256").join(descriptor.digest.hex());
    let mut file = open(&path)?.take(descriptor.size.saturating_add(1));
    let mut ingest = blobs.ingest(&descriptor.digest, Some(descriptor.size))?;
    ingest.restart()?;
    io::copy(&mut file, &mut ingest).map_err(|e| ExportError::io("read", &path, e))?;
    Ok(ingest.commit()?)
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>, ExportError> {
    let mut bytes = Vec::new();
    let read = open(path)?.take(most + 1).read_to_end(&mut bytes);
    read.map_err(|e| ExportError::io("read", path, e))?;
    if bytes.len() as u64 > most {
        return Err(ExportError::Destination(format!("{} is larger than {most} bytes", path.display())));
    }
    Ok(bytes)
}

/// Opens a regular file, and nothing that a link leads to.
fn open(path: &Path) -> Result<File, ExportError> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let open = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path);
    let file = open.map_err(|e| ExportError::io("open", path, e))?;
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(file),
        Ok(_) => Err(ExportError::Destination(format!("{} is not a regular file", path.display()))),
        Err(e) => Err(ExportError::io("stat", path, e)),
    }
}
