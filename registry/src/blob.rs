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

use crate::call::Call;
use crate::client::{blocking, falls_through};
use crate::context::{Context, check_encoding};
use crate::endpoint::Endpoint;
use crate::limits::PROGRESS_BYTES;
use crate::retry::{Failure, Tries};
use crate::segments::{self, Piece, Segments, Source};
use crate::transport::Body;
use crate::{Client, ErrorKind, Progress, RegistryError, Repository};

/// Chunks that may wait for the disk before the network is held back.
const QUEUE: usize = 4;

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
        // A vector of futures and not a closure over references, whose future could not be spawned.
        let mut fetches = Vec::new();
        for descriptor in descriptors.iter().filter(|descriptor| seen.insert(descriptor.digest)) {
            fetches.push(self.fetch_blob(repository, descriptor, blobs, progress));
        }
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
        let mut download = Download {
            client: self,
            descriptor,
            blobs,
            progress,
            object: &object,
            ingest: None,
            alone: false,
        };
        for endpoint in self.endpoints(repository).await? {
            match download.run(&endpoint).await {
                Err(e) => {
                    download.clear_up(&e)?;
                    if !falls_through(&endpoint, &e) {
                        return Err(e);
                    }
                }
                done => return done,
            }
        }
        // Never here: the registry itself is the last of them, and its word is final.
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
    /// It goes by one request: ranges do not work there.
    alone: bool,
}

