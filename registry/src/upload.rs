//! An upload session (distribution-spec, "Pushing blobs"): a place at the registry where bytes gather until they
//! get their digest.
//!
//! The registry says where the session is, and may move it with every answer; it also says how far it got, so a
//! broken upload goes on from there. [`Upload`] is for bytes that are still being made, such as a layer that is
//! compressed while it is sent; whole blobs are sent by `push`.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use forge_store::Digest;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, LOCATION, RANGE};
use reqwest::{Method, Response, StatusCode, Url};

use crate::call::{Call, hop};
use crate::context::Context;
use crate::endpoint::Endpoint;
use crate::limits::GIVE_UP_TIME;
use crate::payload::{Part, Payload};
use crate::retry::{Again, Failure};
use crate::{Client, Progress, RegistryError, Repository};

/// The least that a PATCH must carry, unless it is the last; larger wishes are not met.
const MOST_MIN_CHUNK: u64 = 128 << 20;
/// The header in which a registry tells the least.
const MIN_CHUNK: &str = "oci-chunk-min-length";

/// An open session.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    location: Url,
    /// Bytes that the registry has.
    pub offset: u64,
    /// The least a chunk may have, as the registry wishes.
    pub min_chunk: u64,
    /// What is known about where the registry stands.
    pub standing: Standing,
}

/// What is known about where the registry stands in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// At the session's offset.
    Sure,
    /// A request failed: it must be asked.
    Unsure,
    /// It says otherwise than we do: the session is of no use.
    Lost,
}

/// Whom a session is with.
#[derive(Clone, Copy)]
pub(crate) struct Peer<'a> {
    pub client: &'a Client,
    pub context: Context<'a>,
    pub scopes: &'a [String],
}

/// How asking for a session went.
pub(crate) enum Begun {
    Session(Session),
    /// The registry has the blob now: it was mounted.
    Mounted,
}

