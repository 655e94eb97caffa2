//! Bytes to and from a host: connections, TLS, proxies and clocks. No retries, no logins, no redirects.
//!
//! TLS is set up when the first https host is met, not before: a machine without CA certificates can still use a
//! registry on loopback, and a build that pulls nothing reads no certificates.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Certificate, ClientBuilder, Identity, NoProxy, Proxy, Request, Response, Url};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep_until, timeout};

use crate::address::{host_of, is_loopback};
use crate::config::{ClientConfig, HostConfig};
use crate::handshake::{self, Refusal};
use crate::limits::{COMMITTED_PER_SECOND, MIN_BYTES_PER_IDLE_PERIOD};
use crate::reference::api_host;
use crate::text::clean;

/// How a connection failed.
#[derive(Debug)]
pub enum Broken {
    /// The other side could not prove who it is, or speaks no TLS that we do.
    Tls(String),
    /// The other side wants to see a certificate of ours, or not this one.
    Certificate(String),
    /// Nobody there.
    Connect(String),
    /// Cut in the middle.
    Cut(String),
    /// Silent, or nearly so.
    Stalled(String),
    /// Our own settings.
    Config(String),
}

/// The connections to all hosts.
pub struct Transport {
    config: Arc<ClientConfig>,
    /// By the host whose settings they have; `None` for the hosts without.
    clients: Mutex<HashMap<Kind, reqwest::Client>>,
    /// What hosts that broke off were found to want.
    refusals: Mutex<HashMap<String, Arc<OnceCell<Option<Refusal>>>>>,
}

/// What is known of a request beforehand.
#[derive(Clone, Copy, Default)]
pub struct About<'a> {
    /// The progress of its body, where it has one.
    pub pace: Option<&'a Pace>,
    /// Bytes that the other side hashes and moves before it answers.
    pub committed: u64,
    /// On a connection of its own. HTTP/2 would carry it on the one that is there.
    pub apart: bool,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Kind {
    Plain,
    Tls { host: Option<String>, apart: bool },
}

impl Transport {
    pub fn new(config: Arc<ClientConfig>) -> Self {
        Self { config, clients: Mutex::default(), refusals: Mutex::default() }
    }

    /// Sends one request and waits for the head of its answer.
    pub async fn send(&self, request: Request, about: About<'_>) -> Result<Response, Broken> {
        let client = self.client(request.url(), about.apart)?;
        let url = request.url().clone();
        let sending = client.execute(request);
        let idle = self.config.timeouts.idle;
        let work = Duration::from_secs(about.committed / COMMITTED_PER_SECOND);
        let patience = idle + work.min(self.config.timeouts.commit);
        let answer = match about.pace {
            None => timeout(patience, sending).await.map_err(|_| silent(patience))?,
            Some(pace) => pace.watch(sending, idle, patience).await?,
        };
        match answer {
            Ok(response) => Ok(response),
            Err(e) => Err(self.explained(&url, broken(&e)).await),
        }
    }

    /// A server that wants a certificate of ours and gets none breaks off like a bad network does, and no try helps:
    /// it is asked, once.
    async fn explained(&self, url: &Url, broken: Broken) -> Broken {
        let host = host_of(url);
        let (Broken::Cut(was) | Broken::Tls(was)) = &broken else { return broken };
        // Through a proxy, the handshake would have to be, too.
        let is_direct = self.config.proxies.https.is_none() || is_loopback(&host);
        if url.scheme() != "https" || !is_direct {
            return broken;
        }
        let known = {
            let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            refusals.entry(host).or_default().clone()
        };
        let identity = self.own(url).and_then(|(_, config)| config.identity.clone());
        let limit = self.config.timeouts.connect.min(self.config.timeouts.idle);
        match known.get_or_init(|| handshake::refusal(url, identity.as_deref(), limit)).await {
            Some(refusal) => Broken::Certificate(refusal.tell(was)),
            None => broken,
        }
    }

    /// The settings of a host that speak of TLS.
    fn own(&self, url: &Url) -> Option<(&String, &HostConfig)> {
        let host = host_of(url);
        self.config
            .hosts
            .iter()
            .find(|(name, config)| api_host(name).eq_ignore_ascii_case(&host) && config.speaks_of_tls())
    }

    /// The body of an answer.
    pub fn body(&self, response: Response) -> Body {
        Body { response, idle: self.config.timeouts.idle, waited: Duration::ZERO, got: 0 }
    }

