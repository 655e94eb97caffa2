//! Files at URLs, for ADD and for build contexts: fetched into the store like a blob whose digest nobody knows yet.
//!
//! It is no part of the distribution protocol, but it lives beside it so that every byte from the network comes
//! through one door: the same TLS, proxies, clocks, retries and rules for redirects.
//!
//! Which addresses are asked: the user's Dockerfile may name private hosts and loopback (that is how build farms
//! serve their files), never link-local ones, where clouds keep their credentials. A redirect may not lead from a
//! public host into a private network, nor off TLS. Host names are not looked through.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use forge_store::{Blobs, Digest, StoreError};
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, ETAG, HeaderMap, HeaderName, HeaderValue,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, LOCATION,
};
use reqwest::{Method, Request, Response, Url};

use crate::address::{Origin, check_hop, host_of, is_never};
use crate::client::blocking;
use crate::error::ErrorKind;
use crate::limits::{DOWNLOAD_BYTES, REDIRECTS};
use crate::retry::{Again, Failure, Tries, seconds};
use crate::text::clean;
use crate::transport::{About, Broken};
use crate::{Client, RegistryError, Secret};

/// What to fetch.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The address: http or https. A user name and password in it are sent to its host alone.
    pub url: String,
    /// Its entity tag when it was fetched last.
    pub etag: Option<String>,
    /// Its `Last-Modified` when it was fetched last.
    pub last_modified: Option<String>,
    /// The value of an `Authorization` header, for the URL's own host alone.
    pub authorization: Option<Secret>,
    /// The most bytes that are taken; at most [`DOWNLOAD_BYTES`].
    pub most_bytes: Option<u64>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Download {
    /// It is still what `etag` or `last_modified` says.
    Unchanged,
    /// The bytes are in the store.
    Fetched(Fetched),
}

/// A file that was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Its bytes, as the store names them.
    pub digest: Digest,
    /// How many they are.
    pub size: u64,
    /// Its entity tag.
    pub etag: Option<String>,
    /// Its `Last-Modified`.
    pub last_modified: Option<String>,
    /// The same, in seconds since 1970.
    pub mtime: Option<i64>,
}

/// Hears how many bytes came, and how many there will be in all, where that is known.
pub type OnBytes<'a> = dyn Fn(u64, Option<u64>) + Sync + 'a;

impl Client {
    /// Fetches a file into the store, unless it is unchanged.
    ///
    /// # Errors
    /// [`RegistryError::Download`], [`RegistryError::Store`].
    pub async fn download(
        &self,
        wanted: &Wanted,
        blobs: &Blobs,
        on_bytes: &OnBytes<'_>,
    ) -> Result<Download, RegistryError> {
        let at = Address::of(wanted)?;
        let _turn = self.downloads.acquire().await;
        let mut tries = Tries::new(&self.config.retry);
        loop {
            match self.download_once(wanted, &at, blobs, on_bytes).await {
                Ok(download) => return Ok(download),
                Err(failure) => tries.wait(failure).await?,
            }
        }
    }

    async fn download_once(
        &self,
        wanted: &Wanted,
        at: &Address,
        blobs: &Blobs,
        on_bytes: &OnBytes<'_>,
    ) -> Result<Download, Failure> {
        let response = self.follow(wanted, at).await?;
        match response.status().as_u16() {
            304 if wanted.etag.is_some() || wanted.last_modified.is_some() => Ok(Download::Unchanged),
            200 => self.receive(wanted, at, response, blobs, on_bytes).await.map(Download::Fetched),
            status => Err(at.refused(status)),
        }
    }

    /// Asks, and goes where redirects lead.
    async fn follow(&self, wanted: &Wanted, at: &Address) -> Result<Response, Failure> {
        let mut url = at.url.clone();
        for _ in 0..=REDIRECTS {
            let request = at.request(wanted, &url);
            let response = self.transport.send(request, About::default()).await.map_err(|b| at.broken(b))?;
            if !matches!(response.status().as_u16(), 301..=303 | 307 | 308) {
                return Ok(response);
            }
            let location = text_of(response.headers(), LOCATION)
                .ok_or_else(|| at.wrong("it redirects without saying where".into()))?;
            let mut next =
                url.join(&location).map_err(|_| at.wrong("it redirects to what is no URL".into()))?;
            next.set_fragment(None);
            check_hop(&at.url, &url, &next, false)
                .map_err(|reason| at.wrong(format!("it redirects to an address {reason}")))?;
            url = next;
        }
        Err(at.wrong(format!("it redirects more than {REDIRECTS} times")))
    }

