//! One large blob by several connections: segments of it are asked for side by side and handed on in order, so that
//! whoever hashes and writes them sees one stream.
//!
//! Servers and the networks before them often give each connection a share. A segment more is asked for only while
//! the network is what is waited for, and while no other blob wants the connection; so where one connection fills the
//! disk or the line, one it stays. What comes early waits in memory: at the most [`AHEAD`] segments of a blob.
//!
//! Each segment is a request with tries of its own, and goes on where it broke off. A server that answers with other
//! ranges than were asked for gets the blob asked by one request after all.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Method, Response, StatusCode};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender, error::TryRecvError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::Client;
use crate::call::Call;
use crate::context::{Context, check_encoding};
use crate::endpoint::Endpoint;
use crate::limits::PROGRESS_BYTES;
use crate::retry::Failure;

/// How many segments of a blob are under way or waiting behind the one that is being written.
pub const AHEAD: usize = 3;
/// A blob that has less than so many segments left goes by one request.
const WORTH: u64 = 4;

/// How a blob is asked for.
#[derive(Clone)]
pub struct Source {
    pub client: Client,
    pub endpoint: Arc<Endpoint>,
    /// The blob's path below the repository.
    pub tail: String,
    /// The blob, for messages.
    pub object: Arc<str>,
}

/// What comes next of the blob.
pub enum Piece {
    Bytes(Bytes),
    /// The server does not answer with the ranges that it is asked for.
    NoRanges,
    End,
}

/// The segments of one blob, in order.
pub struct Segments {
    source: Source,
    size: u64,
    segment: u64,
    /// Where the next segment begins.
    next: u64,
    connections: Arc<Semaphore>,
    tasks: JoinSet<()>,
    queue: VecDeque<Segment>,
}

/// A segment under way. The first of the queue has no permit: the blob has one.
struct Segment {
    pieces: UnboundedReceiver<Result<Piece, Failure>>,
    _permit: Option<OwnedSemaphorePermit>,
}

/// True where `left` bytes are worth several segments.
pub fn is_worth(left: u64, segment: u64) -> bool {
    segment > 0 && left >= segment.saturating_mul(WORTH)
}

/// The bytes of the segment that begins at `from`; a rest that is none of its own belongs to it.
pub fn segment_at(from: u64, size: u64, segment: u64) -> Range<u64> {
    let end = from.saturating_add(segment);
    from..if end.saturating_add(segment / 2) >= size { size } else { end }
}

/// True where an answer holds what was asked for.
pub fn holds(response: &Response, range: &Range<u64>) -> bool {
    let told = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let first = told.and_then(|told| told.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok());
    response.status() == StatusCode::PARTIAL_CONTENT && first == Some(range.start)
}

impl Source {
    /// Asks for a part of the blob.
    pub async fn ask(&self, range: &Range<u64>) -> Result<Response, Failure> {
        let context = Context::new(&self.endpoint, &self.object);
        let scopes = [self.endpoint.scope("pull")];
        let call = Call::new(context, Method::GET, self.endpoint.url(&self.tail), &scopes)
            .header(RANGE, format!("bytes={}-{}", range.start, range.end - 1))
            .also(&[StatusCode::RANGE_NOT_SATISFIABLE])
            .apart();
        let response = self.client.once(&call).await?;
        check_encoding(response.headers(), &context)?;
        Ok(response)
    }
}

impl Segments {
    /// Begins with the answer to the first segment.
    pub fn new(source: Source, first: (Range<u64>, Response), size: u64, segment: u64) -> Self {
        let connections = source.client.downloads.clone();
        let next = first.0.end;
        let mut segments =
            Self { source, size, segment, next, connections, tasks: JoinSet::new(), queue: VecDeque::new() };
        segments.start(first.0, Some(first.1), None);
        segments
    }

