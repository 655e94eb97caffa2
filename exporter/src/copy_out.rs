//! Contents of the store written as they are: to a layout's directory, or as a tar for programs that load images.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::path::Path;

use forge_store::image::to_json;
use forge_store::{Blobs, Descriptor, Digest};
use serde_json::json;

use crate::layout::{Archive, IMAGE_NAME, LAYOUT, REF_NAME, copy_blob, lock, merge, read_index, replace};
use crate::{Contents, ExportError};

/// What an image is called in a layout or an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Called {
    /// Its tag in a layout.
    pub tag: Option<String>,
    /// Its full name, as containerd reads it.
    pub full: Option<String>,
    /// Its name as `docker load` gives it.
    pub familiar: Option<String>,
}

/// Which kind of tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveKind {
    /// An image layout.
    Oci,
    /// An image layout with a `manifest.json` beside it: one image.
    Docker,
}

/// Writes contents into a layout's directory; what else is there stays.
pub fn copy_to_directory(
    contents: &Contents,
    called: &[Called],
    blobs: &Blobs,
    dir: &Path,
) -> Result<(), ExportError> {
    let blob_dir = dir.join("blobs/sha256");
    fs::create_dir_all(&blob_dir).map_err(|e| ExportError::io("create", &blob_dir, e))?;
    for blob in contents.blobs() {
        copy_blob(blobs, &blob.digest, &blob_dir)?;
    }
    let _held = lock(dir)?;
    replace(&dir.join("oci-layout"), LAYOUT)?;
    let index_path = dir.join("index.json");
    let index = merge(read_index(&index_path)?, entries(&contents.root, called));
    replace(&index_path, &to_json(&index))
}

/// Writes contents as a tar, without the blobs in `left_out`: whoever gets it has them.
pub fn copy_to_archive(
    contents: &Contents,
    kind: ArchiveKind,
    called: &[Called],
    left_out: &HashSet<Digest>,
    blobs: &Blobs,
    out: impl Write,
) -> Result<(), ExportError> {
    let only = contents.only();
    if kind == ArchiveKind::Docker && only.is_none() {
        let detail = "a docker-archive holds one image; give its --platform, or write an oci-archive";
        return Err(ExportError::Destination(detail.into()));
    }
    let parts: Vec<_> =
        contents.blobs().into_iter().filter(|blob| !left_out.contains(&blob.digest)).collect();
    let mut archive = Archive::new(out);
    archive.layout(&parts, &entries(&contents.root, called), blobs)?;
    if let (ArchiveKind::Docker, Some(manifest)) = (kind, only) {
        let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
        let saved = json!([{
            "Config": path(&manifest.config.digest),
            "RepoTags": called.iter().filter_map(|name| name.familiar.as_ref()).collect::<Vec<_>>(),
            "Layers": manifest.layers.iter().map(|layer| path(&layer.digest)).collect::<Vec<_>>(),
        }]);
        archive.file("manifest.json", saved.to_string().as_bytes())?;
    }
    archive.finish()
}

/// The root as an index lists it: once for each name, or once without one.
pub(crate) fn entries(root: &Descriptor, called: &[Called]) -> Vec<Descriptor> {
    if called.is_empty() {
        return vec![root.clone()];
    }
    let entry = |name: &Called| {
        let mut descriptor = root.clone();
        let of = [(REF_NAME, &name.tag), (IMAGE_NAME, &name.full)];
        let set = of.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?)));
        descriptor.annotations.extend(set);
        descriptor
    };
    called.iter().map(entry).collect()
}
