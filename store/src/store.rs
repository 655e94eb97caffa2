//! One store: a directory that several forge processes share.
//!
//! ```text
//! ROOT/oci-layout, blobs/      an OCI image layout's blob directory        (blobs.rs)
//! ROOT/index.db                what is here, and whether it is durable     (index.rs)
//! ROOT/layers/<id>/            unpacked layers in overlayfs' own format    (layers.rs)
//! ROOT/ingest/                 blobs being fetched                         (blobs.rs)
//! ROOT/tmp/, locks/            what is unfinished, who works on what       (session.rs, locks.rs)
//! ROOT/state/                  small files of other rooms (context stamps, mounts' caches, logs)
//! ```
//!
//! Everything is written aside, checked and renamed. Nothing is synced on the way; [`Store::commit`] syncs the
//! file system once and only then writes names, so a power cut leaves every acknowledged image whole.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::At;
use crate::index::{Index, boot_id};
use crate::session::{Draft, LazySession, Session};
use crate::tree::OverlayXattrs;
use crate::{Blobs, Cache, Descriptor, Layers, Locks, StoreError, Tags, tags};

/// The directories of a store.
const DIRS: [&str; 6] = ["blobs/sha256", "layers", "ingest", "tmp", "locks", "state"];

/// An open store.
pub struct Store {
    root: PathBuf,
    index: Arc<Index>,
    blobs: Blobs,
    layers: Layers,
    tags: Tags,
    cache: Cache,
    locks: Arc<Locks>,
    session: Arc<LazySession>,
}

impl Store {
    /// Opens the store at `root`, making it if it is not there (mode 0700).
    ///
    /// `xattrs` says how overlayfs' marks are written: in the `trusted` namespace by root, in `user` elsewhere.
    pub fn open(root: &Path, xattrs: OverlayXattrs) -> Result<Self, StoreError> {
        if !root.join("index.db").exists() {
            create(root)?;
        }
        let index = Arc::new(Index::open(&root.join("index.db"), boot_id()?)?);
        index.forget_unsynced()?;
        let locks = Arc::new(Locks::new(root));
        let session = Arc::new(LazySession::new(root.join("tmp")));
        let blobs = Blobs::new(root, index.clone(), session.clone());
        let layers = Layers::new(root, index.clone(), blobs.clone(), locks.clone(), session.clone(), xattrs);
        Ok(Self {
            root: root.to_owned(),
            blobs,
            layers,
            tags: Tags::new(index.clone()),
            cache: Cache::new(index.clone()),
            locks,
            session,
            index,
        })
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Which marks the unpacked layers in here have: those it is opened with, unless it was opened with others when
    /// the first was unpacked. Trees with other marks would be misread.
    pub fn tree_marks(&self) -> Result<OverlayXattrs, StoreError> {
        let path = self.state_dir().join("marks");
        let own = self.layers.xattrs();
        let is_fresh = match fs::read_to_string(&path) {
            Ok(name) => match OverlayXattrs::of_name(name.trim()) {
                Some(kept) if kept != own && self.layers.has_trees()? => return Ok(kept),
                Some(kept) => kept != own,
                None => true,
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => true,
            Err(e) => return Err(e).at("read", &path),
        };
        // Two forge processes that get here at once write the same, or the second finds no tree yet either.
        if is_fresh {
            fs::write(&path, own.name()).at("write", &path)?;
        }
        Ok(own)
    }

    /// Where other rooms keep small files.
    pub fn state_dir(&self) -> PathBuf {
        self.root.join("state")
    }

    /// Blobs by digest.
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Layers in both forms.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// Names of images.
    pub fn tags(&self) -> &Tags {
        &self.tags
    }

    /// Cache records.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Locks by name.
    pub fn locks(&self) -> &Locks {
        &self.locks
    }

    /// An empty tree to work in.
    pub fn draft(&self) -> Result<Draft, StoreError> {
        self.session.with(Session::draft)
    }

    /// An empty directory of this run, gone with it.
    pub fn scratch(&self) -> Result<Draft, StoreError> {
        self.draft()
    }

    /// Makes all that was written so far durable, then names `descriptor` by `names`.
    pub fn commit(&self, names: &[String], descriptor: Option<&Descriptor>) -> Result<(), StoreError> {
        let root = fs::File::open(&self.root).at("open", &self.root)?;
        rustix::fs::syncfs(&root).at("sync", &self.root)?;
        self.index.durably(|transaction| {
            transaction.execute("UPDATE blobs SET boot = NULL WHERE boot IS NOT NULL", [])?;
            transaction.execute("UPDATE trees SET boot = NULL WHERE boot IS NOT NULL", [])?;
            descriptor.map_or(Ok(()), |descriptor| tags::set(transaction, names, descriptor))
        })
    }
}

fn create(root: &Path) -> Result<(), StoreError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    for dir in DIRS {
        let path = root.join(dir);
        builder.create(&path).at("create", &path)?;
    }
    let layout = root.join("oci-layout");
    match fs::OpenOptions::new().write(true).create_new(true).open(&layout) {
        Ok(mut file) => {
            io::Write::write_all(&mut file, br#"{"imageLayoutVersion":"1.0.0"}"#).at("write", &layout)
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e).at("create", &layout),
    }
}
