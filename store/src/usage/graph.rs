//! Who needs what, read from the index in one linear pass over each table.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use super::records::Links;
use super::refs::{Name, hex, is_index, name, names, parts_of_manifest};
use super::{Item, Kind};
use crate::error::At;
use crate::lease::{Frozen, mount_name};
use crate::limits::{DOCUMENT_BYTES_MAX, DOCUMENTS_DEPTH_MAX};
use crate::session::is_abandoned;
use crate::{DiffId, Digest, LayerId, Store, StoreError};

/// Everything in the store, and for each thing how deep in stacks of layers it lies.
#[derive(Default)]
pub(crate) struct Graph {
    /// The things. Sizes are what the index says.
    pub items: Vec<Item>,
    /// Of each: the least place in a record that names it; records have their number of layers. What lies deep is
    /// taken first, for everything above stands on the low ones.
    pub depths: Vec<u32>,
    /// Blobs by digest.
    blobs: HashMap<Name, usize>,
    /// The forms of each layer: its tree and what it was packed as.
    layers: HashMap<Name, Vec<usize>>,
    /// Of blobs that are packed layers: the layer's tree.
    trees: HashMap<usize, usize>,
}

impl Graph {
    /// Reads it. `frozen` keeps running forges from adding to what they hold.
    pub fn read(store: &Store, frozen: &Frozen) -> Result<Self, StoreError> {
        let mut graph = Self::default();
        graph.read_blobs(store)?;
        graph.read_layers(store)?;
        graph.hold_leased(store, frozen);
        graph.hold_tagged(store)?;
        graph.read_records(store, frozen)?;
        graph.read_mounts(store, frozen)?;
        graph.read_files(store)?;
        for item in &mut graph.items {
            item.shared |= item.in_image && item.records > 0;
        }
        Ok(graph)
    }

    /// The blobs that make up an image, as far as they are here, and the trees of its layers.
    pub fn image(&self, store: &Store, digest: &Digest) -> Vec<usize> {
        name(digest.hex().as_bytes()).map_or_else(Vec::new, |root| self.closure(store, root))
    }

    /// Every blob that an image must have: of an index of images, those images that are here.
    pub fn parts_of_image(store: &Store, root: &Digest) -> Vec<Digest> {
        let mut parts = Vec::new();
        let mut pending = vec![(*root, 0)];
        while let Some((digest, depth)) = pending.pop() {
            parts.push(digest);
            let path = store.place_of(Kind::Blob, &digest.hex());
            let is_small = fs::metadata(&path).is_ok_and(|found| found.len() <= DOCUMENT_BYTES_MAX);
            let Some(document) = is_small.then(|| read_document(&path)).flatten() else { continue };
            let is_index = is_index(&document);
            let inner = parts_of_manifest(&document).into_iter().filter_map(|part| hex(&part).parse().ok());
            let inner =
                inner.filter(|part: &Digest| !is_index || store.place_of(Kind::Blob, &part.hex()).exists());
            if depth < DOCUMENTS_DEPTH_MAX {
                pending.extend(inner.map(|part| (part, depth + 1)));
            }
        }
        parts
    }

    fn add(&mut self, kind: Kind, id: String, size: u64, used_ms: i64) -> usize {
        self.items.push(Item {
            kind,
            id,
            size,
            used_ms,
            in_image: false,
            shared: false,
            in_use: false,
            records: 0,
            note: String::new(),
        });
        self.depths.push(u32::MAX);
        self.items.len() - 1
    }

