//! Blobs on their way into the store: streamed, resumed where they broke off, verified before they get a name.

use std::collections::HashSet;
use std::io::{self, Write as _};
use std::sync::Arc;

use bytes::Bytes;
use forge_store::{Blobs, Descriptor, Ingest, StoreError};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Method, Response, StatusCode};
use tokio::sync::mpsc;

use crate::call::{Call, Context, check_encoding};
use crate::client::{blocking, falls_through};
use crate::endpoint::Endpoint;
use crate::limits::PROGRESS_BYTES;
use crate::retry::{Failure, Tries};
use crate::transport::Body;
use crate::{Client, Progress, RegistryError, Repository};

/// Chunks that may wait for the disk before the network is held back.
const QUEUE: usize = 32;

impl Client {
    /// Fetches blobs into the store, several at once; each digest once. On a failure the others are stopped;
    /// what came of them stays for the next try.
    ///
    /// # Errors
    /// The first failure.
    pub async fn fetch_blobs(
        &self,
        repository: &Repository,
        descriptors: &[Descriptor],
        blobs: &Blobs,
        progress: &Arc<dyn Progress>,
    ) -> Result<(), RegistryError> {
        let mut seen = HashSet::new();
        let once: Vec<&Descriptor> = descriptors.iter().filter(|d| seen.insert(d.digest)).collect();
        let fetches = once.into_iter().map(|d| self.fetch_blob(repository, d, blobs, progress));
        stream::iter(fetches).buffer_unordered(self.config.downloads.max(1)).try_collect().await
    }

    /// Fetches one blob into the store, unless it is there; mirrors first. The `urls` of a descriptor are never
    /// followed: they lead anywhere.
    ///
    /// # Errors
    /// [`RegistryError`] of any kind; [`RegistryError::Corrupt`] where the bytes are not the descriptor's.
    pub async fn fetch_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        blobs: &Blobs,
        progress: &Arc<dyn Progress>,
    ) -> Result<(), RegistryError> {
        if blobs.contains(&descriptor.digest)? {
            return Ok(());
        }
        let object = format!("blob {} of {repository}", descriptor.digest);
        let _turn = self.downloads.acquire().await;
        let mut download =
            Download { client: self, descriptor, blobs, progress, object: &object, ingest: None };
        for endpoint in Endpoint::all(&self.config, repository)? {
            match download.run(&endpoint).await {
                Err(e) if falls_through(&endpoint, &e) => {}
                other => return other,
            }
        }
        Err(RegistryError::Cancelled { object })
    }
}

/// One blob being fetched.
struct Download<'a> {
    client: &'a Client,
    descriptor: &'a Descriptor,
    blobs: &'a Blobs,
    progress: &'a Arc<dyn Progress>,
    object: &'a str,
    /// Open while the blob is not whole.
    ingest: Option<Ingest>,
}

