//! Layers into blobs: each one in the form that an output wants, once, and kept for the next time.
//!
//! A layer made here is packed from its tree. One that was pulled stays the blob that it is, unless an output wants
//! all layers in its own form: then the blob is read, checked against its DiffID and packed anew, without a tree.
//! Several layers can be packed as one.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use tempfile::NamedTempFile;

use super::follow::{Growing, Wanted};
use super::{Follow, Layers, PackedForm, PackedLayer, forget_forms, put_diff_id, put_packed};
use crate::digest::Hashing;
use crate::error::At;
use crate::known_blocks::{self, StoredBlocks};
use crate::layer::decompress::{Accept, Decompressed};
use crate::layer::estargz::{EstargzError, TOC_DIGEST_ANNOTATION, UNCOMPRESSED_SIZE_ANNOTATION};
use crate::layer::{
    self, Compression, FileTimes, LayerWriter, Packed, Packer, Packing, WriteError, WriteOptions, piped,
    to_estargz,
};
use crate::limits::UNPACKED_BYTES_MAX;
use crate::snapshot::{Layer, Pulled};
use crate::tree::{Entry, FileHash, Format, MergedTree, Node, ReadOptions, TreeError, XattrFilter};
use crate::{ContentId, Descriptor, Digest, LayerId, RootDir, StoreError, Threads, media_type};

/// The form in which an output wants layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerForm {
    /// How blobs are put together.
    pub packing: Packing,
    /// What becomes of the modification times in layers made here.
    pub times: FileTimes,
    /// Layers of the base are brought into this form, too.
    pub recompress: bool,
}

impl From<Compression> for LayerForm {
    fn from(compression: Compression) -> Self {
        Self { packing: Packing::Tar(compression), ..Self::default() }
    }
}

impl LayerForm {
    /// What tells this form from others, of a layer made here.
    fn name(&self) -> String {
        let packing = self.packing.name();
        match self.times {
            FileTimes::Kept => packing,
            FileTimes::Clamped(latest) => format!("{packing}-until-{latest}"),
            FileTimes::Fixed(time) => format!("{packing}-at-{time}"),
        }
    }

    /// Whether a pulled layer is of this kind already. Its level cannot be told.
    fn is_of(&self, blob: &Descriptor) -> bool {
        let has_table = blob.annotations.contains_key(TOC_DIGEST_ANNOTATION);
        let distributable = media_type::to_distributable(&media_type::to_oci(&blob.media_type));
        distributable == self.packing.media_type() && has_table == matches!(self.packing, Packing::Estargz(_))
    }
}

/// The blob that was written, and what is said of it.
struct Written {
    blob: NamedTempFile,
    packed: Packed,
    annotations: BTreeMap<String, String>,
    /// The tar is that of the layer's own tree: its DiffID is the layer's.
    is_own: bool,
}

impl Layers {
    /// The layer as a blob: the one it was pulled as, or one packed now and kept for the next time.
    pub fn pack(&self, layer: &Layer, form: impl Into<LayerForm>) -> Result<PackedLayer, StoreError> {
        self.pack_followed(layer, form, &())
    }

    /// The same, followed by someone; not if the blob is here already.
    pub fn pack_followed(
        &self,
        layer: &Layer,
        form: impl Into<LayerForm>,
        follow: &dyn Follow,
    ) -> Result<PackedLayer, StoreError> {
        let form = form.into();
        match &layer.pulled {
            None => self.kept(&layer.id, &form, follow, || self.pack_tree(layer, &form, follow)),
            Some(pulled) if form.recompress && !form.is_of(&pulled.descriptor) => {
                let form = LayerForm { times: FileTimes::Kept, ..form };
                let make = || self.repack(layer, pulled, form.packing, follow);
                self.kept(&layer.id, &form, follow, make)
            }
            Some(pulled) => {
                Ok(PackedLayer { descriptor: pulled.descriptor.clone(), diff_id: pulled.diff_id })
            }
        }
    }

    /// A layer that has no tree, as a blob: from entries that lie elsewhere, parents before children, each file with
    /// the hash that it must have. Its tree is made from the blob if it is ever needed.
    ///
    /// # Errors
    /// [`StoreError::Changed`] if a file has another hash, or what `entries` fails with.
    pub fn pack_entries<E: From<StoreError> + Send>(
        &self,
        id: &LayerId,
        compression: Compression,
        entries: impl Iterator<Item = Result<(Entry, Option<FileHash>), E>> + Send,
        follow: &dyn Follow,
    ) -> Result<PackedLayer, E> {
        let form = LayerForm::from(compression);
        let lock = self.lock(id)?;
        if self.is_local(&Layer::built(*id))? {
            // Made by another run, perhaps with other times: its blobs are made of what is here.
            drop(lock);
            return Ok(self.pack_followed(&Layer::built(*id), form, follow)?);
        }
        self.index.together(|rows| forget_forms(rows, id))?;
        let mut failed = None;
        let packed = self.kept(id, &form, follow, || {
            let written = self.pack_with(form.packing, follow, |out| {
                let mut writer = LayerWriter::new(out, WriteOptions::default());
                for entry in entries {
                    let (entry, hash) = entry.map_err(|error| {
                        failed = Some(error);
                        StoreError::Pack("a file could not be read".into())
                    })?;
                    writer.append_checked(&entry, hash).map_err(pack_error)?;
                }
                writer.finish().map(drop).map_err(pack_error)
            })?;
            Ok(Written { is_own: true, ..written })
        });
        packed.map_err(|error| failed.unwrap_or_else(|| error.into()))
    }