    fn read_blobs(&mut self, store: &Store) -> Result<(), StoreError> {
        let rows = store.index().rows("SELECT digest, size, used FROM blobs", [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?, row.get::<_, i64>(2)?))
        })?;
        for (hex, size, used) in rows {
            let Some(name) = name(hex.as_bytes()) else { continue };
            let at = self.add(Kind::Blob, hex, size.next_multiple_of(4096), used);
            self.blobs.insert(name, at);
        }
        Ok(())
    }

    fn read_layers(&mut self, store: &Store) -> Result<(), StoreError> {
        let rows = store.index().rows("SELECT layer, size, used FROM trees", [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?, row.get::<_, i64>(2)?))
        })?;
        for (hex, size, used) in rows {
            let Some(name) = name(hex.as_bytes()) else { continue };
            let at = self.add(Kind::Layer, hex, size, used);
            self.layers.entry(name).or_default().push(at);
        }
        let packed = store.index().rows("SELECT layer, digest FROM packed", [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })?;
        for (layer, digest) in packed {
            let (Some(layer), Some(digest)) = (name(layer.as_bytes()), name(digest.as_bytes())) else {
                continue;
            };
            let Some(blob) = self.blobs.get(&digest) else { continue };
            let forms = self.layers.entry(layer).or_default();
            if let Some(tree) = forms.iter().find(|at| self.items[**at].kind == Kind::Layer) {
                self.trees.insert(*blob, *tree);
            }
            forms.push(*blob);
            self.items[*blob].note = "a layer, packed".into();
        }
        Ok(())
    }

    fn hold_leased(&mut self, store: &Store, frozen: &Frozen) {
        for leased in frozen.names().filter_map(|text| name(text.as_bytes())) {
            let mut held = self.closure(store, leased);
            held.extend(self.layers.get(&leased).into_iter().flatten());
            held.into_iter().for_each(|at| self.items[at].in_use = true);
        }
    }

    fn hold_tagged(&mut self, store: &Store) -> Result<(), StoreError> {
        let rows = store.index().rows("SELECT name, descriptor FROM tags", [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })?;
        // Several names of one image are one image.
        let mut images: HashMap<Name, String> = HashMap::new();
        for (tag, descriptor) in rows {
            for root in names(&descriptor) {
                images.entry(root).or_insert_with(|| tag.clone());
            }
        }
        for (root, tag) in images {
            for at in self.closure(store, root) {
                let item = &mut self.items[at];
                item.shared |= item.in_image;
                item.in_image = true;
                if item.note.is_empty() {
                    item.note = tag.clone();
                }
            }
        }
        Ok(())
    }

    /// A blob and, if it is a manifest, what it consists of: blobs, and trees of the layers.
    fn closure(&self, store: &Store, root: Name) -> Vec<usize> {
        let mut found = Vec::new();
        let mut seen = HashSet::from([root]);
        let mut pending = vec![(root, 0)];
        while let Some((next, depth)) = pending.pop() {
            let Some(at) = self.blobs.get(&next) else { continue };
            found.push(*at);
            found.extend(self.trees.get(at));
            let item = &self.items[*at];
            if item.size > DOCUMENT_BYTES_MAX || depth > DOCUMENTS_DEPTH_MAX {
                continue;
            }
            let path = store.place_of(Kind::Blob, &item.id);
            let Some(document) = read_document(&path) else { continue };
            let parts = parts_of_manifest(&document).into_iter().filter(|part| seen.insert(*part));
            pending.extend(parts.map(|part| (part, depth + 1)));
            found.extend(self.trees_of_configuration(&document));
        }
        found
    }

    /// A configuration lists the DiffIDs of its layers: those that were pulled have trees of that name.
    fn trees_of_configuration(&self, document: &[u8]) -> Vec<usize> {
        #[derive(serde::Deserialize)]
        struct Configuration {
            rootfs: crate::image::RootFs,
        }
        let Ok(configuration) = serde_json::from_slice::<Configuration>(document) else { return Vec::new() };
        let trees =
            configuration.rootfs.diff_ids.iter().map(|diff_id: &DiffId| LayerId::of_diff_id(diff_id).hex());
        let forms = trees.filter_map(|hex| self.layers.get(&name(hex.as_bytes())?));
        forms.flatten().copied().filter(|at| self.items[*at].kind == Kind::Layer).collect()
    }

    fn read_records(&mut self, store: &Store, frozen: &Frozen) -> Result<(), StoreError> {
        let mut links = Links::default();
        store.index().query(|connection| {
            let mut statement = connection.prepare("SELECT key, record, used FROM cache")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (key, text) = (row.get::<_, String>(0)?, row.get_ref(1)?.as_str().unwrap_or_default());
                let own = name(key.as_bytes());
                let (mut things, mut others) = (Vec::new(), Vec::new());
                for named in names(text) {
                    let blob = self.blobs.get(&named).into_iter();
                    let forms: Vec<usize> =
                        blob.chain(self.layers.get(&named).into_iter().flatten()).copied().collect();
                    match forms.is_empty() {
                        true => others.push(named),
                        false => things.push(forms),
                    }
                }
                let in_use = frozen.holds(&key);
                let size = (key.len() + text.len()) as u64;
                let at = self.add(Kind::Record, key, size, row.get(2)?);
                self.items[at].in_use = in_use;
                links.add(at, own, things, others);
            }
            Ok(())
        })?;
        links.settle(&mut self.items, &mut self.depths);
        Ok(())
    }

    fn read_mounts(&mut self, store: &Store, frozen: &Frozen) -> Result<(), StoreError> {
        let rows = store.index().rows("SELECT name, note, used, size FROM mounts", [], |row| {
            Ok((
                row.get::<_, String>(0)?,
                (row.get::<_, String>(1)?, row.get::<_, i64>(2)?, row.get::<_, Option<u64>>(3)?),
            ))
        })?;
        let known: HashMap<String, (String, i64, Option<u64>)> = rows.into_iter().collect();
        for (name, used) in files(&store.place_of(Kind::CacheMount, ""))? {
            let (note, used, size) = known.get(&name).cloned().unwrap_or((String::new(), used, None));
            let size = size
                .unwrap_or_else(|| super::Meter::default().bytes(&store.place_of(Kind::CacheMount, &name)));
            let at = self.add(Kind::CacheMount, name, size, used);
            self.items[at].in_use = frozen.holds(&mount_name(&self.items[at].id));
            self.items[at].note = note;
        }
        Ok(())
    }

    /// What is not in the index: its place in the store says what it is.
    fn read_files(&mut self, store: &Store) -> Result<(), StoreError> {
        let size = |kind: Kind, id: &str| {
            fs::symlink_metadata(store.place_of(kind, id)).map_or(0, |m| m.blocks() * 512)
        };
        for (file, used) in files(&store.state_dir())? {
            match file.as_str() {
                _ if file.starts_with("stamps-") => {
                    let bytes = size(Kind::Context, &file);
                    self.add(Kind::Context, file, bytes, used);
                }
                "builds" | "listings" | "logs" | "recipes" => {
                    for (inner, used) in files(&store.state_dir().join(&file))? {
                        let id = format!("{file}/{inner}");
                        let bytes = size(Kind::Log, &id);
                        let is_written = is_of_living(&inner);
                        let at = self.add(Kind::Log, id, bytes, used);
                        self.items[at].in_use = is_written;
                        // How an image was built is kept as long as the image.
                        let image = name(inner.split('.').next().unwrap_or_default().as_bytes());
                        let image = image.and_then(|image| self.blobs.get(&image));
                        self.items[at].in_image = image.is_some_and(|image| self.items[*image].in_image);
                    }
                }
                _ => {}
            }
        }
        for (file, used) in files(&store.place_of(Kind::Ingest, ""))? {
            let busy = !is_abandoned(&store.place_of(Kind::Ingest, &file));
            let bytes = size(Kind::Ingest, &file);
            let at = self.add(Kind::Ingest, file, bytes, used);
            self.items[at].in_use = busy;
        }
        for (dir, used) in files(&store.place_of(Kind::Temporary, ""))? {
            let busy = !is_abandoned(&store.place_of(Kind::Temporary, &dir));
            let at = self.add(Kind::Temporary, dir, 0, used);
            self.items[at].in_use = busy;
        }
        let now = crate::index::now_ms();
        self.add(Kind::Index, "index.db".into(), store.index_bytes(), now);
        self.add(Kind::Other, "other".into(), store.ballast_bytes(), now);
        Ok(())
    }
}

/// True for the log of a build that may still be under way: its process's number stands in its name.
fn is_of_living(log: &str) -> bool {
    let stem = log.split_once('.').map_or(log, |(stem, _)| stem);
    let pid = stem.rsplit_once('-').and_then(|(_, pid)| pid.parse::<u32>().ok());
    pid.is_some_and(|pid| Path::new("/proc").join(pid.to_string()).exists())
}

/// The names in a directory, and when each was last changed. A directory that is not there has none.
fn files(dir: &Path) -> Result<Vec<(String, i64)>, StoreError> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.at("list", dir)?,
    };
    let of = |entry: fs::DirEntry| {
        let changed = entry.metadata().ok()?.modified().ok()?;
        let changed = changed.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        Some((entry.file_name().into_string().ok()?, changed))
    };
    Ok(entries.flatten().filter_map(of).collect())
}

/// A small blob, if it looks like a JSON document.
fn read_document(path: &Path) -> Option<Vec<u8>> {
    let bytes = fs::read(path).ok()?;
    (bytes.trim_ascii_start().first() == Some(&b'{')).then_some(bytes)
}
