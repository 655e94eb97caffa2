//! What a selection holds, by content: names, types, modes, link targets and bytes, never times or inodes.

use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use forge_solver::explain::{FileFact, Listing};
use forge_solver::op::Selection;
use forge_store::ContentId;
use forge_store::rootdir::{FileKind, Stat};

use super::error::{At, FilesError};
use super::view::TreeView;
use super::walk::{Walked, walk};

/// Hashes what a selection holds. `owners` says whether owners count (they do not for contexts).
pub fn hash_selection(
    view: &dyn TreeView,
    selection: &Selection,
    owners: bool,
) -> Result<ContentId, FilesError> {
    let walked = walk(view, selection)?;
    let contents = hash_files(view, &walked)?;
    let mut feed = Feed::new();
    for (at, content) in contents.iter().enumerate() {
        let stat = walked.stat(at);
        feed.sized(&[&walked.name(at)]);
        feed.stat(stat, owners);
        match stat.kind {
            FileKind::Regular => feed.sized(&[content.as_ref().expect("every file was hashed").as_bytes()]),
            FileKind::Symlink => feed.sized(&[view.read_link(&walked.path(at))?.as_bytes()]),
            FileKind::Char | FileKind::Block => {
                feed.bytes(&stat.rdev.major.to_le_bytes());
                feed.bytes(&stat.rdev.minor.to_le_bytes());
            }
            _ => {}
        }
        if owners && stat.kind != FileKind::Symlink {
            for (name, value) in view.xattrs(&walked.path(at))? {
                feed.sized(&[name.as_bytes(), &value]);
            }
        }
    }
    Ok(ContentId::new(feed.finish()))
}

/// The files of a selection, for naming those that changed: hashes are the ones that the content id was made of.
pub fn list_selection(view: &dyn TreeView, selection: &Selection) -> Result<Listing, FilesError> {
    let walked = walk(view, selection)?;
    let contents = hash_files(view, &walked)?;
    let mut listing = Listing::new();
    for (at, content) in contents.iter().enumerate() {
        let stat = walked.stat(at);
        let content = match stat.kind {
            FileKind::Directory => continue,
            FileKind::Symlink => format!("link {}", view.read_link(&walked.path(at))?.to_string_lossy()),
            kind => {
                format!("{kind:?} {}", content.map(|hash| hash.to_hex()[..16].to_owned()).unwrap_or_default())
            }
        };
        let name = String::from_utf8_lossy(&walked.name(at)).into_owned();
        listing.insert(name, FileFact { mode: stat.mode, content });
    }
    Ok(listing)
}

/// The hash of every regular file's bytes, on all cores.
fn hash_files(view: &dyn TreeView, walked: &Walked) -> Result<Vec<Option<blake3::Hash>>, FilesError> {
    let mut hashes: Vec<Option<blake3::Hash>> = vec![None; walked.len()];
    let mut missing = Vec::new();
    for at in (0..walked.len()).filter(|at| walked.stat(*at).kind == FileKind::Regular) {
        hashes[at] = view.known_hash(walked.stat(at));
        if hashes[at].is_none() {
            missing.push(at);
        }
    }
    let next = AtomicUsize::new(0);
    let results = Mutex::new((Vec::with_capacity(missing.len()), None));
    let work = || {
        let mut buffer = vec![0; 256 << 10];
        while let Some(at) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = hash_file(view, &walked.path(*at), walked.stat(*at), &mut buffer);
            let mut results = results.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match outcome {
                Ok(hash) => results.0.push((*at, hash)),
                Err(error) => results.1 = Some(error),
            }
            if results.1.is_some() {
                return;
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(missing.len() / 8 + 1);
    std::thread::scope(|scope| {
        (1..workers).for_each(|_| drop(scope.spawn(work)));
        work();
    });
    let (found, error) = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    for (at, hash) in found {
        hashes[at] = Some(hash);
    }
    error.map_or(Ok(hashes), Err)
}

fn hash_file(
    view: &dyn TreeView,
    path: &Path,
    seen: &Stat,
    buffer: &mut [u8],
) -> Result<blake3::Hash, FilesError> {
    let (mut file, stat) = view.open(path)?;
    let mut hasher = blake3::Hasher::new();
    loop {
        let n = file.read(buffer).at("read", path)?;
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
    }
    let hash = hasher.finalize();
    view.learn_hash(path, seen, &stat, hash);
    Ok(hash)
}

/// Feeds a hash in large pieces: one call for each field would cost more than the hashing.
struct Feed {
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
}

/// How much is fed at once.
const FEED_BYTES: usize = 64 << 10;

impl Feed {
    fn new() -> Self {
        let hasher = blake3::Hasher::new_derive_key("forge selection v1");
        Self { hasher, buffer: Vec::with_capacity(FEED_BYTES + 4096) }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= FEED_BYTES {
            self.hasher.update(&self.buffer);
            self.buffer.clear();
        }
    }

    /// Each part with its length before it.
    fn sized(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.bytes(&(part.len() as u64).to_le_bytes());
            self.bytes(part);
        }
    }

    fn stat(&mut self, stat: &Stat, owners: bool) {
        self.bytes(&[stat.kind as u8]);
        // A symlink has no mode of its own.
        let mode = if stat.kind == FileKind::Symlink { 0 } else { stat.mode };
        self.bytes(&mode.to_le_bytes());
        if owners {
            self.bytes(&stat.uid.to_le_bytes());
            self.bytes(&stat.gid.to_le_bytes());
        }
    }

    fn finish(mut self) -> blake3::Hash {
        self.hasher.update(&self.buffer);
        self.hasher.finalize()
    }
}
