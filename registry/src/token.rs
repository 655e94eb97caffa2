//! Tokens: what a token server is asked and what it answers (distribution's token and OAuth2 specifications).
//!
//! The token server is named by the registry, so its address is checked first, redirects are not followed, and
//! the answer is bounded. Credentials go to it and to the registry only.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request, Url};
use serde::Deserialize;
use tokio::time::Instant;

use crate::address::{check_hop, host_of};
use crate::context::{Context, read_document};
use crate::endpoint::Endpoint;
use crate::limits::ANSWER_BYTES;
use crate::retry::Failure;
use crate::transport::{About, Transport};
use crate::{Credential, Secret};

/// How long a token lasts where the server does not say.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);
/// No token is kept for longer than this.
const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Where a registry's tokens come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenServer {
    pub realm: Url,
    pub service: Option<String>,
}

/// An access token, ready to be sent.
#[derive(Clone)]
pub struct Token {
    pub header: HeaderValue,
    /// What further tokens can be had for, if it was asked for and the server gives such.
    pub identity: Option<Secret>,
    expires: Instant,
}

impl Token {
    /// False shortly before it expires: a request takes a moment, too.
    pub fn is_valid(&self) -> bool {
        Instant::now() < self.expires
    }
}

/// Checks the address of a token server.
///
/// # Errors
/// What is wrong with it, for a message.
pub fn check_realm(endpoint: &Endpoint, realm: &str) -> Result<Url, String> {
    let url = Url::parse(realm).map_err(|_| "its token server's address is no URL".to_owned())?;
    check_hop(&endpoint.api, &endpoint.api, &url, endpoint.trusted)
        .map_err(|reason| format!("it names a token server {reason}"))?;
    Ok(url)
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<f64>,
}

/// Asks for a token that carries `scopes`; anonymously without a credential.
pub async fn fetch(
    transport: &Transport,
    limit: Duration,
    context: &Context<'_>,
    server: &TokenServer,
    scopes: &[String],
    credential: Option<&Credential>,
    wants_identity: bool,
) -> Result<Token, Failure> {
    let begun = Instant::now();
    let request = match credential {
        Some(Credential::Identity(refresh)) => refresh_request(server, scopes, refresh.expose()),
        Some(Credential::Basic { username, password }) => {
            let mut request = plain_request(server, scopes);
            request.url_mut().query_pairs_mut().append_pair("account", username);
            if wants_identity {
                let mut query = request.url_mut().query_pairs_mut();
                query.append_pair("offline_token", "true").append_pair("client_id", "forge");
            }
            request.headers_mut().insert(AUTHORIZATION, basic(username, password.expose()));
            request
        }
        Some(Credential::Bearer(_)) | None => plain_request(server, scopes),
    };
    let host = host_of(&server.realm);
    let secrets: Vec<String> = credential.iter().map(|credential| credential.secret().to_owned()).collect();
    let context = context.at(&host).keeping(&secrets);
    let response =
        transport.send(request, About::default()).await.map_err(|broken| context.broken(broken))?;
    if !response.status().is_success() {
        return Err(context.judge(transport, response).await);
    }
    let bytes = read_document(transport, response, ANSWER_BYTES, limit, &context).await?;
    let fail = || context.protocol("the token server's answer is not the JSON of the token protocol");
    let answer: Answer = serde_json::from_slice(&bytes).map_err(|_| Failure::last(fail()))?;
    let text = answer.token.or(answer.access_token).filter(|text| !text.is_empty());
    let header = text.and_then(|text| bearer(&text)).ok_or_else(|| Failure::last(fail()))?;
    let identity = answer.refresh_token.filter(|text| wants_identity && !text.is_empty()).map(Secret::new);
    Ok(Token { header, identity, expires: begun + lifetime(answer.expires_in) })
}

/// `Basic …`.
pub fn basic(username: &str, password: &str) -> HeaderValue {
    let text = format!("Basic {}", STANDARD.encode(format!("{username}:{password}")));
    // Base64 is always a header value.
    sensitive(HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("Basic")))
}

/// `Bearer …`; `None` where the token cannot stand in a header.
pub fn bearer(token: &str) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("Bearer {token}")).ok().map(sensitive)
}

fn sensitive(mut header: HeaderValue) -> HeaderValue {
    header.set_sensitive(true);
    header
}

fn plain_request(server: &TokenServer, scopes: &[String]) -> Request {
    let mut url = server.realm.clone();
    {
        let mut query = url.query_pairs_mut();
        query.extend_pairs(server.service.iter().map(|service| ("service", service)));
        query.extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
    }
    identity(Request::new(Method::GET, url))
}

fn refresh_request(server: &TokenServer, scopes: &[String], refresh: &str) -> Request {
    // `Url` knows how to write a form.
    let mut form = Url::parse("form:").unwrap_or_else(|_| server.realm.clone());
    {
        let mut query = form.query_pairs_mut();
        query.clear().append_pair("grant_type", "refresh_token").append_pair("client_id", "forge");
        query.extend_pairs(server.service.iter().map(|service| ("service", service)));
        query.append_pair("scope", &scopes.join(" ")).append_pair("refresh_token", refresh);
    }
    let mut request = Request::new(Method::POST, server.realm.clone());
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    *request.body_mut() = Some(form.query().unwrap_or_default().to_owned().into());
    identity(request)
}

fn identity(mut request: Request) -> Request {
    request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    request
}

/// The server's word, with a tenth of it (at most 10 s) taken off.
fn lifetime(seconds: Option<f64>) -> Duration {
    let told = seconds.filter(|s| *s > 0.0).map_or(DEFAULT_LIFETIME, |s| {
        Duration::try_from_secs_f64(s).unwrap_or(LONGEST_LIFETIME).min(LONGEST_LIFETIME)
    });
    told - (told / 10).min(Duration::from_secs(10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_bounded() {
        for (told, want) in [
            (None, 54_000),
            (Some(2.0), 1_800),
            (Some(300.0), 290_000),
            (Some(0.0), 54_000),
            (Some(-5.0), 54_000),
            (Some(f64::NAN), 54_000),
            (Some(1e300), 86_390_000),
        ] {
            assert_eq!(lifetime(told).as_millis(), want, "{told:?}");
        }
    }
}
