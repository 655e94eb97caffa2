//! Why a TLS server breaks off: whether it wants to see a certificate of ours.
//!
//! In TLS 1.3 the server judges the client's certificate after the client has begun to send. Its alert then often
//! arrives behind a reset, or never, and what is left looks like a bad network. So whoever broke off is met once
//! more, and nothing is sent after the handshake: then the alert can be read. Nothing that this connection says is
//! believed but the alert, so nobody has to prove who he is; and nothing about us is sent but the certificate that
//! was meant for this host anyway.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Url;
use rustls::client::ResolvesClientCert;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, Error, SignatureScheme};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::address::host_of;
use crate::tls::{Anyone, chain_and_key};

/// What a server was found to want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A certificate, and we have none for it.
    NoCertificate,
    /// Another certificate than ours.
    OurCertificate(String),
}

impl Refusal {
    /// The same for people; `was` is what the connection looked like before.
    pub fn tell(&self, was: &str) -> String {
        match self {
            Self::NoCertificate => format!("it wants a client certificate, and there is none for it ({was})"),
            Self::OurCertificate(alert) => format!("it refuses the client certificate: {alert}"),
        }
    }
}

/// Meets the host of `url` once more; nothing where our certificate is not the reason, or the host cannot be met.
pub async fn refusal(url: &Url, identity: Option<&[u8]>, limit: Duration) -> Option<Refusal> {
    timeout(limit, meet(url, identity)).await.ok().flatten()
}

async fn meet(url: &Url, identity: Option<&[u8]>) -> Option<Refusal> {
    let provider = Arc::new(ring::default_provider());
    let own = identity.and_then(|pem| certified(pem, &provider)).map(Arc::new);
    let has_own = own.is_some();
    let asked = Arc::new(Asked { asked: AtomicBool::new(false), own });
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .ok()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_client_cert_resolver(asked.clone());
    let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_owned();
    let stream = TcpStream::connect((host.as_str(), url.port_or_known_default()?)).await.ok()?;
    let name = ServerName::try_from(host).ok()?;
    let ended = match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
        Err(e) => Some(e),
        // A server that is content waits for a request, longer than we wait for it.
        Ok(mut stream) => stream.read_u8().await.err(),
    };
    let alert = ended.as_ref().and_then(alert_of);
    match (asked.asked.load(Ordering::Relaxed), has_own, ended.is_some()) {
        (true, false, true) => Some(Refusal::NoCertificate),
        (true, true, true) => {
            alert.map(|alert| Refusal::OurCertificate(format!("{alert} ({})", host_of(url))))
        }
        _ => None,
    }
}

/// What the server said before it broke off.
fn alert_of(error: &io::Error) -> Option<String> {
    match error.get_ref()?.downcast_ref::<Error>()? {
        Error::AlertReceived(alert) => Some(format!("{alert:?}")),
        _ => None,
    }
}

fn certified(pem: &[u8], provider: &CryptoProvider) -> Option<CertifiedKey> {
    let (chain, key) = chain_and_key(pem).ok()?;
    CertifiedKey::from_der(chain, key, provider).ok()
}

/// Notes whether the server asks for a certificate.
#[derive(Debug)]
struct Asked {
    asked: AtomicBool,
    own: Option<Arc<CertifiedKey>>,
}

impl ResolvesClientCert for Asked {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.own.clone()
    }

    fn has_certs(&self) -> bool {
        true
    }
}