impl Peer<'_> {
    /// Opens a session; with `mount`, offers that the registry takes the blob from a repository of its own.
    pub async fn begin(&self, mount: Option<(&Digest, &str)>) -> Result<Begun, Failure> {
        let mut url = self.context.endpoint.url("blobs/uploads/");
        if let Some((digest, from)) = mount {
            url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", from);
        }
        let call = Call::new(self.context, Method::POST, url.clone(), self.scopes);
        let response = self.client.once(&call).await?;
        if response.status() == StatusCode::CREATED && mount.is_some() {
            return Ok(Begun::Mounted);
        }
        let location = self.next_location(&response)?;
        let location =
            location.ok_or_else(|| self.context.protocol("it opened an upload without a Location"))?;
        let min_chunk = number(response.headers(), MIN_CHUNK).unwrap_or(0).min(MOST_MIN_CHUNK);
        Ok(Begun::Session(Session { location, offset: 0, min_chunk, standing: Standing::Sure }))
    }

    /// Adds `payload` behind what the registry has.
    pub async fn patch(&self, session: &mut Session, payload: Payload) -> Result<(), Failure> {
        let length = payload.len();
        let last = session.offset + length.saturating_sub(1);
        let call = Call::new(self.context, Method::PATCH, session.location.clone(), self.scopes)
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_RANGE, format!("{}-{last}", session.offset))
            .payload(payload);
        let response = self.send(session, call).await?;
        self.moved(session, &response)?;
        session.offset = match end_of_range(response.headers()) {
            Some(end) if end == session.offset + length => end,
            None => session.offset + length,
            // It took less, or speaks of something else: it is asked.
            Some(_) => return Err(Failure::soon(self.context.protocol("it took only a part of the upload"))),
        };
        session.standing = Standing::Sure;
        Ok(())
    }

    /// Ends the session: what gathered, and `payload` behind it, is the blob with this digest.
    pub async fn put(&self, session: &mut Session, payload: Payload, digest: &Digest) -> Result<(), Failure> {
        let mut url = session.location.clone();
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let call = Call::new(self.context, Method::PUT, url, self.scopes)
            .header(CONTENT_TYPE, "application/octet-stream")
            .commits(session.offset + payload.len())
            .payload(payload);
        self.send(session, call).await.map(drop)
    }

    /// Sends a part of the upload. Answers that say that registry and client disagree about the session (gone,
    /// other offset, other digest) are worth a second look, not an end.
    async fn send(&self, session: &mut Session, call: Call<'_>) -> Result<Response, Failure> {
        const DISAGREES: &[StatusCode] =
            &[StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND, StatusCode::RANGE_NOT_SATISFIABLE];
        session.standing = Standing::Unsure;
        let response = self.client.once(&call.also(DISAGREES)).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        session.standing = Standing::Lost;
        let failure = self.context.judge(&self.client.transport, response).await;
        Err(Failure { again: Again::Unlikely, ..failure })
    }

    /// Makes sure of a session: asks how far it got, where that is not known.
    pub async fn make_sure(&self, session: &mut Session) -> Result<(), Failure> {
        const GONE: &[StatusCode] =
            &[StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED, StatusCode::BAD_REQUEST];
        if session.standing != Standing::Unsure {
            return Ok(());
        }
        let call = Call::new(self.context, Method::GET, session.location.clone(), self.scopes).also(GONE);
        let response = self.client.once(&call).await?;
        let end = end_of_range(response.headers()).filter(|_| response.status().is_success());
        let Some(end) = end else {
            session.standing = Standing::Lost;
            return Ok(());
        };
        self.moved(session, &response)?;
        // `0-0` means one byte, or none: registries differ. If the guess is wrong, the next PATCH is refused.
        session.offset = if end == 1 { 0 } else { end };
        session.standing = Standing::Sure;
        Ok(())
    }

    fn moved(&self, session: &mut Session, response: &Response) -> Result<(), Failure> {
        if let Some(location) = self.next_location(response)? {
            session.location = location;
        }
        Ok(())
    }

    fn next_location(&self, response: &Response) -> Result<Option<Url>, Failure> {
        let Some(location) = response.headers().get(LOCATION) else { return Ok(None) };
        let location = location.to_str().map_err(|_| "that is no URL".to_owned());
        let next = location.and_then(|location| hop(&self.context, response.url(), location));
        let refused = |reason| self.context.protocol(&format!("it wants the upload at an address {reason}"));
        Ok(Some(next.map_err(refused)?))
    }
}

