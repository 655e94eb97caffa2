//! The body of a request: bytes at hand, or a part of a file that is read as the network takes it. It can be
//! opened again for every try.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use forge_store::Digest;
use futures_util::stream::{self, Stream};
use reqwest::Body;
use tokio::sync::mpsc;

use crate::Progress;
use crate::transport::Pace;

/// How much is read from the file at once, in bytes.
const PIECE: u64 = 128 << 10;
/// Pieces that may wait for the network.
const QUEUE: usize = 8;

/// What a request carries.
#[derive(Clone)]
pub enum Payload {
    /// Nothing.
    None,
    /// These bytes.
    Bytes(Bytes),
    /// Some of a file.
    Part(Part),
}

/// `length` bytes of a file from `offset` on.
#[derive(Clone)]
pub struct Part {
    pub file: Arc<File>,
    pub offset: u64,
    pub length: u64,
    /// Told what the network took, and of which blob.
    pub told: Option<(Arc<dyn Progress>, Digest)>,
}

impl Payload {
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Part(part) => part.length,
        }
    }

    /// The body for one try, and the pace at which it is taken; nothing where there is no body.
    pub fn open(&self) -> Option<(Body, Arc<Pace>)> {
        match self {
            Self::None => None,
            Self::Bytes(bytes) => Some(paced(pieces(bytes.clone()), bytes.len() as u64, None)),
            Self::Part(part) => Some(paced(read(part.clone()), part.length, part.told.clone())),
        }
    }
}

fn paced<S>(pieces: S, length: u64, told: Option<(Arc<dyn Progress>, Digest)>) -> (Body, Arc<Pace>)
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    use futures_util::StreamExt as _;
    let pace = Pace::new();
    let watched = pace.clone();
    let mut left = length;
    let counted = pieces.inspect(move |piece| {
        let size = piece.as_ref().map_or(0, |bytes| bytes.len() as u64);
        left = left.saturating_sub(size);
        if let Some((progress, digest)) = &told {
            progress.on_bytes(digest, size);
        }
        if left == 0 { watched.complete() } else { watched.moved() }
    });
    (Body::wrap_stream(counted), pace)
}

fn pieces(bytes: Bytes) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::unfold(bytes, |mut rest| async move {
        let size = rest.len().min(PIECE as usize);
        (size > 0).then(|| (Ok(rest.split_to(size)), rest))
    })
}

/// A thread reads ahead of the network, a little.
fn read(part: Part) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let (queue, pieces) = mpsc::channel(QUEUE);
    tokio::task::spawn_blocking(move || {
        let (mut at, end) = (part.offset, part.offset + part.length);
        while at < end {
            let mut piece = vec![0; usize::try_from(PIECE.min(end - at)).unwrap_or(0)];
            let done = part.file.read_exact_at(&mut piece, at).map(|()| Bytes::from(piece));
            let failed = done.is_err();
            // Nobody listens any more: the request is over.
            if queue.blocking_send(done).is_err() || failed {
                return;
            }
            at += PIECE;
        }
    });
    stream::unfold(pieces, |mut pieces| async move { pieces.recv().await.map(|piece| (piece, pieces)) })
}
