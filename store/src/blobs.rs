//! Blobs: immutable bytes named by their digest, kept as an OCI image layout keeps them.
//!
//! ```text
//! ROOT/oci-layout              {"imageLayoutVersion":"1.0.0"}
//! ROOT/blobs/sha256/<hex>      0444, checked before it got this name
//! ROOT/ingest/<hex>            bytes on their way, locked by the process that fetches them
//! ```
//!
//! A blob gets its name only after digest and size were checked. A name that is already there is never
//! overwritten. A file counts as a blob only if the index knows it.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::digest::Hashing;
use crate::error::At;
use crate::index::{Index, Table, now_ms};
use crate::lease::Leases;
use crate::session::LazySession;
use crate::{Digest, Locks, StoreError};

/// The blobs of one store. Clones share it.
#[derive(Clone)]
pub struct Blobs {
    dir: PathBuf,
    ingest: PathBuf,
    index: Arc<Index>,
    locks: Arc<Locks>,
    leases: Arc<Leases>,
    session: Arc<LazySession>,
    /// Blobs whose bytes this forge has checked.
    fresh: Arc<Mutex<HashSet<Digest>>>,
}

impl Blobs {
    pub(crate) fn new(
        root: &Path,
        index: Arc<Index>,
        locks: Arc<Locks>,
        leases: Arc<Leases>,
        session: Arc<LazySession>,
    ) -> Self {
        let (dir, ingest) = (root.join("blobs/sha256"), root.join("ingest"));
        Self { dir, ingest, index, locks, leases, session, fresh: Arc::default() }
    }