    /// Several layers, the lowest first, as one blob: what they change together in what lies `below`.
    pub fn squash(
        &self,
        layers: &[Layer],
        below: &[Layer],
        form: &LayerForm,
    ) -> Result<PackedLayer, StoreError> {
        let mut hasher = blake3::Hasher::new_derive_key("forge squashed layers v1");
        for layer in layers.iter().chain(below) {
            hasher.update(layer.id.hex().as_bytes());
        }
        hasher.update(&layers.len().to_le_bytes());
        let id = LayerId::of_content(&ContentId::new(hasher.finalize()));
        self.kept(&id, form, &(), || {
            let stack = self.merged(layers)?;
            let below = Below { layers: self, stack: below, tree: OnceLock::new() };
            let write = WriteOptions { times: form.times };
            self.pack_with(form.packing, &(), |out| {
                let mut writer = LayerWriter::new(out, write);
                if let Some(stack) = &stack {
                    for entry in stack.changes().map_err(tree_error)? {
                        if let Some(entry) = below.changed(entry.map_err(tree_error)?)? {
                            writer.append(&entry).map_err(pack_error)?;
                        }
                    }
                }
                writer.finish().map(drop).map_err(pack_error)
            })
        })
    }

    /// The blob of this form that is here, or else the one that `make` makes.
    fn kept(
        &self,
        id: &LayerId,
        form: &LayerForm,
        follow: &dyn Follow,
        make: impl FnOnce() -> Result<Written, StoreError>,
    ) -> Result<PackedLayer, StoreError> {
        let name = form.name();
        if let Some(packed) = self.packed(id, &name, form)? {
            return Ok(packed);
        }
        let _lock = self.locks.lock(&format!("pack-{}-{name}", id.hex()))?;
        if let Some(packed) = self.packed(id, &name, form)? {
            return Ok(packed);
        }
        let Written { blob, packed, annotations, is_own } = make()?;
        let (digest, size, diff_id) = (packed.blob_digest, packed.blob_size, packed.diff_id);
        self.blobs.keep(blob, &digest, size)?;
        known_blocks::learn(&self.index, &packed)?;
        let made = PackedForm { form: name, digest, diff_id, annotations };
        self.index.together(|rows| {
            if is_own {
                put_diff_id(rows, id, &diff_id)?;
            }
            put_packed(rows, id, &made)
        })?;
        let annotations = made.annotations;
        let descriptor =
            Descriptor { annotations, ..Descriptor::new(form.packing.media_type(), digest, size) };
        let layer = PackedLayer { descriptor, diff_id };
        follow.is_whole(&layer);
        Ok(layer)
    }

    fn packed(&self, id: &LayerId, name: &str, form: &LayerForm) -> Result<Option<PackedLayer>, StoreError> {
        let known = self.packed_forms(id)?.into_iter().find(|known| known.form == name);
        let Some(PackedForm { digest, diff_id, annotations, .. }) = known else { return Ok(None) };
        let Some(size) = self.blobs.size(&digest)? else { return Ok(None) };
        let descriptor =
            Descriptor { annotations, ..Descriptor::new(form.packing.media_type(), digest, size) };
        Ok(Some(PackedLayer { descriptor, diff_id }))
    }

    /// From the layer's own tree.
    fn pack_tree(&self, layer: &Layer, form: &LayerForm, follow: &dyn Follow) -> Result<Written, StoreError> {
        let tree = self.ensure_tree(layer)?;
        self.check_before_export(layer)?;
        let root = RootDir::open_host(tree)?;
        let write = WriteOptions { times: form.times };
        let written = self.pack_with(form.packing, follow, |out| {
            layer::write_tree(root.dir(), self.xattrs, write, out).map(drop).map_err(pack_error)
        })?;
        let is_own = form.times == FileTimes::Kept && matches!(form.packing, Packing::Tar(_));
        Ok(Written { is_own, ..written })
    }

    /// From the blob that was pulled, which must turn out to be what its image says.
    fn repack(
        &self,
        layer: &Layer,
        pulled: &Pulled,
        packing: Packing,
        follow: &dyn Follow,
    ) -> Result<Written, StoreError> {
        let missing = || StoreError::MissingLayer(layer.id.hex());
        let (blob, _) = self.blobs.open(&pulled.descriptor.digest)?.ok_or_else(missing)?;
        let fail =
            |detail: String| StoreError::Unpack { object: pulled.descriptor.digest.to_string(), detail };
        let tar = Decompressed::new(blob, Accept::Layer).map_err(|e| fail(e.to_string()))?;
        self.pack_with(packing, follow, |out| {
            let mut tar = Hashing::new(tar.take(UNPACKED_BYTES_MAX + 1));
            io::copy(&mut tar, out).map_err(|e| fail(e.to_string()))?;
            let (_, found, bytes) = tar.finish();
            if bytes > UNPACKED_BYTES_MAX {
                return Err(fail(format!("it is larger than {UNPACKED_BYTES_MAX} bytes")));
            }
            match found == *pulled.diff_id.digest() {
                true => Ok(()),
                false => {
                    Err(fail(format!("its DiffID is {found}, not {} as its image says", pulled.diff_id)))
                }
            }
        })
    }

