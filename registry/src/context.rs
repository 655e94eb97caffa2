//! What an answer means: whom we talk to about what, and every way in which that fails, put into words once.

use std::time::Duration;

use reqwest::Response;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderMap, HeaderName, RETRY_AFTER};
use serde::Deserialize;

use crate::RegistryError;
use crate::endpoint::Endpoint;
use crate::limits::ERROR_BODY_BYTES;
use crate::retry::{Again, Failure, retry_after};
use crate::text::{clean, redact};
use crate::transport::{Broken, Transport};

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
            Broken::Certificate(detail) => {
                Failure::last(RegistryError::ClientCertificate { object, host, detail })
            }
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
    let read = read_at_most(transport, response, limit, time, context).await?;
    read.ok_or_else(|| Failure::last(context.protocol(&format!("it is larger than {limit} bytes"))))
}

/// The same; nothing where it is larger than `limit` bytes, of which no more are read than one piece.
pub async fn read_at_most(
    transport: &Transport,
    response: Response,
    limit: u64,
    time: Duration,
    context: &Context<'_>,
) -> Result<Option<Vec<u8>>, Failure> {
    check_encoding(response.headers(), context)?;
    if response.content_length().is_some_and(|length| length > limit) {
        return Ok(None);
    }
    let mut body = transport.body(response);
    let mut bytes = Vec::new();
    let reading = async {
        while let Some(chunk) = body.chunk().await.map_err(|broken| context.broken(broken))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > limit {
                return Ok(None);
            }
        }
        Ok::<_, Failure>(Some(()))
    };
    let slow =
        || context.broken(Broken::Stalled(format!("it did not come whole within {} s", time.as_secs())));
    let whole = tokio::time::timeout(time, reading).await.map_err(|_| slow())??;
    Ok(whole.map(|()| bytes))
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