    /// Where the blob's bytes are or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.hex())
    }

    /// True if the store holds the blob.
    pub fn contains(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.size(digest)?.is_some())
    }

    /// The blob's size in bytes, if the store holds it: the index knows it, and its file has not gone.
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        Ok(self.known_size(digest)?.filter(|_| self.path(digest).exists()))
    }

    /// The blob's size in bytes, if the index knows it. From now on it stays as long as this forge lives.
    fn known_size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        let hex = digest.hex();
        self.leases.hold([&hex])?;
        let sql = "SELECT size, used FROM blobs WHERE digest = ?1";
        let row = self.index.row(sql, [&hex], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(row.map(|(size, used)| {
            self.index.touch(Table::Blobs, &hex, used);
            size
        }))
    }

    /// The blob's file and size in bytes, if the store holds it.
    pub fn open(&self, digest: &Digest) -> Result<Option<(File, u64)>, StoreError> {
        let Some(size) = self.known_size(digest)? else { return Ok(None) };
        let path = self.path(digest);
        let file = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.forget(digest)?;
                return Ok(None);
            }
            other => other.at("open", &path)?,
        };
        let found = file.metadata().at("stat", &path)?.len();
        if found != size {
            self.forget(digest)?;
            let detail =
                format!("it has {found} bytes instead of {size}; it was dropped and will be made anew");
            return Err(StoreError::Corrupt { object: format!("blob {digest}"), detail });
        }
        Ok(Some((file, size)))
    }

    /// The whole blob, verified; at most `limit` bytes.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let Some((mut file, size)) = self.open(digest)? else { return Ok(None) };
        if size > limit {
            return Err(StoreError::TooLarge { digest: *digest, size, limit });
        }
        let mut bytes = Vec::with_capacity(size as usize);
        file.read_to_end(&mut bytes).at("read", &self.path(digest))?;
        if Digest::of(&bytes) != *digest {
            return Err(self.drop_damaged(digest));
        }
        Ok(Some(bytes))
    }

    /// What is wrong with the blob, all of it read; `None` if nothing is.
    pub fn damage(&self, digest: &Digest) -> Result<Option<String>, StoreError> {
        let size = self.known_size(digest)?.ok_or(StoreError::MissingBlob(*digest))?;
        let path = self.path(digest);
        let mut file = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Some("its file is gone".into())),
            other => other.at("open", &path)?,
        };
        let (hash, found) = rehash(&mut file, &path)?;
        let hash = Digest::from_sha256(hash);
        Ok(match found == size && hash == *digest {
            true => {
                self.note_fresh(digest);
                None
            }
            false if found != size => Some(format!("it has {found} bytes instead of {size}")),
            false => Some(format!("its bytes hash to {hash}")),
        })
    }

    /// Reads the whole blob, unless this forge did before, and compares it with its digest; one that differs is
    /// dropped.
    ///
    /// # Errors
    /// [`StoreError::MissingBlob`] if it is not here, [`StoreError::Corrupt`] if it was dropped.
    pub fn check(&self, digest: &Digest) -> Result<(), StoreError> {
        if self.fresh.lock().unwrap_or_else(PoisonError::into_inner).contains(digest) {
            return Ok(());
        }
        match self.damage(digest)? {
            None => Ok(()),
            Some(_) => Err(self.drop_damaged(digest)),
        }
    }

    /// The blob's file and size in bytes, if the store holds it and every byte is right: for whoever passes it on.
    pub fn open_checked(&self, digest: &Digest) -> Result<Option<(File, u64)>, StoreError> {
        let Some(found) = self.open(digest)? else { return Ok(None) };
        self.check(digest)?;
        Ok(Some(found))
    }

    fn note_fresh(&self, digest: &Digest) {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner).insert(*digest);
    }

    /// Drops a blob whose bytes are wrong; says so.
    pub(crate) fn drop_damaged(&self, digest: &Digest) -> StoreError {
        if let Err(error) = self.remove(digest) {
            return error;
        }
        let detail = "its bytes hash to another digest; it was dropped and will be made anew".into();
        StoreError::Corrupt { object: format!("blob {digest}"), detail }
    }

    /// Keeps some bytes; says their digest.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        if !self.contains(&digest)? {
            let mut new = self.create()?;
            new.write_all(bytes).at("write", &self.ingest)?;
            new.commit()?;
        }
        Ok(digest)
    }

    /// Starts a blob whose digest is not known yet.
    pub fn create(&self) -> Result<NewBlob, StoreError> {
        Ok(NewBlob { file: Hashing::new(self.create_unhashed()?), blobs: self.clone() })
    }

    /// A file for a blob that its writer hashes: see [`Blobs::keep`].
    pub(crate) fn create_unhashed(&self) -> Result<NamedTempFile, StoreError> {
        self.session.with(|session| {
            let mut builder = tempfile::Builder::new();
            builder.prefix("blob-").tempfile_in(session.dir()).at("create a file in", session.dir())
        })
    }

    /// Gives a file its name as a blob. Digest and size are of what was written to it.
    pub(crate) fn keep(&self, file: NamedTempFile, digest: &Digest, size: u64) -> Result<(), StoreError> {
        let path = file.into_temp_path();
        if self.publish(&path, digest, size)? {
            // The name under the session is gone: nothing is left to remove.
            let _ = path.keep();
        }
        Ok(())
    }

    /// Starts or resumes a blob whose digest is known. Waits while another process fetches the same blob.
    pub fn ingest(&self, expected: &Digest, size: Option<u64>) -> Result<Ingest, StoreError> {
        Ingest::open(self.clone(), *expected, size)
    }

    /// Remembers where a blob can be had: a repository that served it or took it.
    pub fn add_source(&self, digest: &Digest, repository: &str) -> Result<(), StoreError> {
        let sql = "INSERT OR IGNORE INTO sources (digest, repository) VALUES (?1, ?2)";
        self.index.execute(sql, (digest.hex(), repository)).map(drop)
    }

    /// The repositories known to hold a blob, as `registry/repository`.
    pub fn sources(&self, digest: &Digest) -> Result<Vec<String>, StoreError> {
        self.index.rows("SELECT repository FROM sources WHERE digest = ?1", [digest.hex()], |row| row.get(0))
    }

    /// Drops a blob.
    pub fn remove(&self, digest: &Digest) -> Result<(), StoreError> {
        self.forget(digest)?;
        match fs::remove_file(self.path(digest)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).at("remove", &self.path(digest)),
            _ => Ok(()),
        }
    }

    /// Every blob with its size in bytes.
    pub fn list(&self) -> Result<Vec<(Digest, u64)>, StoreError> {
        let rows = self.index.rows("SELECT digest, size FROM blobs ORDER BY digest", [], |row| {
            Ok((row.get::<_, String>(0)?, row.get(1)?))
        })?;
        Ok(rows
            .into_iter()
            .filter_map(|(hex, size)| Some((format!("sha256:{hex}").parse().ok()?, size)))
            .collect())
    }

    fn forget(&self, digest: &Digest) -> Result<(), StoreError> {
        self.index.execute("DELETE FROM blobs WHERE digest = ?1", [digest.hex()]).map(drop)
    }

    /// Gives checked bytes their name, then tells the index. False if the store has the blob: that one stays, for
    /// it may be durable already, and these bytes are not.
    fn publish(&self, from: &Path, digest: &Digest, size: u64) -> Result<bool, StoreError> {
        let to = self.path(digest);
        self.leases.hold([digest.hex()])?;
        let _lock = self.locks.lock(&format!("blob-{}", digest.hex()))?;
        if self.size(digest)? == Some(size) && fs::metadata(&to).is_ok_and(|found| found.len() == size) {
            return Ok(false);
        }
        fs::set_permissions(from, Permissions::from_mode(0o444)).at("chmod", from)?;
        // What may stand there under the name is nothing that the index vouches for.
        fs::rename(from, &to).at("rename a blob to", &to)?;
        let sql = "INSERT OR REPLACE INTO blobs (digest, size, boot, used) VALUES (?1, ?2, ?3, ?4)";
        self.index.execute(sql, (digest.hex(), size, self.index.boot(), now_ms()))?;
        self.note_fresh(digest);
        Ok(true)
    }
}

