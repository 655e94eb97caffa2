//! One request to a registry: shown who we are, sent where redirects lead, its answer judged.
//!
//! The `Authorization` header goes to the registry's own scheme, host and port and nowhere else: after the first
//! hop away it stays off, whatever comes later. What hops are taken at all is `address`'s to say.

use std::time::Duration;

use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap,
    HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
};
use reqwest::{Method, Request, Response, StatusCode, Url};
use serde::Deserialize;

use crate::RegistryError;
use crate::address::{Origin, check_hop, host_of};
use crate::auth::Auth;
use crate::endpoint::Endpoint;
use crate::limits::{ERROR_BODY_BYTES, REDIRECTS};
use crate::payload::Payload;
use crate::retry::{Again, Failure, retry_after};
use crate::text::{clean, redact};
use crate::transport::{Broken, Transport};

/// How often one request renews its login before the refusal is believed.
const RENEWALS: usize = 2;

/// A request to be made.
pub struct Call<'a> {
    /// Whom, and about what.
    pub context: Context<'a>,
    pub method: Method,
    pub url: Url,
    /// The rights that its token must carry.
    pub scopes: &'a [String],
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub payload: Payload,
    /// Statuses besides success that the caller understands.
    pub also: &'a [StatusCode],
    /// The bytes that the registry takes in before it answers: it gets time for them.
    pub committed: u64,
}

impl<'a> Call<'a> {
    /// A request without body.
    pub fn new(context: Context<'a>, method: Method, url: Url, scopes: &'a [String]) -> Self {
        Self {
            context,
            method,
            url,
            scopes,
            headers: Vec::new(),
            payload: Payload::None,
            also: &[],
            committed: 0,
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: HeaderName, value: impl TryInto<HeaderValue>) -> Self {
        if let Ok(value) = value.try_into() {
            self.headers.push((name, value));
        }
        self
    }

    /// Adds a body.
    pub fn payload(self, payload: Payload) -> Self {
        Self { payload, ..self }
    }

    /// Says that the registry hashes and moves so many bytes before it answers.
    pub fn commits(self, bytes: u64) -> Self {
        Self { committed: bytes, ..self }
    }

    /// Adds statuses that are answers, not failures.
    pub fn also(self, also: &'a [StatusCode]) -> Self {
        Self { also, ..self }
    }

    fn request(
        &self,
        url: &Url,
        authorization: Option<&HeaderValue>,
    ) -> (Request, Option<std::sync::Arc<crate::transport::Pace>>) {
        let mut request = Request::new(self.method.clone(), url.clone());
        let headers = request.headers_mut();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        if matches!(self.method, Method::POST | Method::PUT | Method::PATCH) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(self.payload.len()));
        }
        let pace = self.payload.open().map(|(body, pace)| {
            *request.body_mut() = Some(body);
            pace
        });
        (request, pace)
    }
}

