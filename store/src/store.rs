//! One store: a directory that several forge processes share.
//!
//! ```text
//! ROOT/oci-layout, blobs/      an OCI image layout's blob directory        (blobs.rs)
//! ROOT/index.db                what is here, and whether it is durable     (index.rs)
//! ROOT/layers/<id>/            unpacked layers in overlayfs' own format    (layers.rs)
//! ROOT/ingest/                 blobs being fetched                         (blobs.rs)
//! ROOT/index.json              the tags once more, as an image layout has them (tags.rs)
//! ROOT/tmp/, locks/, leases/   what is unfinished, who works on what, who needs what (session, locks, lease.rs)
//! ROOT/ballast                 space put by for removing on a full disk   (gc/ballast.rs)
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
use crate::gc::{self, Ballast};
use crate::index::{DAMAGED, Index, boot_id, now_ms};
use crate::lease::{Leases, mount_name};
use crate::recover::{self, Recovered};
use crate::session::{Draft, LazySession, Session};
use crate::tree::OverlayXattrs;
use crate::usage::Kind;
use crate::{Blobs, Cache, Descriptor, Layers, Locks, StoreError, Tags, tags};

/// The directories of a store.
const DIRS: [&str; 7] = ["blobs/sha256", "layers", "ingest", "tmp", "leases", "locks", "state"];

/// The database's file.
pub(crate) const INDEX: &str = "index.db";

/// An open store.
pub struct Store {
    root: PathBuf,
    index: Arc<Index>,
    blobs: Blobs,
    layers: Layers,
    tags: Tags,
    cache: Cache,
    locks: Arc<Locks>,
    leases: Arc<Leases>,
    session: Arc<LazySession>,
    recovered: Option<Recovered>,
    is_writable: bool,
}

impl Store {
    /// Opens the store at `root`, making it if it is not there (mode 0700).
    ///
    /// `xattrs` says how overlayfs' marks are written: in the `trusted` namespace by root, in `user` elsewhere.
    pub fn open(root: &Path, xattrs: OverlayXattrs) -> Result<Self, StoreError> {
        let is_writable = is_writable(root);
        if !DIRS.iter().all(|dir| root.join(dir).is_dir()) {
            create(root)?;
        }
        let (index, recovered) = match is_writable {
            true => open_index(root)?,
            false => (Index::open_read_only(&root.join(INDEX), boot_id()?)?, None),
        };
        let index = Arc::new(index);
        let locks = Arc::new(Locks::new(root));
        let leases = Arc::new(Leases::new(root));
        let session = Arc::new(LazySession::new(root.join("tmp")));
        let blobs = Blobs::new(root, index.clone(), locks.clone(), leases.clone(), session.clone());
        let layers = Layers::new(
            root,
            index.clone(),
            blobs.clone(),
            locks.clone(),
            leases.clone(),
            session.clone(),
            xattrs,
        );
        let store = Self {
            root: root.to_owned(),
            blobs,
            layers,
            tags: Tags::new(root, index.clone(), locks.clone(), leases.clone()),
            cache: Cache::new(index.clone(), leases.clone()),
            locks,
            leases,
            session,
            index,
            recovered,
            is_writable,
        };
        if recovered.is_some() {
            store.layers.forget_doubtful()?;
        }
        Ok(store)
    }

