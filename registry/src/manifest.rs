//! From a name to a document: resolving tags and fetching manifests and indexes.
//!
//! A tag is resolved once: HEAD says which digest it has now, and everything after asks for that digest, so a tag
//! that moves meanwhile cannot mix two images. A document is hashed before it is read.

use forge_store::{Blobs, Descriptor, Digest, MediaType};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use reqwest::{Method, StatusCode};

use crate::call::Call;
use crate::client::{blocking, falls_through};
use crate::context::{Context, read_document};
use crate::endpoint::Endpoint;
use crate::limits::MANIFEST_BYTES;
use crate::retry::Failure;
use crate::{Client, Document, Reference, RegistryError, Repository};

/// The document types that are asked for. Old ones (`…manifest.v1+prettyjws`) are not, but some registries send
/// them all the same.
pub(crate) const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// The header that names an answer's digest.
pub(crate) const CONTENT_DIGEST: &str = "docker-content-digest";

/// What a name stands for, verified.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Media type, digest and size of the document.
    pub descriptor: Descriptor,
    /// Its exact bytes.
    pub bytes: Vec<u8>,
    /// What they say.
    pub document: Document,
}

impl Resolved {
    fn new(bytes: Vec<u8>, content_type: Option<&str>) -> Result<Self, String> {
        let (media_type, document) = Document::parse(&bytes, content_type)?;
        let descriptor = Descriptor::new(media_type, Digest::of(&bytes), bytes.len() as u64);
        Ok(Self { descriptor, bytes, document })
    }
}

impl Client {
    /// Finds out what a reference stands for now.
    ///
    /// With `known`, a document that the store has already is not fetched: a pinned reference then costs no
    /// request, a tag one HEAD (which Docker Hub does not count).
    ///
    /// # Errors
    /// [`RegistryError`] of any kind; [`RegistryError::NotFound`] where there is no such tag.
    pub async fn resolve(
        &self,
        reference: &Reference,
        known: Option<&Blobs>,
    ) -> Result<Resolved, RegistryError> {
        let object = format!("manifest {}", reference.canonical());
        let repository = reference.repository();
        let digest = match reference.digest() {
            Some(digest) => Some(*digest),
            None => self.head(reference, &object).await?,
        };
        match digest {
            Some(digest) => match self.stored(known, &digest, None, &object).await? {
                Some(resolved) => Ok(resolved),
                None => self.by_digest(repository, &digest, None, &object).await,
            },
            None => self.by_tag(reference, &object).await,
        }
    }

    /// Fetches the manifest or index that a descriptor of the repository names.
    ///
    /// # Errors
    /// [`RegistryError::Corrupt`] where digest or size are not the descriptor's, [`RegistryError::Protocol`]
    /// where the media type is not.
    pub async fn fetch_manifest(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        known: Option<&Blobs>,
    ) -> Result<Resolved, RegistryError> {
        let object = format!("manifest {} of {repository}", descriptor.digest);
        let resolved =
            match self.stored(known, &descriptor.digest, Some(&descriptor.media_type), &object).await? {
                Some(resolved) => resolved,
                None => self.by_digest(repository, &descriptor.digest, Some(descriptor), &object).await?,
            };
        if resolved.descriptor.media_type != descriptor.media_type {
            let endpoint = Endpoint::of(&self.config, repository)?;
            let (inside, outside) = (&resolved.descriptor.media_type, &descriptor.media_type);
            return Err(Context::new(&endpoint, &object)
                .protocol(&crate::text::clean(&format!("it is {inside} but its index calls it {outside}"))));
        }
        Ok(resolved)
    }

    /// The document from the store, if it is there and sound. `kind` counts where it does not say what it is.
    async fn stored(
        &self,
        known: Option<&Blobs>,
        digest: &Digest,
        kind: Option<&MediaType>,
        object: &str,
    ) -> Result<Option<Resolved>, RegistryError> {
        let Some(blobs) = known.cloned() else { return Ok(None) };
        let digest = *digest;
        let bytes = blocking(object, move || match blobs.read(&digest, MANIFEST_BYTES) {
            // A damaged blob was dropped by the store: it is fetched anew.
            Err(forge_store::StoreError::Corrupt { .. }) => Ok(None),
            other => other,
        });
        Ok(bytes.await?.and_then(|bytes| Resolved::new(bytes, kind.map(MediaType::as_ref)).ok()))
    }