    fn start(&mut self, range: Range<u64>, answer: Option<Response>, permit: Option<OwnedSemaphorePermit>) {
        let (sender, pieces) = mpsc::unbounded_channel();
        let fetch = Fetch { source: self.source.clone(), range, sender };
        self.tasks.spawn(fetch.run(answer));
        self.queue.push_back(Segment { pieces, _permit: permit });
    }

    /// What comes next of the blob.
    pub async fn next(&mut self) -> Result<Piece, Failure> {
        loop {
            if self.queue.is_empty() {
                if self.next == self.size {
                    return Ok(Piece::End);
                }
                self.extend(None);
            }
            let Some(head) = self.queue.front_mut() else { return Ok(Piece::End) };
            let came = match head.pieces.try_recv() {
                Ok(came) => Some(came),
                Err(TryRecvError::Disconnected) => None,
                Err(TryRecvError::Empty) => {
                    // The network is what is waited for.
                    if self.queue.len() <= AHEAD
                        && self.next < self.size
                        && let Ok(permit) = self.connections.clone().try_acquire_owned()
                    {
                        self.extend(Some(permit));
                    }
                    let Some(head) = self.queue.front_mut() else { return Ok(Piece::End) };
                    head.pieces.recv().await
                }
            };
            match came {
                Some(piece) => return piece,
                None => drop(self.queue.pop_front()),
            }
        }
    }

    fn extend(&mut self, permit: Option<OwnedSemaphorePermit>) {
        let range = segment_at(self.next, self.size, self.segment);
        self.next = range.end;
        self.start(range, None, permit);
    }
}

/// One segment being fetched.
struct Fetch {
    source: Source,
    /// What is missing of it.
    range: Range<u64>,
    sender: UnboundedSender<Result<Piece, Failure>>,
}

impl Fetch {
    async fn run(mut self, mut answer: Option<Response>) {
        let (client, endpoint) = (self.source.client.clone(), self.source.endpoint.clone());
        let mut tries = client.tries(&endpoint);
        let mut earned = self.range.start;
        while let Err(failure) = self.attempt(answer.take()).await {
            if self.range.start - earned >= PROGRESS_BYTES {
                (earned, tries) = (self.range.start, client.tries(&endpoint));
            }
            if let Err(error) = tries.wait(failure).await {
                // Nobody listens where the blob was given up.
                let _ = self.sender.send(Err(Failure::last(error)));
                return;
            }
        }
    }

    async fn attempt(&mut self, answer: Option<Response>) -> Result<(), Failure> {
        let response = match answer {
            Some(response) => response,
            None => self.source.ask(&self.range).await?,
        };
        if !holds(&response, &self.range) {
            let _ = self.sender.send(Ok(Piece::NoRanges));
            return Ok(());
        }
        let source = self.source.clone();
        let context = Context::new(&source.endpoint, &source.object);
        let mut body = source.client.transport.body(response);
        while let Some(chunk) = body.chunk().await.map_err(|broken| context.broken(broken))? {
            let length = chunk.len() as u64;
            if length > self.range.end - self.range.start {
                let _ = self.sender.send(Ok(Piece::NoRanges));
                return Ok(());
            }
            self.range.start += length;
            if self.sender.send(Ok(Piece::Bytes(chunk))).is_err() {
                return Ok(());
            }
        }
        match self.range.end - self.range.start {
            0 => Ok(()),
            missing => Err(Failure::soon(context.corrupt(format!("it ended {missing} bytes early")))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_cover_a_blob_and_none_is_tiny() {
        for size in [1, 9, 10, 11, 14, 15, 99, 100, 104, 105, 1_000] {
            let (mut at, mut lengths) = (0, Vec::new());
            while at < size {
                let range = segment_at(at, size, 10);
                assert_eq!(range.start, at);
                lengths.push(range.end - range.start);
                at = range.end;
            }
            assert_eq!(at, size);
            assert!(
                lengths.len() == 1 || lengths.iter().all(|length| (6..=15).contains(length)),
                "{lengths:?}"
            );
        }
        assert!(!is_worth(39, 10) && is_worth(40, 10) && !is_worth(u64::MAX, 0));
    }
}
