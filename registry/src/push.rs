//! Images on their way out of the store.
//!
//! Order: layers, configurations, manifests, tag. What the registry has is not sent, be it blob or manifest: it is
//! asked for all of them at once, by HEAD; what it has in another
//! repository is mounted from there; a blob that is not even here is fetched from where it came from. So an
//! image on top of a large base is pushed without the base ever being unpacked, or held.

use std::collections::HashSet;
use std::fs::File;
use std::sync::Arc;

use forge_store::{Blobs, Descriptor, Digest, Manifest, MediaType, StoreError, media_type};
use futures_util::future::try_join;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, StatusCode};

use crate::call::Call;
use crate::client::blocking;
use crate::context::Context;
use crate::endpoint::Endpoint;
use crate::limits::MANIFEST_BYTES;
use crate::manifest::{ACCEPTED, claimed_digest};
use crate::payload::Payload;
use crate::retry::Failure;
use crate::sending::Sending;
use crate::upload::{Begun, Peer};
use crate::{Client, Document, ErrorKind, Progress, Reference, RegistryError, Repository};

/// How many questions for blobs are under way at once.
const QUESTIONS: usize = 16;

/// How to push.
#[derive(Clone, Debug, Default)]
pub struct PushOptions {
    /// Repositories that may have the blobs, besides those that the store remembers.
    pub mount_from: Vec<Repository>,
    /// Send layers that are marked as not to be distributed, too.
    pub nondistributable: bool,
}

/// Everything that a push needs at every step.
pub(crate) struct Push<'a> {
    pub client: &'a Client,
    pub endpoint: Endpoint,
    repository: &'a Repository,
    pub scopes: Vec<String>,
    blobs: &'a Blobs,
    options: &'a PushOptions,
    pub progress: &'a Arc<dyn Progress>,
}

/// A document to be put, with its bytes.
struct Put {
    descriptor: Descriptor,
    bytes: Vec<u8>,
    /// What it is called there: its digest, or the tag.
    locator: String,
}

impl Client {
    /// Pushes the image or index `root` from the store to `target`; under the tag, or, where the reference has
    /// none, by digest alone. Says what the target stands for now.
    ///
    /// # Errors
    /// [`RegistryError`] of any kind; [`RegistryError::MissingBlob`] for a blob that cannot be had.
    pub async fn push(
        &self,
        target: &Reference,
        root: &Descriptor,
        blobs: &Blobs,
        options: &PushOptions,
        progress: &Arc<dyn Progress>,
    ) -> Result<Descriptor, RegistryError> {
        let endpoint = self.endpoint(target.repository()).await?;
        let scopes = vec![endpoint.scope("pull,push")];
        let repository = target.repository();
        let push = Push { client: self, endpoint, repository, scopes, blobs, options, progress };
        push.check_target(target, root)?;
        let (puts, manifests) = push.collect(root, target).await?;
        let layers = manifests.iter().flat_map(|manifest| manifest.layers.iter()).filter(|d| push.is_sent(d));
        let configs = manifests.iter().map(|manifest| &manifest.config);
        let (missing, puts) =
            try_join(push.missing(layers.chain(configs.clone())), push.not_there(puts)).await?;
        let configs: HashSet<Digest> = configs.map(|config| config.digest).collect();
        let (configs, layers): (Vec<_>, Vec<_>) =
            missing.into_iter().partition(|d| configs.contains(&d.digest));
        push.send_all(layers).await?;
        push.send_all(configs).await?;
        for put in &puts {
            push.put(put).await?;
        }
        Ok(root.clone())
    }

    /// Brings those blobs into a repository that it lacks; nothing there refers to them yet.
    pub(crate) async fn push_blobs(
        &self,
        repository: &Repository,
        descriptors: &[Descriptor],
        blobs: &Blobs,
        options: &PushOptions,
        progress: &Arc<dyn Progress>,
    ) -> Result<(), RegistryError> {
        let endpoint = self.endpoint(repository).await?;
        let scopes = vec![endpoint.scope("pull,push")];
        let push = Push { client: self, endpoint, repository, scopes, blobs, options, progress };
        let missing = push.missing(descriptors.iter()).await?;
        push.send_all(missing).await
    }

