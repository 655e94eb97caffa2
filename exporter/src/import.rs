//! Images out of an image layout directory, into the store. Nothing in the directory is believed: files must be
//! regular, of the size and digest that their descriptors say.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use forge_store::media_type::{is_index, is_manifest};
use forge_store::{Blobs, Descriptor, Digest, ImageIndex, Manifest, Platform};

use crate::ExportError;

/// The most that a document may have, in bytes.
const DOCUMENT_BYTES_MAX: u64 = 16 << 20;

/// How deep indexes may nest.
const INDEX_DEPTH_MAX: usize = 8;

/// Which image of a layout.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Its tag; without one, and without a digest, the layout's only image.
    pub tag: Option<&'a str>,
    /// Its manifest's or index's digest.
    pub digest: Option<&'a Digest>,
    /// Its platform, where an index offers several.
    pub platform: &'a Platform,
}

/// Copies an image of a layout into the store, and says its manifest.
pub fn import_layout(dir: &Path, wanted: &Wanted<'_>, blobs: &Blobs) -> Result<Descriptor, ExportError> {
    let fail = |detail: &str| ExportError::Destination(format!("image layout {}: {detail}", dir.display()));
    let bytes = read(&dir.join("index.json"), DOCUMENT_BYTES_MAX)?;
    let mut index: ImageIndex =
        serde_json::from_slice(&bytes).map_err(|e| fail(&format!("index.json: {e}")))?;
    let mut found = pick(&index, wanted).ok_or_else(|| fail("it has no such image"))?.clone();
    for _ in 0..INDEX_DEPTH_MAX {
        take(dir, &found, blobs)?;
        let bytes =
            blobs.read(&found.digest, DOCUMENT_BYTES_MAX)?.ok_or(ExportError::MissingBlob(found.digest))?;
        if is_manifest(&found.media_type) {
            let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| fail(&e.to_string()))?;
            manifest.layers.iter().chain([&manifest.config]).try_for_each(|blob| take(dir, blob, blobs))?;
            return Ok(found);
        }
        if !is_index(&found.media_type) {
            return Err(fail(&format!("{} is no image", found.media_type)));
        }
        index = serde_json::from_slice(&bytes).map_err(|e| fail(&e.to_string()))?;
        let fits = |d: &&Descriptor| d.platform.as_ref().is_none_or(|p| p.satisfies(wanted.platform));
        found = index
            .manifests
            .iter()
            .find(fits)
            .ok_or_else(|| fail("it has nothing for this platform"))?
            .clone();
    }
    Err(fail("its indexes nest too deep"))
}

fn pick<'a>(index: &'a ImageIndex, wanted: &Wanted<'_>) -> Option<&'a Descriptor> {
    let tag_of = |d: &'a Descriptor| d.annotations.get("org.opencontainers.image.ref.name");
    match (wanted.digest, wanted.tag, index.manifests.as_slice()) {
        (Some(digest), ..) => index.manifests.iter().find(|d| d.digest == *digest),
        (None, Some(tag), all) => all.iter().find(|d| tag_of(d).is_some_and(|name| name == tag)),
        (None, None, [only]) => Some(only),
        (None, None, all) => all.iter().find(|d| tag_of(d).is_some_and(|name| name == "latest")),
    }
}

/// Copies one blob into the store, checked.
fn take(dir: &Path, descriptor: &Descriptor, blobs: &Blobs) -> Result<(), ExportError> {
    if blobs.contains(&descriptor.digest)? {
        return Ok(());
    }
    let path = dir.join("blobs/sha256").join(descriptor.digest.hex());
    let mut file = open(&path)?.take(descriptor.size + 1);
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