    /// What was made anew when the store was opened, because its index was damaged.
    pub fn recovered(&self) -> Option<&Recovered> {
        self.recovered.as_ref()
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

    /// The directory of a cache mount, and what it is for, as people are told. It is not made here. It stays as long
    /// as this forge lives.
    pub fn cache_mount(&self, name: &str, note: &str) -> Result<PathBuf, StoreError> {
        self.leases.hold([mount_name(name)])?;
        let sql = "INSERT INTO mounts (name, note, used, size) VALUES (?1, ?2, ?3, NULL)
                   ON CONFLICT (name) DO UPDATE SET note = ?2, used = ?3, size = NULL";
        self.index.execute(sql, (name, note, now_ms()))?;
        Ok(self.place_of(Kind::CacheMount, name))
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
        if !self.is_writable {
            return self.has_names(names, descriptor);
        }
        // What others write while the disk is being synced may be on it or not: it stays marked.
        let unsynced = self.index.unsynced()?;
        let root = fs::File::open(&self.root).at("open", &self.root)?;
        rustix::fs::syncfs(&root).at("sync", &self.root)?;
        self.index.durably(|transaction| {
            unsynced.mark(transaction)?;
            descriptor.map_or(Ok(()), |descriptor| tags::set(transaction, names, descriptor))
        })?;
        self.index.note_uses();
        match names {
            [] => Ok(()),
            _ => self.tags.write_list(),
        }
    }

    /// For a store that may only be read: it is all the same if there is nothing to write.
    fn has_names(&self, names: &[String], descriptor: Option<&Descriptor>) -> Result<(), StoreError> {
        for name in names {
            let found = self.tags.get(name)?.map(|found| found.digest);
            if found.is_none() || found != descriptor.map(|descriptor| descriptor.digest) {
                return Err(StoreError::ReadOnly(self.root.clone()));
            }
        }
        Ok(())
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    pub(crate) fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Where a thing lies; the directory of its kind for an empty name.
    pub(crate) fn place_of(&self, kind: Kind, id: &str) -> PathBuf {
        let dir = match kind {
            Kind::Blob => "blobs/sha256",
            Kind::Layer => "layers",
            Kind::CacheMount => "state/caches",
            Kind::Context | Kind::Log => "state",
            Kind::Ingest => "ingest",
            Kind::Temporary => "tmp",
            Kind::Record | Kind::Index | Kind::Other => "",
        };
        self.root.join(dir).join(id)
    }

    /// The files of the database.
    pub(crate) fn index_files(&self) -> [PathBuf; 3] {
        ["", "-wal", "-shm"].map(|end| self.root.join(format!("{INDEX}{end}")))
    }

    /// What the database takes, in bytes on disk.
    pub(crate) fn index_bytes(&self) -> u64 {
        self.index_files().iter().map(|path| bytes_of_file(path)).sum()
    }

    /// What is put by, in bytes on disk.
    pub(crate) fn ballast_bytes(&self) -> u64 {
        bytes_of_file(&self.root.join(gc::BALLAST))
    }

    /// Something that the store remembers about itself.
    pub(crate) fn note(&self, name: &str) -> Result<Option<String>, StoreError> {
        self.index.row("SELECT value FROM notes WHERE name = ?1", [name], |row| row.get(0))
    }

    pub(crate) fn set_note(&self, name: &str, value: &str) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO notes (name, value) VALUES (?1, ?2)";
        self.index.execute(sql, (name, value)).map(drop)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.index.note_uses();
    }
}

/// Opens the index, made anew if it is damaged.
fn open_index(root: &Path) -> Result<(Index, Option<Recovered>), StoreError> {
    let (path, boot) = (root.join(INDEX), boot_id()?);
    // An empty database beside blobs was truncated; beside nothing it is new.
    let blobs = root.join("blobs/sha256");
    let has_blobs = fs::read_dir(&blobs).at("list", &blobs)?.next().is_some();
    let open = || {
        let index = match has_blobs {
            true => Index::open_existing(&path, boot.clone())?,
            false => Index::open(&path, boot.clone())?,
        };
        index.forget_unsynced()?;
        Ok(index)
    };
    let opened = match root.join(DAMAGED).exists() {
        true => Err(StoreError::DamagedIndex(path.clone())),
        false => open(),
    };
    match opened {
        Err(StoreError::DamagedIndex(_)) => {
            let recovered = recover::recover(root, &boot)?;
            Ok((open()?, recovered))
        }
        // Even to open it takes some space.
        Err(_) if Ballast::of(root).drop_if_full() => Ok((open()?, None)),
        other => Ok((other?, None)),
    }
}

/// Bytes on disk of one file; none if it is not there.
fn bytes_of_file(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(path).map_or(0, |found| found.blocks() * 512)
}

/// False for what is there and may only be read: a file system mounted so, or another user's store.
fn is_writable(root: &Path) -> bool {
    use rustix::fs::{Access, access};
    use rustix::io::Errno;
    !matches!(access(root, Access::WRITE_OK), Err(Errno::ROFS | Errno::ACCESS))
}

fn create(root: &Path) -> Result<(), StoreError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    for dir in DIRS {
        let path = root.join(dir);
        builder.create(&path).at("create", &path)?;
    }
    Ballast::of(root).put_by();
    let layout = root.join("oci-layout");
    match fs::OpenOptions::new().write(true).create_new(true).open(&layout) {
        Ok(mut file) => {
            io::Write::write_all(&mut file, br#"{"imageLayoutVersion":"1.0.0"}"#).at("write", &layout)
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e).at("create", &layout),
    }
}