/// A blob being made here. Dropped without [`NewBlob::commit`], nothing of it stays.
pub struct NewBlob {
    file: Hashing<NamedTempFile>,
    blobs: Blobs,
}

impl NewBlob {
    /// Gives the bytes their name; says digest and size.
    pub fn commit(self) -> Result<(Digest, u64), StoreError> {
        let (file, digest, size) = self.file.finish();
        self.blobs.keep(file, &digest, size)?;
        Ok((digest, size))
    }
}

impl Write for NewBlob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A blob being fetched: what arrived stays when it is dropped, so that a later try resumes.
///
/// Bytes that turn out wrong do not stay.
pub struct Ingest {
    blobs: Blobs,
    expected: Digest,
    size: Option<u64>,
    path: PathBuf,
    file: File,
    hash: Sha256,
    offset: u64,
}

impl Ingest {
    fn open(blobs: Blobs, expected: Digest, size: Option<u64>) -> Result<Self, StoreError> {
        let path = blobs.ingest.join(expected.hex());
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .mode(0o600)
                .open(&path)
                .at("open", &path)?;
            flock(&file, FlockOperation::LockExclusive).at("lock", &path)?;
            // The holder before us may have renamed or removed the file while we waited for its lock.
            if !is_same_file(&file, &path)? {
                if blobs.contains(&expected)? {
                    return Ok(Self { blobs, expected, size, path, file, hash: Sha256::new(), offset: 0 });
                }
                continue;
            }
            let (hash, offset) = rehash(&mut file, &path)?;
            return Ok(Self { blobs, expected, size, path, file, hash, offset });
        }
    }

    /// Bytes that are already here, from an earlier try: continue behind them.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// True if another process finished this blob while we waited: nothing is left to fetch.
    pub fn is_complete(&self) -> Result<bool, StoreError> {
        self.blobs.contains(&self.expected)
    }

    /// Forgets what is here, to begin anew.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        self.file.set_len(0).at("truncate", &self.path)?;
        self.hash = Sha256::new();
        self.offset = 0;
        Ok(())
    }

    /// Checks size and digest and gives the bytes their name; wrong bytes are removed.
    pub fn commit(self) -> Result<(), StoreError> {
        if self.is_complete()? {
            return self.discard();
        }
        let found = Digest::from_sha256(self.hash.clone());
        let detail = match self.size {
            Some(size) if size != self.offset => format!("expected {size} bytes, got {}", self.offset),
            _ if found != self.expected => format!("its bytes hash to {found}"),
            _ => {
                return match self.blobs.publish(&self.path, &self.expected, self.offset)? {
                    true => Ok(()),
                    false => self.discard(),
                };
            }
        };
        let object = format!("blob {}", self.expected);
        self.discard()?;
        Err(StoreError::Corrupt { object, detail })
    }

    /// Removes what is here.
    pub fn discard(self) -> Result<(), StoreError> {
        if is_same_file(&self.file, &self.path)? {
            fs::remove_file(&self.path).at("remove", &self.path)?;
        }
        Ok(())
    }
}

impl Write for Ingest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hash.update(&bytes[..n]);
        self.offset += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn rehash(file: &mut File, path: &Path) -> Result<(Sha256, u64), StoreError> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    let mut offset = 0;
    loop {
        let n = file.read(&mut buffer).at("read", path)?;
        if n == 0 {
            return Ok((hash, offset));
        }
        hash.update(&buffer[..n]);
        offset += n as u64;
    }
}

fn is_same_file(file: &File, path: &Path) -> Result<bool, StoreError> {
    use std::os::unix::fs::MetadataExt;
    let ours = file.metadata().at("stat", path)?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok(there.dev() == ours.dev() && there.ino() == ours.ino()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e).at("stat", path),
    }
}