    async fn receive(
        &self,
        wanted: &Wanted,
        at: &Address,
        response: Response,
        blobs: &Blobs,
        on_bytes: &OnBytes<'_>,
    ) -> Result<Fetched, Failure> {
        let headers = response.headers();
        if headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding.as_bytes() != b"identity") {
            return Err(at.wrong("it comes in an encoding that was not asked for".into()));
        }
        let (etag, last_modified) = (text_of(headers, ETAG), text_of(headers, LAST_MODIFIED));
        let most = wanted.most_bytes.unwrap_or(DOWNLOAD_BYTES).min(DOWNLOAD_BYTES);
        let total = response.content_length();
        let too_large = || at.wrong(format!("it is larger than {most} bytes"));
        if total.is_some_and(|total| total > most) {
            return Err(too_large());
        }
        let store = |e: std::io::Error| {
            Failure::last(StoreError::Io { verb: "write", path: "a download".into(), source: e }.into())
        };
        let mut blob = blobs.create().map_err(RegistryError::from)?;
        let mut body = self.transport.body(response);
        let mut came = 0;
        while let Some(chunk) = body.chunk().await.map_err(|broken| at.broken(broken))? {
            came += chunk.len() as u64;
            if came > most {
                return Err(too_large());
            }
            blob.write_all(&chunk).map_err(store)?;
            on_bytes(came, total);
        }
        // A cut connection and a whole body look the same without a length; with one they do not.
        if total.is_some_and(|total| total != came) {
            return Err(Failure::soon(at.error(ErrorKind::Unreachable, "it ended early".into())));
        }
        let (digest, size) = blocking("a download", move || blob.commit()).await?;
        let mtime = last_modified.as_deref().and_then(seconds);
        Ok(Fetched { digest, size, etag, last_modified, mtime })
    }
}

/// Where a file is, and who we are there.
struct Address {
    url: Url,
    /// The URL for people.
    shown: String,
    authorization: Option<HeaderValue>,
}

impl Address {
    fn of(wanted: &Wanted) -> Result<Self, RegistryError> {
        let shown = clean(&wanted.url);
        let no = |detail: &str| RegistryError::Download {
            url: shown.clone(),
            detail: detail.into(),
            kind: ErrorKind::Usage,
        };
        let mut url: Url = wanted.url.parse().map_err(|_| no("it is not a URL"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(no("only http and https are fetched"));
        }
        if is_never(&url) {
            return Err(no(
                "link-local addresses are not fetched: cloud machines keep their credentials there",
            ));
        }
        url.set_fragment(None);
        let basic = || {
            let password = url.password().unwrap_or_default();
            let pair = format!("{}:{password}", url.username());
            (pair != ":").then(|| format!("Basic {}", STANDARD.encode(percent_decoded(&pair))))
        };
        let given = wanted.authorization.as_ref().map(|secret| secret.expose().to_owned());
        let authorization = given.or_else(basic).map(|value| {
            let mut value =
                HeaderValue::from_str(&value).map_err(|_| no("its authorization is no header"))?;
            value.set_sensitive(true);
            Ok::<_, RegistryError>(value)
        });
        let authorization = authorization.transpose()?;
        // Neither can fail for http and https.
        let _ = url.set_username("").and_then(|()| url.set_password(None));
        Ok(Self { url, shown, authorization })
    }

    fn request(&self, wanted: &Wanted, url: &Url) -> Request {
        let mut request = Request::new(Method::GET, url.clone());
        let headers = request.headers_mut();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let validator = match (&wanted.etag, &wanted.last_modified) {
            (Some(etag), _) => Some((IF_NONE_MATCH, etag)),
            (None, Some(time)) => Some((IF_MODIFIED_SINCE, time)),
            (None, None) => None,
        };
        if let Some((name, value)) = validator
            && let Ok(value) = HeaderValue::from_str(value)
        {
            headers.insert(name, value);
        }
        let is_home = Origin::of(url) == Origin::of(&self.url);
        if let Some(value) = self.authorization.as_ref().filter(|_| is_home) {
            headers.insert(AUTHORIZATION, value.clone());
        }
        request
    }

    fn error(&self, kind: ErrorKind, detail: String) -> RegistryError {
        RegistryError::Download { url: self.shown.clone(), detail, kind }
    }

    fn wrong(&self, detail: String) -> Failure {
        Failure::last(self.error(ErrorKind::Protocol, detail))
    }

    fn refused(&self, status: u16) -> Failure {
        let (kind, again) = match status {
            404 | 410 => (ErrorKind::NotFound, Again::Never),
            401 | 403 => (ErrorKind::Denied, Again::Never),
            429 => (ErrorKind::RateLimited, Again::Soon),
            408 | 425 | 500.. => (ErrorKind::Server, Again::Soon),
            _ => (ErrorKind::Protocol, Again::Never),
        };
        let detail = format!("{} answers with HTTP {status}", host_of(&self.url));
        Failure { error: Box::new(self.error(kind, detail)), again }
    }

    fn broken(&self, broken: Broken) -> Failure {
        let (kind, detail, again) = match broken {
            Broken::Tls(cause) | Broken::Certificate(cause) => (ErrorKind::Tls, cause, Again::Never),
            Broken::Config(cause) => (ErrorKind::Settings, cause, Again::Never),
            Broken::Connect(cause) => (ErrorKind::Unreachable, cause, Again::Unlikely),
            Broken::Cut(cause) | Broken::Stalled(cause) => (ErrorKind::Unreachable, cause, Again::Soon),
        };
        Failure { error: Box::new(self.error(kind, detail)), again }
    }
}

fn text_of(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Userinfo as it was before it was made part of a URL.
fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let hex = behind.get(..2).and_then(|hex| std::str::from_utf8(hex).ok()).filter(|_| *first == b'%');
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    bytes
}