    /// Asks whether the repository has a blob.
    pub(crate) async fn has_blob(
        &self,
        context: Context<'_>,
        scopes: &[String],
        digest: &Digest,
    ) -> Result<bool, RegistryError> {
        Ok(self.call(&blob_question(context, scopes, digest)).await?.status().is_success())
    }

    /// The same by one try, for those who try again themselves.
    pub(crate) async fn has_blob_once(
        &self,
        context: Context<'_>,
        scopes: &[String],
        digest: &Digest,
    ) -> Result<bool, Failure> {
        Ok(self.once(&blob_question(context, scopes, digest)).await?.status().is_success())
    }
}

fn blob_question<'a>(context: Context<'a>, scopes: &'a [String], digest: &Digest) -> Call<'a> {
    const NO: &[StatusCode] = &[StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED];
    let url = context.endpoint.url(&format!("blobs/{digest}"));
    Call::new(context, Method::HEAD, url, scopes).also(NO)
}

impl Push<'_> {
    fn check_target(&self, target: &Reference, root: &Descriptor) -> Result<(), RegistryError> {
        if target.digest().is_some_and(|digest| *digest != root.digest) {
            return Err(RegistryError::OtherDigest { target: target.to_string(), digest: root.digest });
        }
        Ok(())
    }

    /// Reads the documents below `root`: those to put, leaves first, and the images among them.
    async fn collect(
        &self,
        root: &Descriptor,
        target: &Reference,
    ) -> Result<(Vec<Put>, Vec<Manifest>), RegistryError> {
        let (mut puts, mut manifests) = (Vec::new(), Vec::new());
        let mut todo = vec![root.clone()];
        let mut seen = HashSet::new();
        while let Some(descriptor) = todo.pop() {
            if !seen.insert(descriptor.digest) {
                continue;
            }
            let Some((bytes, document)) = self.read(&descriptor).await? else { continue };
            match document {
                Document::Manifest(manifest) => manifests.push(manifest),
                Document::Index(index) => todo.extend(index.manifests.iter().cloned()),
            }
            let tag = target.tag().filter(|_| descriptor.digest == root.digest);
            let locator = tag.map_or_else(|| descriptor.digest.to_string(), str::to_owned);
            puts.push(Put { descriptor, bytes, locator });
        }
        // An index came before what it names: the registry wants it after.
        puts.reverse();
        Ok((puts, manifests))
    }

    /// A document from the store; `None` where only the registry has it.
    async fn read(&self, descriptor: &Descriptor) -> Result<Option<(Vec<u8>, Document)>, RegistryError> {
        let object = format!("manifest {} for {}", descriptor.digest, self.repository);
        let context = Context::new(&self.endpoint, &object);
        let (blobs, digest) = (self.blobs.clone(), descriptor.digest);
        match blocking(&object, move || blobs.read(&digest, MANIFEST_BYTES)).await? {
            Some(bytes) => {
                let (_, document) = Document::parse(&bytes, Some(descriptor.media_type.as_ref()))
                    .map_err(|reason| context.protocol(&reason))?;
                Ok(Some((bytes, document)))
            }
            None if self.has_manifest(context, &digest).await? => Ok(None),
            None => Err(RegistryError::MissingBlob { digest, target: self.repository.to_string() }),
        }
    }

    async fn has_manifest(&self, context: Context<'_>, digest: &Digest) -> Result<bool, RegistryError> {
        let url = self.endpoint.url(&format!("manifests/{digest}"));
        let call = Call::new(context, Method::HEAD, url, &self.scopes).also(&[StatusCode::NOT_FOUND]);
        Ok(self.client.call(&call).await?.status().is_success())
    }

    /// Docker keeps such layers (Windows' base layers) out of other registries.
    fn is_sent(&self, descriptor: &Descriptor) -> bool {
        let kind = &descriptor.media_type;
        let marked = matches!(
            kind,
            MediaType::ImageLayerNonDistributable
                | MediaType::ImageLayerNonDistributableGzip
                | MediaType::ImageLayerNonDistributableZstd
        ) || kind.as_ref() == media_type::DOCKER_LAYER_FOREIGN_GZIP;
        self.options.nondistributable || !marked
    }

    /// Those blobs that the repository lacks, each once.
    async fn missing<'d>(
        &self,
        descriptors: impl Iterator<Item = &'d Descriptor>,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        let mut seen = HashSet::new();
        let mut questions = Vec::new();
        for descriptor in descriptors.filter(|descriptor| seen.insert(descriptor.digest)) {
            questions.push(self.if_missing(descriptor));
        }
        let answers: Vec<_> = stream::iter(questions).buffered(QUESTIONS).try_collect().await?;
        Ok(answers.into_iter().flatten().collect())
    }

    /// Those documents that the repository does not have under their names, in their order.
    async fn not_there(&self, puts: Vec<Put>) -> Result<Vec<Put>, RegistryError> {
        let mut questions = Vec::new();
        for put in puts {
            questions.push(self.unless_there(put));
        }
        let answers: Vec<_> = stream::iter(questions).buffered(QUESTIONS).try_collect().await?;
        Ok(answers.into_iter().flatten().collect())
    }

    /// The document, unless its name stands for it there. Who may not ask, or is not told, puts it.
    async fn unless_there(&self, put: Put) -> Result<Option<Put>, RegistryError> {
        const UNKNOWN: &[StatusCode] = &[
            StatusCode::BAD_REQUEST,
            StatusCode::FORBIDDEN,
            StatusCode::NOT_FOUND,
            StatusCode::METHOD_NOT_ALLOWED,
            StatusCode::NOT_IMPLEMENTED,
        ];
        let object = format!("manifest {} of {}", put.descriptor.digest, self.repository);
        let url = self.endpoint.url(&format!("manifests/{}", put.locator));
        let call = Call::new(Context::new(&self.endpoint, &object), Method::HEAD, url, &self.scopes);
        let answer = self.client.call(&call.header(ACCEPT, ACCEPTED).also(UNKNOWN)).await?;
        let stands_for = claimed_digest(answer.headers()).filter(|_| answer.status().is_success());
        Ok((stands_for != Some(put.descriptor.digest)).then_some(put))
    }

    /// The blob, if the repository lacks it.
    async fn if_missing(&self, descriptor: &Descriptor) -> Result<Option<Descriptor>, RegistryError> {
        let object = self.name(&descriptor.digest);
        let context = Context::new(&self.endpoint, &object);
        let has = self.client.has_blob(context, &self.scopes, &descriptor.digest).await?;
        Ok((!has).then(|| descriptor.clone()))
    }

    async fn send_all(&self, descriptors: Vec<Descriptor>) -> Result<(), RegistryError> {
        let mut sends = Vec::new();
        for descriptor in &descriptors {
            sends.push(self.send(descriptor));
        }
        stream::iter(sends).buffer_unordered(self.client.config.uploads.max(1)).try_collect().await
    }

    /// Brings one blob into the repository: by mount, or by upload.
    async fn send(&self, descriptor: &Descriptor) -> Result<(), RegistryError> {
        let _turn = self.client.uploads.acquire().await;
        let digest = &descriptor.digest;
        let sources = self.sources(digest)?;
        let session = match self.mount(digest, &sources).await {
            Some(Begun::Mounted) => {
                self.progress.on_done(digest);
                return Ok(());
            }
            Some(Begun::Session(session)) => Some(session),
            None => None,
        };
        let file = self.open(descriptor, &sources).await?;
        self.progress.on_start(digest, descriptor.size, 0);
        Sending { push: self, descriptor, file: Arc::new(file) }.run(session).await?;
        self.progress.on_done(digest);
        self.blobs.add_source(digest, &self.repository.to_string())?;
        Ok(())
    }

    /// The repositories that should have a blob.
    fn sources(&self, digest: &Digest) -> Result<Vec<Repository>, RegistryError> {
        let remembered = self.blobs.sources(digest)?;
        let remembered = remembered.iter().filter_map(|name| name.parse().ok());
        let all = self.options.mount_from.iter().cloned().chain(remembered);
        Ok(all.filter(|source| source != self.repository).collect())
    }

    /// Offers the registry to take the blob from a repository of its own. Whatever it answers but yes, the blob
    /// is uploaded: a refused mount is no failure.
    async fn mount(&self, digest: &Digest, sources: &[Repository]) -> Option<Begun> {
        let source = sources.iter().find(|source| source.registry() == self.repository.registry())?;
        let object = self.name(digest);
        let mut scopes = self.scopes.clone();
        scopes.push(format!("repository:{}:pull", source.path()));
        let context = Context::new(&self.endpoint, &object);
        let peer = Peer { client: self.client, context, scopes: &scopes };
        peer.begin(Some((digest, source.path()))).await.ok()
    }

    /// The blob's file; fetched from where it came from, if it is not here.
    async fn open(&self, descriptor: &Descriptor, sources: &[Repository]) -> Result<File, RegistryError> {
        let digest = descriptor.digest;
        for source in std::iter::once(None).chain(sources.iter().map(Some)) {
            if let Some(source) = source
                && let Err(e) = self.client.fetch_blob(source, descriptor, self.blobs, self.progress).await
            {
                if e.kind() == ErrorKind::Store {
                    return Err(e);
                }
                continue;
            }
            if let Some((file, size)) = self.checked(digest).await? {
                return self.sized(descriptor, size).map(|()| file);
            }
        }
        Err(RegistryError::MissingBlob { digest, target: self.repository.to_string() })
    }

    /// The blob's file, once its bytes were found to be right. A damaged one is dropped, and fetched anew from where
    /// it came from.
    async fn checked(&self, digest: Digest) -> Result<Option<(File, u64)>, RegistryError> {
        let blobs = self.blobs.clone();
        let opened = tokio::task::spawn_blocking(move || blobs.open_checked(&digest)).await;
        match opened.expect("hashing does not panic") {
            Err(StoreError::Corrupt { .. }) => Ok(None),
            other => Ok(other?),
        }
    }

    fn sized(&self, descriptor: &Descriptor, size: u64) -> Result<(), RegistryError> {
        if size == descriptor.size {
            return Ok(());
        }
        let detail = format!("it has {size} bytes, its manifest says {}", descriptor.size);
        Err(StoreError::Corrupt { object: format!("blob {}", descriptor.digest), detail }.into())
    }

    async fn put(&self, put: &Put) -> Result<(), RegistryError> {
        let object = format!("manifest {} as {}", put.descriptor.digest, self.repository.familiar());
        let context = Context::new(&self.endpoint, &object);
        let url = self.endpoint.url(&format!("manifests/{}", put.locator));
        let call = Call::new(context, Method::PUT, url, &self.scopes)
            .header(CONTENT_TYPE, put.descriptor.media_type.to_string())
            .payload(Payload::Bytes(put.bytes.clone().into()));
        let response = self.client.call(&call).await?;
        match claimed_digest(response.headers()) {
            Some(claimed) if claimed != put.descriptor.digest => {
                Err(context.corrupt(format!("it keeps the manifest as {claimed}")))
            }
            _ => Ok(()),
        }
    }

    /// The blob, for messages.
    pub fn name(&self, digest: &Digest) -> String {
        format!("blob {digest} to {}", self.repository)
    }
}