    /// Asks which digest a tag has; `None` where the registry answers HEAD without saying.
    async fn head(&self, reference: &Reference, object: &str) -> Result<Option<Digest>, RegistryError> {
        for endpoint in self.endpoints(reference.repository()).await? {
            if endpoint.mirror.as_ref().is_some_and(|mirror| !mirror.resolves_tags) {
                continue;
            }
            match self.head_at(&endpoint, &reference.locator(), object).await {
                Err(e) if falls_through(&endpoint, &e) => {}
                other => return other,
            }
        }
        Ok(None)
    }

    async fn head_at(
        &self,
        endpoint: &Endpoint,
        locator: &str,
        object: &str,
    ) -> Result<Option<Digest>, RegistryError> {
        const NO_HEAD: &[StatusCode] =
            &[StatusCode::BAD_REQUEST, StatusCode::METHOD_NOT_ALLOWED, StatusCode::NOT_IMPLEMENTED];
        let scopes = [endpoint.scope("pull")];
        let url = endpoint.url(&format!("manifests/{locator}"));
        let call = Call::new(Context::new(endpoint, object), Method::HEAD, url, &scopes);
        let response = self.call(&call.header(ACCEPT, ACCEPTED).also(NO_HEAD)).await?;
        Ok(claimed_digest(response.headers()).filter(|_| response.status().is_success()))
    }

    async fn by_tag(&self, reference: &Reference, object: &str) -> Result<Resolved, RegistryError> {
        let endpoint = self.endpoint(reference.repository()).await?;
        self.get(&endpoint, &reference.locator(), None, None, object).await
    }

    async fn by_digest(
        &self,
        repository: &Repository,
        digest: &Digest,
        descriptor: Option<&Descriptor>,
        object: &str,
    ) -> Result<Resolved, RegistryError> {
        let endpoints = self.endpoints(repository).await?;
        for endpoint in &endpoints {
            match self.get(endpoint, &digest.to_string(), Some(digest), descriptor, object).await {
                Err(e) if falls_through(endpoint, &e) => {}
                other => return other,
            }
        }
        // Never here: the registry itself is the last of them, and its word is final.
        Err(RegistryError::Cancelled { object: object.to_owned() })
    }

    /// Fetches a document from one place, and checks it against what is known of it.
    async fn get(
        &self,
        endpoint: &Endpoint,
        locator: &str,
        digest: Option<&Digest>,
        descriptor: Option<&Descriptor>,
        object: &str,
    ) -> Result<Resolved, RegistryError> {
        let context = Context::new(endpoint, object);
        let limit = match descriptor.map(|descriptor| descriptor.size) {
            Some(size) if size > MANIFEST_BYTES => {
                return Err(context.protocol(&format!("it is larger than {MANIFEST_BYTES} bytes")));
            }
            size => size.unwrap_or(MANIFEST_BYTES),
        };
        let scopes = [endpoint.scope("pull")];
        let url = endpoint.url(&format!("manifests/{locator}"));
        let call = Call::new(context, Method::GET, url, &scopes).header(ACCEPT, ACCEPTED);
        let mut tries = self.tries(endpoint);
        loop {
            match self.get_once(&call, limit, digest, descriptor).await {
                Ok(resolved) => return Ok(resolved),
                Err(failure) => tries.wait(failure).await?,
            }
        }
    }

    async fn get_once(
        &self,
        call: &Call<'_>,
        limit: u64,
        digest: Option<&Digest>,
        descriptor: Option<&Descriptor>,
    ) -> Result<Resolved, Failure> {
        let context = &call.context;
        let response = self.once(call).await?;
        let headers = response.headers().clone();
        // One byte more than allowed, so that a document that is too long is seen to be.
        let most = if descriptor.is_some() { limit.saturating_add(1) } else { limit };
        let time = self.config.timeouts.document;
        let bytes = read_document(&self.transport, response, most, time, context).await?;
        let claimed = claimed_digest(&headers).filter(|_| digest.is_none());
        if let Some(expected) = digest.copied().or(claimed)
            && Digest::of(&bytes) != expected
        {
            let detail = format!("{} bytes that do not hash to {expected}", bytes.len());
            return Err(Failure::soon(context.corrupt(detail)));
        }
        if descriptor.is_some_and(|descriptor| descriptor.size != bytes.len() as u64) {
            return Err(context.corrupt(format!("{} bytes instead of {limit}", bytes.len())).into());
        }
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        Ok(Resolved::new(bytes, content_type).map_err(|reason| context.protocol(&reason))?)
    }
}

/// The digest that an answer claims to have, if it is one of ours.
pub(crate) fn claimed_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get(CONTENT_DIGEST)?.to_str().ok()?.parse().ok()
}
