//! Blobs on their way out before their image is whole: a blob is sent while it is still being packed.
//!
//! Nothing refers to such a blob until [`Client::push`] puts the manifest, which asks for every blob once more: so it
//! is enough to do one's best here, and what fails is done, and told, there. An upload whose blob never becomes whole
//! is given up at the registry, too.

use std::fs::File;
use std::io;
use std::sync::Arc;

use forge_store::{Blobs, Descriptor, Digest, Follow, PackedLayer};
use tokio::sync::watch;

use crate::client::blocking;
use crate::context::Context;
use crate::limits::{GROWN_BYTES_MIN, PART_TIME};
use crate::upload::Upload;
use crate::{Client, Progress, PushOptions, RegistryError, Repository};

/// What is known of a blob on its way.
#[derive(Clone, Default)]
struct State {
    file: Option<Arc<File>>,
    bytes: u64,
    whole: Option<Descriptor>,
}

/// The end of a blob that is packed; dropped before the blob is whole, it gives it up.
struct Packed(watch::Sender<State>);

impl Follow for Packed {
    fn begins(&self, blob: &File) -> io::Result<()> {
        let file = Arc::new(blob.try_clone()?);
        self.0.send_modify(|state| state.file = Some(file));
        Ok(())
    }

    fn grew(&self, bytes: u64) {
        self.0.send_modify(|state| state.bytes = bytes);
    }

    fn is_whole(&self, layer: &PackedLayer) {
        self.0.send_modify(|state| state.whole = Some(layer.descriptor.clone()));
    }
}

/// Where blobs are sent ahead of their image.
pub struct PushAhead {
    to: Arc<Target>,
    stopped: watch::Sender<bool>,
}

struct Target {
    client: Client,
    repository: Repository,
    blobs: Blobs,
    progress: Arc<dyn Progress>,
}

/// The end of a blob that is sent.
pub struct BlobAhead {
    to: Arc<Target>,
    state: watch::Receiver<State>,
    stopped: watch::Receiver<bool>,
}

impl Client {
    /// Gets ready to send blobs to a repository.
    pub fn push_ahead(&self, repository: Repository, blobs: Blobs, progress: Arc<dyn Progress>) -> PushAhead {
        let to = Arc::new(Target { client: self.clone(), repository, blobs, progress });
        PushAhead { to, stopped: watch::Sender::new(false) }
    }
}

impl PushAhead {
    /// A blob that is yet to be packed, or is whole already: what is told of it, and what sends it.
    pub fn blob(&self) -> (Arc<dyn Follow>, BlobAhead) {
        let (sender, state) = watch::channel(State::default());
        let ahead = BlobAhead { to: self.to.clone(), state, stopped: self.stopped.subscribe() };
        (Arc::new(Packed(sender)), ahead)
    }

    /// Gives up what is on its way.
    pub fn stop(&self) {
        self.stopped.send_replace(true);
    }
}

impl BlobAhead {
    /// Sends the blob, to its end or until it is given up.
    ///
    /// # Errors
    /// [`RegistryError`] of any kind.
    pub async fn run(mut self) -> Result<(), RegistryError> {
        let to = self.to.clone();
        // A small blob is not worth a session of its own before it is known whether the registry has it.
        let Some(state) = self.grown(GROWN_BYTES_MIN).await else { return Ok(()) };
        let mut file = state.file.clone();
        if let Some(whole) = &state.whole {
            let is_small = whole.size <= to.client.config.chunk_bytes;
            if is_small || !to.blobs.sources(&whole.digest)?.is_empty() {
                return to.push(whole).await;
            }
            if to.has(&whole.digest).await? {
                return Ok(());
            }
            file = to.open(whole.digest).await?;
        }
        let Some(file) = file else { return Ok(()) };
        let _turn = to.client.uploads.acquire().await;
        let mut upload = to.client.start_upload(&to.repository).await?;
        let (mut state, mut stopped) = (self.state.clone(), self.stopped.clone());
        let sent = tokio::select! {
            sent = self.feed(&mut upload, &file) => sent,
            // A registry that still writes when it is told to forget the upload may leave some of it behind.
            () = async {
                given_up(&mut state, &mut stopped).await;
                tokio::time::sleep(PART_TIME).await;
            } => Ok(None),
        };
        match sent {
            Ok(Some(digest)) => {
                upload.finish(&digest).await?;
                to.progress.on_done(&digest);
                Ok(to.blobs.add_source(&digest, &to.repository.to_string())?)
            }
            other => {
                upload.abort().await;
                other.map(drop)
            }
        }
    }

    /// Sends what there is until all is sent; says what it is. Nothing for a blob that is given up.
    async fn feed(&mut self, upload: &mut Upload, file: &Arc<File>) -> Result<Option<Digest>, RegistryError> {
        let most = self.to.client.config.chunk_bytes.max(upload.min_chunk());
        let least = GROWN_BYTES_MIN.max(upload.min_chunk());
        let mut told = None;
        loop {
            let (mut state, mut stopped) = (self.state.clone(), self.stopped.clone());
            let grown = tokio::select! {
                biased;
                () = given_up(&mut state, &mut stopped) => None,
                grown = self.grown(upload.offset() + least) => grown,
            };
            let Some(state) = grown else { return Ok(None) };
            if let Some(whole) = &state.whole
                && told.is_none()
            {
                self.to.progress.on_start(&whole.digest, whole.size, upload.offset());
                told = Some((self.to.progress.clone(), whole.digest));
            }
            let there = state.whole.as_ref().map_or(state.bytes, |whole| whole.size);
            match (there - upload.offset(), &state.whole) {
                (0, Some(whole)) => return Ok(Some(whole.digest)),
                (left, _) => upload.append_part(file, left.min(most), told.clone()).await?,
            }
        }
    }

    /// Waits until so many bytes are there, or the blob is whole; nothing if it is given up.
    async fn grown(&mut self, bytes: u64) -> Option<State> {
        let state = self.state.wait_for(|state| state.bytes >= bytes || state.whole.is_some()).await;
        state.ok().map(|state| state.clone())
    }
}

impl Target {
    /// Sends a blob as [`Client::push`] does.
    async fn push(&self, blob: &Descriptor) -> Result<(), RegistryError> {
        let (options, blobs) = (PushOptions::default(), std::slice::from_ref(blob));
        self.client.push_blobs(&self.repository, blobs, &self.blobs, &options, &self.progress).await
    }

    async fn has(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let endpoint = self.client.endpoint(&self.repository).await?;
        let object = format!("blob {digest} to {}", self.repository);
        let scopes = [endpoint.scope("pull,push")];
        self.client.has_blob(Context::new(&endpoint, &object), &scopes, digest).await
    }

    /// The blob's file, if its bytes are right. What is to be done if not the push says.
    async fn open(&self, digest: Digest) -> Result<Option<Arc<File>>, RegistryError> {
        let blobs = self.blobs.clone();
        let opened = blocking("a blob of the store", move || Ok(blobs.open_checked(&digest).ok().flatten()));
        Ok(opened.await?.map(|(file, _)| Arc::new(file)))
    }
}

/// Returns once nobody packs the blob any more although it is not whole, or all is given up.
async fn given_up(state: &mut watch::Receiver<State>, stopped: &mut watch::Receiver<bool>) {
    let abandoned = async {
        if state.wait_for(|state| state.whole.is_some()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = abandoned => {}
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
}
