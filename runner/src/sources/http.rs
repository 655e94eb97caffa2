//! Files at URLs: asked for anew in each build, fetched anew only when they changed.
//!
//! What a URL gave last is remembered in the store's cache: its validators and the digest of its bytes. A URL whose
//! digest the Dockerfile demands is not even asked about while those bytes are here.

use std::io;

use forge_solver::op::{HttpOp, HttpSource, ResolvedHttp};
use forge_solver::{TroubleKind, WorldError};
use forge_store::rootdir::Mtime;
use forge_store::{Digest, Draft, RootDir, Store};
use serde::{Deserialize, Serialize};

use super::{Downloaded, Sources, Wanted, host_of};
use crate::trouble;

/// What a URL gave last.
#[derive(Serialize, Deserialize)]
struct Known {
    digest: Digest,
    etag: Option<String>,
    last_modified: Option<String>,
    mtime: i64,
}

/// Finds out what is at a URL now: at most `most` bytes of it.
pub fn resolve(
    sources: &Sources<'_>,
    source: &HttpSource,
    most: Option<u64>,
) -> Result<ResolvedHttp, WorldError> {
    let store = sources.store;
    if let (Some(digest), Some(mtime)) = (source.checksum, source.mtime)
        && matches!(store.blobs().open(&digest), Ok(Some(_)))
    {
        return Ok(ResolvedHttp { digest, mtime });
    }
    let key = format!("http {}", blake3::hash(source.url.as_bytes()).to_hex());
    let known = known(store, &key)?;
    if let Some(known) = &known
        && source.checksum == Some(known.digest)
    {
        return Ok(ResolvedHttp { digest: known.digest, mtime: known.mtime });
    }
    let wanted = Wanted {
        url: &source.url,
        etag: known.as_ref().and_then(|known| known.etag.as_deref()),
        last_modified: known.as_ref().and_then(|known| known.last_modified.as_deref()),
        authorization: authorization(sources, &source.url)?,
        most_bytes: most,
    };
    let known = match (sources.download.download(&wanted)?, known) {
        (Downloaded::Unchanged, Some(known)) => known,
        (Downloaded::Unchanged, None) => {
            let message =
                format!("{} says that it is unchanged, but was not asked that", host_of(&source.url));
            return Err(WorldError::new(TroubleKind::Registry, message));
        }
        (Downloaded::Fetched { digest, etag, last_modified, mtime }, _) => {
            Known { digest, etag, last_modified, mtime: mtime.unwrap_or(0) }
        }
    };
    if let Some(checksum) = source.checksum
        && checksum != known.digest
    {
        let message = format!("expected checksum to match {checksum}, got {}", known.digest);
        return Err(WorldError::new(TroubleKind::Corrupt, message).hint(
            "the file is another one than the Dockerfile means; change --checksum only if you trust it",
        ));
    }
    let text = serde_json::to_string(&known)
        .map_err(|e| WorldError::new(TroubleKind::System, format!("cannot write a cache record: {e}")))?;
    store.cache().put(&key, &text).map_err(trouble::of_store)?;
    Ok(ResolvedHttp { digest: known.digest, mtime: known.mtime })
}

/// What the URL gave last, as long as its bytes are here.
fn known(store: &Store, key: &str) -> Result<Option<Known>, WorldError> {
    let text = store.cache().get(key).map_err(trouble::of_store)?;
    // A record that cannot be read is as good as none.
    let known: Option<Known> = text.and_then(|text| serde_json::from_str(&text).ok());
    Ok(known.filter(|known| matches!(store.blobs().open(&known.digest), Ok(Some(_)))))
}

/// `HTTP_AUTH_HEADER_<host>` or `HTTP_AUTH_TOKEN_<host>`, if the user gave such a secret.
fn authorization(sources: &Sources<'_>, url: &str) -> Result<Option<String>, WorldError> {
    let suffix = [format!("_{}", host_of(url))];
    if let Some(header) = Sources::secret(sources.secrets, "HTTP_AUTH_HEADER", &suffix)? {
        return Ok(Some(header));
    }
    let token = Sources::secret(sources.secrets, "HTTP_AUTH_TOKEN", &suffix)?;
    Ok(token.map(|token| format!("Bearer {token}")))
}

/// A tree with the one file in it: mode 0600, root's, as old as the server says.
pub fn tree(store: &Store, op: &HttpOp) -> Result<Draft, WorldError> {
    let missing = || {
        WorldError::new(TroubleKind::NotFound, format!("blob {} is not in the store any more", op.digest))
            .hint("build again")
    };
    let (mut blob, _) = store.blobs().open(&op.digest).map_err(trouble::of_store)?.ok_or_else(missing)?;
    let draft = store.draft().map_err(trouble::of_store)?;
    let mut fill = || -> Result<(), crate::files::FilesError> {
        let root = RootDir::open_host(draft.tree())?;
        let at = root.dir().at(&op.name)?;
        let mut file = at.create_file(0o600)?;
        let failed = |source: io::Error| crate::files::FilesError::Io {
            verb: "write",
            path: op.name.clone().into(),
            source,
        };
        io::copy(&mut blob, &mut file).map_err(failed)?;
        at.chmod(0o600)?;
        Ok(at.set_mtime(Mtime { sec: op.mtime, nsec: 0 })?)
    };
    fill().map_err(trouble::of_files)?;
    Ok(draft)
}