impl Download<'_> {
    /// Fetches the blob from one place.
    async fn run(&mut self, endpoint: &Endpoint) -> Result<(), RegistryError> {
        let mut tries = self.client.tries(endpoint);
        let mut earned = 0;
        while self.open().await? {
            earned = earn(&mut tries, earned, self.offset());
            match self.attempt(endpoint).await {
                Ok(()) => {
                    self.progress.on_done(&self.descriptor.digest);
                    return Ok(());
                }
                Err(failure) => tries.wait(failure).await?,
            }
            self.progress.on_rewind(&self.descriptor.digest, self.offset());
        }
        Ok(())
    }

    /// Opens the partial blob; false where another process finished it.
    async fn open(&mut self) -> Result<bool, RegistryError> {
        if self.ingest.is_some() {
            return Ok(true);
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
        self.ingest = opened.await?;
        if self.ingest.is_some() {
            self.progress.on_start(&self.descriptor.digest, self.descriptor.size, self.offset());
        }
        Ok(self.ingest.is_some())
    }

    /// Keeps what a later try can go on from, and nothing else.
    fn clear_up(&mut self, error: &RegistryError) -> Result<(), RegistryError> {
        let is_wrong = matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Protocol);
        match self.ingest.take() {
            Some(ingest) if is_wrong || ingest.offset() == 0 => Ok(ingest.discard()?),
            // It is locked while it is open, and a later try may be another process's.
            _ => Ok(()),
        }
    }

    /// Bytes that are here.
    fn offset(&self) -> u64 {
        self.ingest.as_ref().map_or(0, Ingest::offset)
    }

    /// One request for what is missing. What it brought stays in `self.ingest` if it is of use.
    async fn attempt(&mut self, endpoint: &Endpoint) -> Result<(), Failure> {
        let offset = self.offset();
        if offset < self.descriptor.size || self.descriptor.size == 0 {
            let context = Context::new(endpoint, self.object);
            match self.segments(endpoint, offset).await? {
                Some(Answer::Segments(segments)) => self.receive(&context, Flow::Many(segments)).await?,
                Some(Answer::Whole(response)) => self.take(&context, response, offset).await?,
                None => {
                    let response = self.ask(&context, offset).await?;
                    self.take(&context, response, offset).await?;
                }
            }
        }
        let Some(ingest) = self.ingest.take() else { return Ok(()) };
        self.commit(endpoint, ingest).await
    }

    /// Asks for the first segment of what is missing, where it is worth several.
    async fn segments(&mut self, endpoint: &Endpoint, offset: u64) -> Result<Option<Answer>, Failure> {
        let (size, segment) = (self.descriptor.size, self.client.config.segment_bytes);
        if self.alone || !segments::is_worth(size - offset, segment) {
            return Ok(None);
        }
        let source = Source {
            client: self.client.clone(),
            endpoint: Arc::new(endpoint.clone()),
            tail: format!("blobs/{}", self.descriptor.digest),
            object: self.object.into(),
        };
        let range = segments::segment_at(offset, size, segment);
        let response = source.ask(&range).await?;
        if segments::holds(&response, &range) {
            let first = (range, response);
            return Ok(Some(Answer::Segments(Box::new(Segments::new(source, first, size, segment)))));
        }
        self.alone = true;
        Ok((response.status() == StatusCode::OK).then_some(Answer::Whole(response)))
    }

    /// Takes the answer to a request for everything behind `offset`.
    async fn take(&mut self, context: &Context<'_>, response: Response, offset: u64) -> Result<(), Failure> {
        match already_here(&response, offset) {
            Ok(skip) => {
                let body = self.client.transport.body(response);
                self.receive(context, Flow::One { body, skip }).await
            }
            Err(detail) => {
                self.restart()?;
                Err(Failure::soon(context.corrupt(detail)))
            }
        }
    }

    async fn ask(&self, context: &Context<'_>, offset: u64) -> Result<Response, Failure> {
        let scopes = [context.endpoint.scope("pull")];
        let url = context.endpoint.url(&format!("blobs/{}", self.descriptor.digest));
        let mut call = Call::new(*context, Method::GET, url, &scopes);
        if offset > 0 {
            call = call.header(RANGE, format!("bytes={offset}-")).also(&[StatusCode::RANGE_NOT_SATISFIABLE]);
        }
        let response = self.client.once(&call).await?;
        check_encoding(response.headers(), context)?;
        Ok(response)
    }

    /// Moves the body to the disk, where a thread of its own hashes and writes. Never more than the blob's size
    /// is written; what is whole and yet did not end well is not believed.
    async fn receive(&mut self, context: &Context<'_>, mut flow: Flow) -> Result<(), Failure> {
        let Some(ingest) = self.ingest.take() else { return Ok(()) };
        let room = self.descriptor.size - ingest.offset();
        let (queue, chunks) = mpsc::channel(QUEUE);
        let writer = tokio::task::spawn_blocking(move || write(ingest, chunks));
        let came = self.pump(context, &mut flow, room, &queue).await;
        drop(queue);
        let written =
            writer.await.map_err(|_| RegistryError::Cancelled { object: self.object.to_owned() })?;
        let path = self.blobs.path(&self.descriptor.digest);
        let failed = |source| RegistryError::from(StoreError::Io { verb: "write", path, source });
        self.ingest = Some(written.map_err(failed)?);
        if came.is_err() && self.offset() == self.descriptor.size {
            self.restart()?;
        }
        came
    }

    fn restart(&mut self) -> Result<(), RegistryError> {
        Ok(self.ingest.as_mut().map_or(Ok(()), Ingest::restart)?)
    }

    async fn pump(
        &mut self,
        context: &Context<'_>,
        flow: &mut Flow,
        mut room: u64,
        queue: &mpsc::Sender<Bytes>,
    ) -> Result<(), Failure> {
        loop {
            let chunk = match flow.next(context).await? {
                Piece::Bytes(chunk) => chunk,
                Piece::End => break,
                Piece::NoRanges => {
                    self.alone = true;
                    return Err(Failure::soon(context.corrupt("other ranges than were asked for".into())));
                }
            };
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

/// What asking for the first segment came to.
enum Answer {
    Segments(Box<Segments>),
    /// The whole blob: the server knows no ranges.
    Whole(Response),
}

/// Where the bytes come from.
enum Flow {
    /// One answer, whose first bytes are here already.
    One { body: Body, skip: u64 },
    /// Several, side by side.
    Many(Box<Segments>),
}

impl Flow {
    async fn next(&mut self, context: &Context<'_>) -> Result<Piece, Failure> {
        let (body, skip) = match self {
            Self::Many(segments) => return segments.next().await,
            Self::One { body, skip } => (body, skip),
        };
        let Some(mut chunk) = body.chunk().await.map_err(|broken| context.broken(broken))? else {
            return Ok(Piece::End);
        };
        let known = (*skip).min(chunk.len() as u64);
        *skip -= known;
        let _ = chunk.split_to(usize::try_from(known).unwrap_or(chunk.len()));
        Ok(Piece::Bytes(chunk))
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
/// where the whole blob comes. An answer of no use gives the reason.
fn already_here(response: &Response, offset: u64) -> Result<u64, String> {
    match response.status() {
        StatusCode::PARTIAL_CONTENT if first_of_range(response) == Some(offset) => Ok(0),
        StatusCode::PARTIAL_CONTENT => Err("another range than was asked for".into()),
        StatusCode::RANGE_NOT_SATISFIABLE => Err(format!("nothing behind its first {offset} bytes")),
        _ => Ok(offset),
    }
}

/// 100 for `Content-Range: bytes 100-199/200`.
fn first_of_range(response: &Response) -> Option<u64> {
    let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

fn write(mut ingest: Ingest, mut chunks: mpsc::Receiver<Bytes>) -> io::Result<Ingest> {
    while let Some(chunk) = chunks.blocking_recv() {
        ingest.write_all(&chunk)?;
    }
    Ok(ingest)
}