    fn client(&self, url: &Url, apart: bool) -> Result<reqwest::Client, Broken> {
        let own = self.own(url);
        let kind = match (url.scheme(), own) {
            ("https", own) => Kind::Tls { host: own.map(|(name, _)| name.clone()), apart },
            _ => Kind::Plain,
        };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&kind) {
            return Ok(client.clone());
        }
        let builder = match kind {
            // No roots at all: this client must never be able to trust anyone.
            Kind::Plain => self.builder()?.tls_certs_only([]),
            Kind::Tls { .. } => self.with_tls(own.map(|(_, host_config)| host_config))?,
        };
        let builder = if apart { builder.http1_only() } else { builder };
        let client = builder.build().map_err(|e| Broken::Tls(no_roots(&deepest(&e))))?;
        clients.insert(kind, client.clone());
        Ok(client)
    }

    fn builder(&self) -> Result<ClientBuilder, Broken> {
        // rustls takes its cryptography from the process; whoever installed one first has chosen.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(&self.config.user_agent)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .connect_timeout(self.config.timeouts.connect)
            .http2_adaptive_window(true)
            .http2_max_header_list_size(64 << 10);
        let proxies = &self.config.proxies;
        // As in Go, and so in Docker: what is on this machine needs no proxy.
        let without = format!("localhost,127.0.0.0/8,::1,{}", proxies.no_proxy);
        let bare = || NoProxy::from_string(&without);
        let bad = |_| Broken::Config("the proxy's address is not a URL".into());
        if let Some(proxy) = &proxies.http {
            builder = builder.proxy(Proxy::http(proxy).map_err(bad)?.no_proxy(bare()));
        }
        if let Some(proxy) = &proxies.https {
            builder = builder.proxy(Proxy::https(proxy).map_err(bad)?.no_proxy(bare()));
        }
        Ok(builder)
    }

    fn with_tls(&self, host: Option<&HostConfig>) -> Result<ClientBuilder, Broken> {
        let bad =
            |what: &'static str| move |e: reqwest::Error| Broken::Config(format!("{what}: {}", deepest(&e)));
        let mut builder = self.builder()?;
        let own = host.map_or(&[][..], |host| &host.ca_certificates);
        for pem in self.config.ca_certificates.iter().chain(own) {
            let certificates =
                Certificate::from_pem_bundle(pem).map_err(bad("the CA certificates are not PEM"))?;
            if certificates.is_empty() {
                return Err(Broken::Config("there is no PEM certificate among the CA certificates".into()));
            }
            builder = builder.tls_certs_merge(certificates);
        }
        let Some(host) = host else { return Ok(builder) };
        if let Some(pem) = &host.identity {
            builder =
                builder.identity(Identity::from_pem(pem).map_err(bad("the client certificate is not PEM"))?);
        }
        Ok(builder.tls_danger_accept_invalid_certs(host.takes_any_certificate()))
    }
}

/// How far a request's body has got: it is what tells a slow upload from a dead one.
pub struct Pace {
    begun: Instant,
    moved_ms: AtomicU64,
    complete: AtomicBool,
}

impl Pace {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            begun: Instant::now(),
            moved_ms: AtomicU64::new(0),
            complete: AtomicBool::new(false),
        })
    }

    /// Something was taken from the body.
    pub fn moved(&self) {
        let since = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_ms.store(since, Ordering::Relaxed);
    }

    /// The body was taken whole.
    pub fn complete(&self) {
        self.moved();
        self.complete.store(true, Ordering::Relaxed);
    }

    async fn watch<F: Future>(&self, work: F, idle: Duration, commit: Duration) -> Result<F::Output, Broken> {
        tokio::pin!(work);
        loop {
            let wait = if self.complete.load(Ordering::Relaxed) { commit } else { idle };
            let deadline = self.begun + Duration::from_millis(self.moved_ms.load(Ordering::Relaxed)) + wait;
            if deadline <= Instant::now() {
                return Err(silent(wait));
            }
            tokio::select! {
                done = &mut work => return Ok(done),
                () = sleep_until(deadline) => {}
            }
        }
    }
}

/// The body of an answer, read under the clock.
pub struct Body {
    response: Response,
    idle: Duration,
    /// Time spent waiting for the network, and bytes that came, in this period.
    waited: Duration,
    got: u64,
}

impl Body {
    /// The next bytes; `None` at the end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Broken> {
        let begun = Instant::now();
        let chunk = timeout(self.idle, self.response.chunk()).await.map_err(|_| silent(self.idle))?;
        let chunk = chunk.map_err(|e| broken(&e))?;
        self.waited += begun.elapsed();
        self.got += chunk.as_ref().map_or(0, |bytes| bytes.len() as u64);
        if self.waited >= self.idle {
            if self.got < MIN_BYTES_PER_IDLE_PERIOD {
                let (got, seconds) = (self.got, self.waited.as_secs());
                return Err(Broken::Stalled(format!("only {got} bytes came in {seconds} s")));
            }
            (self.waited, self.got) = (Duration::ZERO, 0);
        }
        Ok(chunk)
    }
}

fn silent(after: Duration) -> Broken {
    Broken::Stalled(format!("nothing came for {:.3} s", after.as_secs_f64()))
}

fn broken(error: &reqwest::Error) -> Broken {
    let cause = deepest(error);
    if is_tls(error) {
        return Broken::Tls(cause);
    }
    if error.is_timeout() && error.is_connect() {
        return Broken::Connect("no connection in time".into());
    }
    if error.is_connect() { Broken::Connect(cause) } else { Broken::Cut(cause) }
}

/// The innermost message: the outer ones repeat the URL, which may hold a signature.
fn deepest(error: &reqwest::Error) -> String {
    let mut message = String::from("the request failed");
    let mut source = error.source();
    while let Some(inner) = source {
        message = inner.to_string();
        source = inner.source();
    }
    clean(&message)
}

/// Looks for rustls' error, which the layers between wrap as I/O errors in one another.
fn is_tls(error: &(dyn Error + 'static)) -> bool {
    if error.is::<rustls::Error>() {
        return true;
    }
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    wrapped.is_some_and(|inner| is_tls(inner)) || error.source().is_some_and(is_tls)
}

fn no_roots(cause: &str) -> String {
    format!("TLS could not be set up ({cause}); install ca-certificates")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_upload_that_moves_is_not_idle() {
        let pace = Pace::new();
        let (idle, commit) = (Duration::from_secs(30), Duration::from_secs(300));
        let slow = async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(20)).await;
                pace.moved();
            }
            pace.complete();
            tokio::time::sleep(Duration::from_secs(299)).await;
        };
        assert!(pace.watch(slow, idle, commit).await.is_ok());
        let pace = Pace::new();
        let begun = Instant::now();
        let dead = std::future::pending::<()>();
        assert!(matches!(pace.watch(dead, idle, commit).await, Err(Broken::Stalled(_))));
        assert_eq!(begun.elapsed().as_secs(), 30);
    }
}
