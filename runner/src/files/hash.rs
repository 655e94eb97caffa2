//! What a selection holds, by content: names, types, modes, link targets and bytes, never times or inodes.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use forge_solver::explain::{FileFact, Listing};
use forge_solver::matching::IgnoreDirectory;
use forge_solver::op::Selection;
use forge_store::ContentId;
use forge_store::rootdir::{FileKind, Stat};

use super::error::{At, FilesError};
use super::select::{excludes, left_out_below, select};
use super::view::TreeView;

/// Hashes what a selection holds. `owners` says whether owners count (they do not for contexts).
pub fn hash_selection(
    view: &dyn TreeView,
    selection: &Selection,
    owners: bool,
) -> Result<ContentId, FilesError> {
    let entries = entries(view, selection)?;
    let contents = hash_files(view, &entries)?;
    let mut hasher = blake3::Hasher::new_derive_key("forge selection v1");
    for (entry, content) in entries.iter().zip(contents) {
        feed(&mut hasher, entry.name.as_os_str().as_encoded_bytes());
        feed_stat(&mut hasher, &entry.stat, owners);
        match entry.stat.kind {
            FileKind::Regular => feed(&mut hasher, content.expect("every file was hashed").as_bytes()),
            FileKind::Symlink => feed(&mut hasher, view.read_link(&entry.path)?.as_encoded_bytes()),
            FileKind::Char | FileKind::Block => {
                hasher.update(&entry.stat.rdev.major.to_le_bytes());
                hasher.update(&entry.stat.rdev.minor.to_le_bytes());
            }
            _ => {}
        }
        if owners && entry.stat.kind != FileKind::Symlink {
            for (name, value) in view.xattrs(&entry.path)? {
                feed(&mut hasher, name.as_encoded_bytes());
                feed(&mut hasher, &value);
            }
        }
    }
    Ok(ContentId::new(hasher.finalize()))
}

/// Everything that a selection holds, the directories' content included.
fn entries(view: &dyn TreeView, selection: &Selection) -> Result<Vec<Entry>, FilesError> {
    let left_out = excludes(selection)?;
    let mut entries = Vec::new();
    for found in select(view, selection)? {
        let top = Entry { name: found.name.clone(), path: found.path.clone(), stat: found.stat };
        entries.push(top);
        if found.stat.kind == FileKind::Directory {
            let below = left_out_below(&found, selection, &left_out);
            collect(view, &found.path, &found.name, below, &mut entries)?;
        }
    }
    Ok(entries)
}

/// The files of a selection, for naming those that changed: hashes are the ones that the content id was made of.
pub fn list_selection(view: &dyn TreeView, selection: &Selection) -> Result<Listing, FilesError> {
    let entries = entries(view, selection)?;
    let contents = hash_files(view, &entries)?;
    let mut listing = Listing::new();
    for (entry, content) in entries.iter().zip(contents) {
        let content = match entry.stat.kind {
            FileKind::Directory => continue,
            FileKind::Symlink => format!("link {}", view.read_link(&entry.path)?.to_string_lossy()),
            kind => format!("{kind:?} {}", content.map(|hash| hash.to_hex().to_string()).unwrap_or_default()),
        };
        let name = entry.name.to_string_lossy().into_owned();
        listing.insert(name, FileFact { mode: entry.stat.mode, content });
    }
    Ok(listing)
}

struct Entry {
    name: PathBuf,
    path: PathBuf,
    stat: Stat,
}

fn collect(
    view: &dyn TreeView,
    path: &Path,
    name: &Path,
    left_out: IgnoreDirectory<'_>,
    entries: &mut Vec<Entry>,
) -> Result<(), FilesError> {
    for child in view.children(path)? {
        let verdict = left_out.entry(child.name.as_encoded_bytes());
        let (path, name) = (path.join(&child.name), name.join(&child.name));
        let is_dir = child.stat.kind == FileKind::Directory;
        let (excluded, descend) = (verdict.excluded, verdict.descend);
        // An excluded directory that may hold something taken back is made, and so its mode counts.
        if (!excluded || (is_dir && descend)) && child.stat.kind != FileKind::Socket {
            entries.push(Entry { name: name.clone(), path: path.clone(), stat: child.stat });
        }
        if is_dir && descend {
            collect(view, &path, &name, verdict.directory(), entries)?;
        }
    }
    Ok(())
}

/// The hash of every regular file's bytes, on all cores.
fn hash_files(view: &dyn TreeView, entries: &[Entry]) -> Result<Vec<Option<blake3::Hash>>, FilesError> {
    let mut hashes: Vec<Option<blake3::Hash>> = vec![None; entries.len()];
    let mut missing = Vec::new();
    for (at, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.stat.kind == FileKind::Regular) {
        hashes[at] = view.known_hash(&entry.path, &entry.stat);
        if hashes[at].is_none() {
            missing.push(at);
        }
    }
    let next = AtomicUsize::new(0);
    let results = Mutex::new((Vec::with_capacity(missing.len()), None));
    let work = || {
        let mut buffer = vec![0; 256 << 10];
        while let Some(at) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = hash_file(view, &entries[*at].path, &mut buffer);
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

fn hash_file(view: &dyn TreeView, path: &Path, buffer: &mut [u8]) -> Result<blake3::Hash, FilesError> {
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
    view.learn_hash(path, &stat, hash);
    Ok(hash)
}

fn feed_stat(hasher: &mut blake3::Hasher, stat: &Stat, owners: bool) {
    hasher.update(&[stat.kind as u8]);
    // A symlink has no mode of its own.
    let mode = if stat.kind == FileKind::Symlink { 0 } else { stat.mode };
    hasher.update(&mode.to_le_bytes());
    if owners {
        hasher.update(&stat.uid.to_le_bytes());
        hasher.update(&stat.gid.to_le_bytes());
    }
}

fn feed(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}