    /// Packs the tar that `write` writes.
    fn pack_with(
        &self,
        packing: Packing,
        follow: &dyn Follow,
        write: impl FnOnce(&mut dyn Write) -> Result<(), StoreError> + Send,
    ) -> Result<Written, StoreError> {
        let threads = Threads::available();
        let file = Growing::new(self.blobs.create_unhashed()?, follow).map_err(io_error)?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        let write = |out: &mut dyn Write| write(&mut Wanted { out, follow });
        match packing {
            Packing::Tar(compression) => {
                let known = Arc::new(StoredBlocks::new(self.index.clone(), self.blobs.clone()));
                let mut packer = Packer::new(out, compression, threads, Some(known)).map_err(io_error)?;
                write(&mut packer)?;
                let (out, packed) = packer.finish().map_err(io_error)?;
                Ok(Written { blob: unbuffered(out)?, packed, annotations: BTreeMap::new(), is_own: false })
            }
            Packing::Estargz(level) => {
                let read = |tar: &mut dyn Read| -> Result<(Packed, Digest), PackError> {
                    let (_, packed, table) = to_estargz(&mut *tar, level, threads, &mut out)?;
                    // What lies behind the archive's end is no part of the layer, and the writer waits for us.
                    io::copy(tar, &mut io::sink())?;
                    Ok((packed, table))
                };
                let (packed, table) =
                    piped(|out| write(out).map_err(PackError::Store), read).map_err(StoreError::from)?;
                let annotations = BTreeMap::from([
                    (TOC_DIGEST_ANNOTATION.to_owned(), table.to_string()),
                    (UNCOMPRESSED_SIZE_ANNOTATION.to_owned(), packed.uncompressed_size.to_string()),
                ]);
                Ok(Written { blob: unbuffered(out)?, packed, annotations, is_own: false })
            }
        }
    }

    /// Layers as one tree; none for no layers.
    fn merged(&self, layers: &[Layer]) -> Result<Option<MergedTree>, StoreError> {
        let trees = self.stack(&layers.iter().cloned().collect())?;
        let roots: Vec<RootDir> = trees.iter().map(RootDir::open_host).collect::<Result<_, _>>()?;
        let options = ReadOptions { format: Format::Overlay(self.xattrs), xattrs: XattrFilter::Capability };
        Ok((!roots.is_empty()).then(|| MergedTree::new(roots, options)))
    }
}

/// What lies below squashed layers; unpacked only if something there may have to be hidden.
struct Below<'a> {
    layers: &'a Layers,
    stack: &'a [Layer],
    tree: OnceLock<Option<MergedTree>>,
}

impl Below<'_> {
    /// The entry without marks that hide nothing; `None` where nothing is left of it.
    fn changed(&self, mut entry: Entry) -> Result<Option<Entry>, StoreError> {
        match &entry.node {
            Node::Whiteout if !self.has(&entry.path)? => return Ok(None),
            Node::Directory { opaque: true } if !self.has(&entry.path)? => {
                entry.node = Node::Directory { opaque: false };
            }
            _ => {}
        }
        Ok(Some(entry))
    }

    fn has(&self, path: &Path) -> Result<bool, StoreError> {
        if self.tree.get().is_none() {
            let _ = self.tree.set(self.layers.merged(self.stack)?);
        }
        let Some(Some(tree)) = self.tree.get() else { return Ok(false) };
        // Where a file stands in the way of the path there is nothing to hide.
        Ok(tree.lookup(path, false).is_ok_and(|found| found.is_some()))
    }
}

/// What either end of the pipe to an eStargz may fail with.
#[derive(Debug, thiserror::Error)]
enum PackError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Estargz(#[from] EstargzError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<PackError> for StoreError {
    fn from(error: PackError) -> Self {
        match error {
            PackError::Store(error) => error,
            PackError::Estargz(error) => Self::Pack(error.to_string()),
            PackError::Io(error) => Self::Pack(error.to_string()),
        }
    }
}

fn unbuffered(out: BufWriter<Growing<'_>>) -> Result<NamedTempFile, StoreError> {
    let file = out.into_inner().map_err(|e| e.into_error()).at("write", Path::new("a layer's blob"))?;
    Ok(file.into_file())
}

fn pack_error(error: WriteError) -> StoreError {
    match error {
        WriteError::Tree(TreeError::Changed { path }) => StoreError::Changed(path),
        error => StoreError::Pack(error.to_string()),
    }
}

fn tree_error(error: TreeError) -> StoreError {
    StoreError::Pack(error.to_string())
}

fn io_error(error: io::Error) -> StoreError {
    StoreError::Pack(error.to_string())
}
