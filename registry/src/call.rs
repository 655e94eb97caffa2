//! One request to a registry: shown who we are, sent where redirects lead, its answer judged.
//!
//! The `Authorization` header goes to the registry's own scheme, host and port and nowhere else: after the first
//! hop away it stays off, whatever comes later. What hops are taken at all is `address`'s to say.

use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, HeaderName, HeaderValue, LOCATION};
use reqwest::{Method, Request, Response, StatusCode, Url};

use crate::address::{Origin, check_hop, host_of};
use crate::auth::Auth;
use crate::context::Context;
use crate::limits::REDIRECTS;
use crate::payload::Payload;
use crate::retry::{Again, Failure};
use crate::transport::{About, Transport};

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
    /// On a connection of its own, beside those that carry the same blob.
    pub apart: bool,
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
            apart: false,
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

    /// Asks for a connection of its own.
    pub fn apart(self) -> Self {
        Self { apart: true, ..self }
    }

    /// Adds statuses that are answers, not failures.
    pub fn also(self, also: &'a [StatusCode]) -> Self {
        Self { also, ..self }
    }

    /// The request for one hop; `at_home` where that is the registry itself.
    fn request(
        &self,
        url: &Url,
        authorization: Option<&HeaderValue>,
        at_home: bool,
    ) -> (Request, Option<std::sync::Arc<crate::transport::Pace>>) {
        let mut request = Request::new(self.method.clone(), url.clone());
        let headers = request.headers_mut();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        for (name, value) in self.context.endpoint.headers.iter().filter(|_| at_home) {
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
        let (request, pace) = call.request(&url, authorization.filter(|_| !crossed), !crossed);
        let about = About { pace: pace.as_deref(), committed: call.committed, apart: call.apart };
        let response = transport.send(request, about).await;
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