/// How many bytes `Range: 0-41` speaks of.
fn end_of_range(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(RANGE)?.to_str().ok()?;
    let (first, last) = range.strip_prefix("bytes=").unwrap_or(range).split_once('-')?;
    let last: u64 = last.trim().parse().ok()?;
    (first.trim() == "0").then(|| last.checked_add(1)).flatten()
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// A blob that is sent while it is made: opened before its size and digest are known.
pub struct Upload {
    client: Client,
    endpoint: Endpoint,
    object: String,
    scopes: Vec<String>,
    session: Session,
}

impl Client {
    /// Opens an upload to a repository.
    ///
    /// # Errors
    /// [`RegistryError`] of any kind.
    pub async fn start_upload(&self, repository: &Repository) -> Result<Upload, RegistryError> {
        let endpoint = self.endpoint(repository).await?;
        let object = format!("an upload to {repository}");
        let scopes = vec![endpoint.scope("pull,push")];
        let peer = Peer { client: self, context: Context::new(&endpoint, &object), scopes: &scopes };
        let mut tries = self.tries(&endpoint);
        let session = loop {
            match peer.begin(None).await {
                Ok(Begun::Session(session)) => break session,
                Ok(Begun::Mounted) => return Err(peer.context.protocol("it mounted a blob unasked")),
                Err(failure) => tries.wait(failure).await?,
            }
        };
        Ok(Upload { client: self.clone(), endpoint, object, scopes, session })
    }
}

impl Upload {
    /// Bytes that the registry has taken.
    pub fn offset(&self) -> u64 {
        self.session.offset
    }

    /// The least that [`Upload::append`] should be given at once, in bytes, except at the end.
    pub fn min_chunk(&self) -> u64 {
        self.session.min_chunk
    }

    /// Sends more bytes; what breaks off is sent again from where the registry stands.
    ///
    /// # Errors
    /// [`RegistryError`] of any kind. Where the registry lost what it had taken before, the upload is lost:
    /// [`RegistryError::Protocol`].
    pub async fn append(&mut self, bytes: Bytes) -> Result<(), RegistryError> {
        let length = bytes.len() as u64;
        let from = |at: u64| Payload::Bytes(bytes.slice(usize::try_from(at).unwrap_or(bytes.len())..));
        self.add(length, &from).await
    }

    /// Sends the next `length` bytes of a file that holds all of the blob.
    ///
    /// # Errors
    /// As [`Upload::append`].
    pub(crate) async fn append_part(
        &mut self,
        file: &Arc<File>,
        length: u64,
        told: Option<(Arc<dyn Progress>, Digest)>,
    ) -> Result<(), RegistryError> {
        let base = self.session.offset;
        let from = |at: u64| {
            Payload::Part(Part {
                file: file.clone(),
                offset: base + at,
                length: length - at,
                told: told.clone(),
            })
        };
        self.add(length, &from).await
    }

    /// Adds `length` bytes; `from` gives them from one of them on.
    async fn add(
        &mut self,
        length: u64,
        from: &(dyn Fn(u64) -> Payload + Sync),
    ) -> Result<(), RegistryError> {
        let peer = Peer {
            client: &self.client,
            context: Context::new(&self.endpoint, &self.object),
            scopes: &self.scopes,
        };
        let base = self.session.offset;
        let end = base + length;
        let mut tries = self.client.tries(&self.endpoint);
        while self.session.offset < end {
            match append_once(&peer, &mut self.session, base, end, from).await {
                Ok(()) => {}
                Err(failure) => tries.wait(failure).await?,
            }
        }
        Ok(())
    }

    /// Gives the upload up, so that the registry need not keep what it has of it. It does so by itself after a while
    /// if this fails.
    pub async fn abort(self) {
        let context = Context::new(&self.endpoint, &self.object);
        let call = Call::new(context, Method::DELETE, self.session.location.clone(), &self.scopes);
        let _ = tokio::time::timeout(GIVE_UP_TIME, self.client.once(&call)).await;
    }

    /// Ends the upload: what was sent is the blob with this digest.
    ///
    /// # Errors
    /// [`RegistryError`] of any kind; [`RegistryError::Protocol`] where the registry finds another digest.
    pub async fn finish(mut self, digest: &Digest) -> Result<(), RegistryError> {
        let peer = Peer {
            client: &self.client,
            context: Context::new(&self.endpoint, &self.object),
            scopes: &self.scopes,
        };
        let mut tries = self.client.tries(&self.endpoint);
        loop {
            let failure = match peer.put(&mut self.session, Payload::None, digest).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            // The answer to a PUT that worked may have been lost.
            if self.client.has_blob_once(peer.context, &self.scopes, digest).await.unwrap_or(false) {
                return Ok(());
            }
            tries.wait(failure).await?;
        }
    }
}

async fn append_once(
    peer: &Peer<'_>,
    session: &mut Session,
    base: u64,
    end: u64,
    from: &(dyn Fn(u64) -> Payload + Sync),
) -> Result<(), Failure> {
    peer.make_sure(session).await?;
    if session.standing == Standing::Lost && base == 0 {
        if let Begun::Session(anew) = peer.begin(None).await? {
            *session = anew;
        }
    } else if session.standing == Standing::Lost || session.offset < base || session.offset > end {
        return Err(peer.context.protocol("it lost what was uploaded").into());
    }
    if session.offset == end {
        return Ok(());
    }
    let payload = from(session.offset - base);
    peer.patch(session, payload).await
}