impl Download<'_> {
    /// Fetches the blob from one place.
    async fn run(&mut self, endpoint: &Endpoint) -> Result<(), RegistryError> {
        let mut tries = self.client.tries(endpoint);
        let mut earned = 0;
        loop {
            let Some(ingest) = self.open().await? else { return Ok(()) };
            let offset = ingest.offset();
            earned = earn(&mut tries, earned, offset);
            match self.attempt(endpoint, ingest).await {
                Ok(()) => {
                    self.progress.on_done(&self.descriptor.digest);
                    return Ok(());
                }
                Err(failure) => tries.wait(failure).await?,
            }
            let offset = self.ingest.as_ref().map_or(0, Ingest::offset);
            self.progress.on_rewind(&self.descriptor.digest, offset);
        }
    }

    /// The partial blob; `None` where another process finished it.
    async fn open(&mut self) -> Result<Option<Ingest>, RegistryError> {
        if let Some(ingest) = self.ingest.take() {
            return Ok(Some(ingest));
        }
        let (blobs, digest, size) = (self.blobs.clone(), self.descriptor.digest, self.descriptor.size);
        let opened = blocking(self.object, move || {
            let mut ingest = blobs.ingest(&digest, Some(size))?;
            if ingest.is_complete()? {
                ingest.discard()?;
                return Ok(None);
            }
            if ingest.offset() > size {
                ingest.restart()?;
            }
            Ok(Some(ingest))
        });
        let ingest = opened.await?;
        if let Some(ingest) = &ingest {
            self.progress.on_start(&self.descriptor.digest, self.descriptor.size, ingest.offset());
        }
        Ok(ingest)
    }

    /// One request for what is missing; leaves the partial blob in `self.ingest` if it is of use.
    async fn attempt(&mut self, endpoint: &Endpoint, mut ingest: Ingest) -> Result<(), Failure> {
        let offset = ingest.offset();
        if offset < self.descriptor.size || self.descriptor.size == 0 {
            let context = Context::new(endpoint, self.object);
            let response = match self.ask(endpoint, offset).await {
                Ok(response) => response,
                Err(failure) => {
                    self.ingest = Some(ingest);
                    return Err(failure);
                }
            };
            let Some(skip) = already_here(&response, offset) else {
                ingest.restart().map_err(RegistryError::from)?;
                self.ingest = Some(ingest);
                return Err(Failure::soon(
                    context.protocol("it answered with another range than was asked for"),
                ));
            };
            let body = self.client.transport.body(response);
            let (kept, came) = self.receive(&context, body, skip, ingest).await;
            let kept = kept?;
            if let Err(failure) = came {
                self.ingest = kept;
                return Err(failure);
            }
            let Some(whole) = kept else { return Ok(()) };
            ingest = whole;
        }
        self.commit(endpoint, ingest).await
    }

    async fn ask(&self, endpoint: &Endpoint, offset: u64) -> Result<Response, Failure> {
        let scopes = [endpoint.scope("pull")];
        let url = endpoint.url(&format!("blobs/{}", self.descriptor.digest));
        let mut call = Call::new(Context::new(endpoint, self.object), Method::GET, url, &scopes)
            .also(&[StatusCode::RANGE_NOT_SATISFIABLE]);
        if offset > 0 {
            call = call.header(RANGE, format!("bytes={offset}-"));
        }
        let response = self.client.once(&call).await?;
        check_encoding(response.headers(), &call.context)?;
        Ok(response)
    }

    /// Moves the body to the disk, where a thread of its own hashes and writes. Never more than the blob's size
    /// is written. Gives the partial blob back, and how the body ended.
    async fn receive(
        &self,
        context: &Context<'_>,
        mut body: Body,
        skip: u64,
        ingest: Ingest,
    ) -> (Result<Option<Ingest>, RegistryError>, Result<(), Failure>) {
        let room = self.descriptor.size - ingest.offset();
        let (queue, chunks) = mpsc::channel(QUEUE);
        let writer = tokio::task::spawn_blocking(move || write(ingest, chunks));
        let came = self.pump(context, &mut body, skip, room, &queue).await;
        drop(queue);
        let kept = match writer.await {
            Ok(Ok(ingest)) => Ok(Some(ingest)),
            Ok(Err(source)) => {
                let path = self.blobs.path(&self.descriptor.digest);
                Err(StoreError::Io { verb: "write", path, source }.into())
            }
            Err(_) => Err(RegistryError::Cancelled { object: self.object.to_owned() }),
        };
        (kept, came)
    }

    async fn pump(
        &self,
        context: &Context<'_>,
        body: &mut Body,
        mut skip: u64,
        mut room: u64,
        queue: &mpsc::Sender<Bytes>,
    ) -> Result<(), Failure> {
        while let Some(mut chunk) = body.chunk().await.map_err(|broken| context.broken(broken))? {
            let known = skip.min(chunk.len() as u64);
            skip -= known;
            let _ = chunk.split_to(usize::try_from(known).unwrap_or(chunk.len()));
            let length = chunk.len() as u64;
            if length > room {
                let detail = format!("more than its {} bytes", self.descriptor.size);
                return Err(Failure::soon(context.corrupt(detail)));
            }
            room -= length;
            // A writer that gave up tells why when it is asked for the ingest.
            if length > 0 && queue.send(chunk).await.is_err() {
                return Ok(());
            }
            self.progress.on_bytes(&self.descriptor.digest, length);
        }
        if room > 0 {
            let detail = format!("it ended {room} bytes before its {} bytes", self.descriptor.size);
            return Err(Failure::soon(context.corrupt(detail)));
        }
        Ok(())
    }

    async fn commit(&self, endpoint: &Endpoint, ingest: Ingest) -> Result<(), Failure> {
        match blocking(self.object, move || ingest.commit()).await {
            Err(RegistryError::Store(StoreError::Corrupt { detail, .. })) => {
                Err(Failure::soon(Context::new(endpoint, self.object).corrupt(detail)))
            }
            other => Ok(other?),
        }
    }
}

/// A download that moves on is not given up for the number of its interruptions.
fn earn(tries: &mut Tries<'_>, earned: u64, offset: u64) -> u64 {
    if offset >= earned.saturating_add(PROGRESS_BYTES) {
        tries.reset();
        return offset;
    }
    earned
}

/// How many bytes of the answer's body are here already: none where the range was honoured, all up to `offset`
/// where the whole blob comes; `None` for an answer of no use.
fn already_here(response: &Response, offset: u64) -> Option<u64> {
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
            let first = range.strip_prefix("bytes ")?.split('-').next()?.trim().parse::<u64>().ok()?;
            (first == offset).then_some(0)
        }
        StatusCode::RANGE_NOT_SATISFIABLE => None,
        _ => Some(offset),
    }
}

fn write(mut ingest: Ingest, mut chunks: mpsc::Receiver<Bytes>) -> io::Result<Ingest> {
    while let Some(chunk) = chunks.blocking_recv() {
        ingest.write_all(&chunk)?;
    }
    Ok(ingest)
}