/// Makes one try of a request; answers of success and those that the caller asked for come back.
pub async fn once(transport: &Transport, auth: &Auth, call: &Call<'_>) -> Result<Response, Failure> {
    let mut authorization = auth.ready(&call.context, call.scopes).await?;
    for _ in 0..RENEWALS {
        let (response, crossed) = follow(transport, call, authorization.as_ref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED || crossed {
            return settle(transport, auth, call, authorization.as_ref(), (response, crossed)).await;
        }
        let headers = response.headers();
        authorization = Some(auth.answer(&call.context, call.scopes, headers, authorization.as_ref()).await?);
    }
    let answer = follow(transport, call, authorization.as_ref()).await?;
    settle(transport, auth, call, authorization.as_ref(), answer).await
}

async fn settle(
    transport: &Transport,
    auth: &Auth,
    call: &Call<'_>,
    authorization: Option<&HeaderValue>,
    (response, crossed): (Response, bool),
) -> Result<Response, Failure> {
    let status = response.status();
    if status.is_success() || call.also.contains(&status) {
        return Ok(response);
    }
    let host = host_of(response.url());
    let context = if crossed { call.context.at(&host) } else { call.context };
    let secrets = auth.secrets(context.endpoint, authorization).await;
    let failure = context.keeping(&secrets).judge(transport, response).await;
    // A storage host's refusal is often that of a signed address that grew old: the registry makes a new one.
    let signed = crossed && status.is_client_error() && failure.again == Again::Never;
    Err(if signed { Failure { again: Again::Unlikely, ..failure } } else { failure })
}

/// Sends the request and follows redirects; says whether the answer is from another origin than the registry's.
async fn follow(
    transport: &Transport,
    call: &Call<'_>,
    authorization: Option<&HeaderValue>,
) -> Result<(Response, bool), Failure> {
    let home = Origin::of(&call.context.endpoint.api);
    let mut url = call.url.clone();
    let mut crossed = Origin::of(&url) != home;
    for _ in 0..=REDIRECTS {
        let (request, pace) = call.request(&url, authorization.filter(|_| !crossed));
        let response = transport.send(request, pace.as_deref(), call.committed).await;
        let response = response.map_err(|broken| call.context.at(&host_of(&url)).broken(broken))?;
        let Some(next) = redirect(call, &url, &response)? else { return Ok((response, crossed)) };
        crossed |= Origin::of(&next) != home;
        url = next;
    }
    Err(call.context.protocol(&format!("it redirects more than {REDIRECTS} times")).into())
}

fn redirect(call: &Call<'_>, from: &Url, response: &Response) -> Result<Option<Url>, Failure> {
    let status = response.status().as_u16();
    // A redirect that turns PUT or PATCH into GET would drop the body in silence.
    let keeps_method = matches!(status, 307 | 308);
    let followed =
        keeps_method || matches!(status, 301..=303) && matches!(call.method, Method::GET | Method::HEAD);
    if !followed {
        return Ok(None);
    }
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let fail = |detail: String| Failure::last(call.context.protocol(&detail));
    let location = location.ok_or_else(|| fail(format!("HTTP {status} without a Location")))?;
    hop(&call.context, from, location)
        .map(Some)
        .map_err(|reason| fail(format!("it redirects to an address {reason}")))
}

/// Resolves and checks an address that an answer from `from` names.
pub fn hop(context: &Context<'_>, from: &Url, location: &str) -> Result<Url, String> {
    let mut to = from.join(location).map_err(|_| "that is no URL".to_owned())?;
    to.set_fragment(None);
    check_hop(&context.endpoint.api, from, &to, context.endpoint.trusted)?;
    Ok(to)
}

/// Whom we talk to about what: what every failure's message needs.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub endpoint: &'a Endpoint,
    /// What is asked for: `manifest debian:13`, `blob sha256:… of debian`.
    pub object: &'a str,
    /// Who answers, where that is not the registry itself.
    host: Option<&'a str>,
    /// What was sent and must not be repeated in a message; nothing where nobody is logged in.
    secrets: &'a [String],
}

impl<'a> Context<'a> {
    pub fn new(endpoint: &'a Endpoint, object: &'a str) -> Self {
        Self { endpoint, object, host: None, secrets: &[] }
    }

    /// The same, answered by another host.
    pub fn at(self, host: &'a str) -> Self {
        Self { host: Some(host), ..self }
    }

    /// The same, with secrets that the answer may repeat.
    pub fn keeping(self, secrets: &'a [String]) -> Self {
        Self { secrets, ..self }
    }

    fn host(&self) -> String {
        self.host.map_or_else(|| self.endpoint.host(), str::to_owned)
    }

    /// An answer outside the protocol.
    pub fn protocol(&self, detail: &str) -> RegistryError {
        RegistryError::Protocol { object: self.object.into(), host: self.host(), detail: detail.into() }
    }

    /// Wrong bytes.
    pub fn corrupt(&self, detail: String) -> RegistryError {
        RegistryError::Corrupt { object: self.object.into(), host: self.host(), detail }
    }

    /// A login is needed, or not good.
    pub fn unauthorized(&self, detail: &str) -> RegistryError {
        RegistryError::Unauthorized {
            object: self.object.into(),
            host: self.host(),
            registry: self.endpoint.registry.clone(),
            detail: format!(": {detail}"),
        }
    }

    /// A broken connection, and whether another helps.
    pub fn broken(&self, broken: Broken) -> Failure {
        let (object, host) = (self.object.to_owned(), self.host());
        match broken {
            Broken::Tls(cause) => Failure::last(RegistryError::Tls { object, host, cause }),
            Broken::Config(detail) => Failure::last(RegistryError::Config { host, detail }),
            Broken::Connect(cause) => Failure {
                error: Box::new(RegistryError::Unreachable { object, host, cause }),
                again: Again::Unlikely,
            },
            Broken::Cut(cause) | Broken::Stalled(cause) => {
                Failure::soon(RegistryError::Unreachable { object, host, cause })
            }
        }
    }

    /// What an answer means that is neither success nor expected.
    pub async fn judge(&self, transport: &Transport, response: Response) -> Failure {
        let status = response.status().as_u16();
        let wait = asked_wait(response.headers());
        let detail = said(transport, response, self.secrets).await;
        let (object, host, registry) = (self.object.to_owned(), self.host(), self.endpoint.registry.clone());
        let error = match status {
            401 if self.secrets.is_empty() => RegistryError::Unauthorized { object, host, registry, detail },
            401 | 403 => RegistryError::Denied { object, host, registry, detail },
            404 | 410 => RegistryError::NotFound { object, host, detail },
            429 => RegistryError::RateLimited { object, host, registry, wait, detail },
            408 | 425 | 500.. => RegistryError::Server { object, host, status, detail },
            _ => self.protocol(&format!("HTTP {status}{detail}{}", hint(&detail))),
        };
        let again = match (status, wait) {
            (429 | 503, Some(wait)) => Again::After(wait),
            (408 | 425 | 429 | 500 | 502..=504 | 506.., _) => Again::Soon,
            _ => Again::Never,
        };
        Failure { error: Box::new(error), again }
    }
}

fn hint(detail: &str) -> &'static str {
    if detail.contains("HTTP request to an HTTPS server") {
        " (it speaks TLS: set plain_http to false)"
    } else {
        ""
    }
}

fn asked_wait(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    retry_after(text(RETRY_AFTER)?, text(DATE))
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<Said>,
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// What a failing registry says about it (distribution-spec, "Error Codes"), with a leading `: `; else nothing.
async fn said(transport: &Transport, response: Response, secrets: &[String]) -> String {
    let is_text =
        response.headers().get(CONTENT_TYPE).is_none_or(|value| value.as_bytes().starts_with(b"text/plain"));
    let mut body = transport.body(response);
    let mut bytes = Vec::new();
    // A body that breaks off has said what it has said.
    while let Ok(Some(chunk)) = body.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > ERROR_BODY_BYTES {
            break;
        }
    }
    let words = match serde_json::from_slice::<Errors>(&bytes) {
        Ok(Errors { errors }) => errors.iter().map(one_line).collect::<Vec<_>>().join("; "),
        Err(_) if is_text => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    };
    let words = clean(&redact(&words, secrets));
    if words.is_empty() { words } else { format!(": {words}") }
}

fn one_line(said: &Said) -> String {
    if said.message.is_empty() { said.code.clone() } else { said.message.clone() }
}

/// Reads a small answer whole: at most `limit` bytes, within `time`.
pub async fn read_document(
    transport: &Transport,
    response: Response,
    limit: u64,
    time: Duration,
    context: &Context<'_>,
) -> Result<Vec<u8>, Failure> {
    check_encoding(response.headers(), context)?;
    let too_long = || Failure::last(context.protocol(&format!("it is larger than {limit} bytes")));
    if response.content_length().is_some_and(|length| length > limit) {
        return Err(too_long());
    }
    let mut body = transport.body(response);
    let mut bytes = Vec::new();
    let reading = async {
        while let Some(chunk) = body.chunk().await.map_err(|broken| context.broken(broken))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > limit {
                return Err(too_long());
            }
        }
        Ok(())
    };
    let slow =
        || context.broken(Broken::Stalled(format!("it did not come whole within {} s", time.as_secs())));
    tokio::time::timeout(time, reading).await.map_err(|_| slow())??;
    Ok(bytes)
}

/// Encoded bytes have another digest than those that were asked for.
pub fn check_encoding(headers: &HeaderMap, context: &Context<'_>) -> Result<(), RegistryError> {
    match headers.get(CONTENT_ENCODING) {
        None => Ok(()),
        Some(encoding) if encoding.as_bytes().eq_ignore_ascii_case(b"identity") || encoding.is_empty() => {
            Ok(())
        }
        Some(_) => Err(context.protocol("its Content-Encoding was not asked for")),
    }
}
