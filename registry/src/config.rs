//! Settings of a client. The caller reads files, flags and the environment; this room only obeys.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::{Credentials, Secret};

/// Everything a [`crate::Client`] needs to know. `ClientConfig::default()` talks to public registries,
/// anonymously, with the system's CA certificates.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `User-Agent`.
    pub user_agent: String,
    /// Settings for single registries or mirrors, by host and port as references name them (`docker.io`,
    /// `localhost:5000`).
    pub hosts: BTreeMap<String, HostConfig>,
    /// Where repositories are served, and where not; the longest prefix counts, the first among equals.
    pub routes: Vec<Route>,
    /// CA certificates for all hosts, PEM, besides the system's.
    pub ca_certificates: Vec<Vec<u8>>,
    /// Who we are, to whom.
    pub credentials: Credentials,
    /// Ask token servers for an identity token, too: `login` keeps it in the password's place.
    pub wants_identity: bool,
    /// Proxies.
    pub proxies: Proxies,
    /// How often and when to try again.
    pub retry: RetryPolicy,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// How many blobs are fetched at once.
    pub downloads: usize,
    /// How many blobs are sent at once.
    pub uploads: usize,
    /// How many bytes of a large blob are asked for at once, by connections of their own; 0 asks by one request.
    pub segment_bytes: u64,
    /// How many bytes of a blob go into one upload request. At most this much is sent again after a failure.
    pub chunk_bytes: u64,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            user_agent: concat!("forge/", env!("CARGO_PKG_VERSION")).into(),
            hosts: BTreeMap::new(),
            routes: Vec::new(),
            ca_certificates: Vec::new(),
            credentials: Credentials::default(),
            wants_identity: false,
            proxies: Proxies::default(),
            retry: RetryPolicy::default(),
            timeouts: Timeouts::default(),
            downloads: 6,
            uploads: 6,
            segment_bytes: 8 << 20,
            chunk_bytes: 16 << 20,
        }
    }
}

/// Settings for one host.
#[derive(Clone, Default)]
pub struct HostConfig {
    /// Speak http (`Some(true)`) or https (`Some(false)`). By default http to literal loopback hosts for which
    /// no certificates are set, and https to everyone else.
    pub plain_http: Option<bool>,
    /// CA certificates for this host, PEM, besides the system's.
    pub ca_certificates: Vec<Vec<u8>>,
    /// A client certificate and its key, PEM.
    pub identity: Option<Vec<u8>>,
    /// Take any certificate. Whoever sits between can then read and change everything but blobs.
    pub skip_tls_verify: bool,
    /// Speak TLS without checking who answers, and plain http where there is no TLS: what Docker and podman
    /// call an insecure registry.
    pub insecure: bool,
    /// Follow this registry's redirects and token realms to private addresses.
    pub trust_private_addresses: bool,
    /// Headers that every request to this host carries, and none to another.
    pub headers: Vec<(String, Secret)>,
    /// Why the settings of this host cannot be used; whoever uses the host gets to know.
    pub broken: Option<String>,
}

impl HostConfig {
    /// True where certificates or their checking are set: then TLS is meant.
    pub(crate) fn speaks_of_tls(&self) -> bool {
        !self.ca_certificates.is_empty() || self.identity.is_some() || self.takes_any_certificate()
    }
}

impl HostConfig {
    /// True where nobody has to prove who they are.
    pub(crate) fn takes_any_certificate(&self) -> bool {
        self.skip_tls_verify || self.insecure
    }
}

/// Leaves the client's key out.
impl fmt::Debug for HostConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostConfig")
            .field("plain_http", &self.plain_http)
            .field("ca_certificates", &self.ca_certificates.len())
            .field("identity", &self.identity.is_some())
            .field("skip_tls_verify", &self.skip_tls_verify)
            .field("insecure", &self.insecure)
            .field("trust_private_addresses", &self.trust_private_addresses)
            .field("headers", &self.headers)
            .field("broken", &self.broken)
            .finish()
    }
}

/// What is done with the repositories below a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// The name: `docker.io`, `example.com/team`, `*.example.com` for all hosts below it, or empty for all.
    pub prefix: String,
    /// Where they are, instead of where their name says. It takes the place of the prefix:
    /// `host[:port][/path]`, or the URL of an API's root, `https://host/path/v2`.
    pub location: Option<String>,
    /// Who to ask first when pulling, in this order.
    pub mirrors: Vec<Mirror>,
    /// Nothing is fetched from there or sent there; says by whose order, for the message.
    pub blocked: Option<String>,
}

/// A mirror of a registry, asked before it.
///
/// Whatever goes wrong with a mirror (it lacks the image, refuses, fails, is not there, sends wrong bytes), the
/// next one is asked and the registry itself last; its answer is the one that counts and is reported. Mirrors
/// get two tries a request, their own credentials and never the registry's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// What takes the place of the route's prefix: host and port, and a path before the repository's if there is
    /// one (`mirror.example/hub`); or the URL of an API's root (`https://mirror.example/hub/v2`).
    pub location: String,
    /// Ask it what a tag means, too. Without this, it only serves what a digest names, so that it cannot answer
    /// with an image of its own choice.
    pub resolves_tags: bool,
}

/// Proxies, each a URL such as `http://user:password@proxy.example:3128`.
#[derive(Clone, Default)]
pub struct Proxies {
    /// For http.
    pub http: Option<String>,
    /// For https.
    pub https: Option<String>,
    /// Hosts that are reached without proxy, as `NO_PROXY` lists them; loopback is one of them anyway.
    pub no_proxy: String,
}

/// Leaves the URLs out: they may hold passwords.
impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxies")
            .field("http", &self.http.is_some())
            .field("https", &self.https.is_some())
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

/// How often and when to try again.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// Tries for one request, the first included.
    pub tries: u32,
    /// Tries where nobody answers at all.
    pub connect_tries: u32,
    /// The wait after the first failure; it doubles with each.
    pub base: Duration,
    /// The longest such wait.
    pub cap: Duration,
    /// The longest `Retry-After` that is waited for.
    pub retry_after_cap: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            tries: 6,
            connect_tries: 3,
            base: Duration::from_millis(500),
            cap: Duration::from_secs(30),
            retry_after_cap: Duration::from_secs(120),
        }
    }
}

/// How long to wait for what.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// Without a byte in either direction. A body must also bring
    /// [`crate::limits::MIN_BYTES_PER_IDLE_PERIOD`] in each such period.
    pub idle: Duration,
    /// On top of `idle`, at the most, for the answer to the end of an upload: registries hash and move the blob
    /// meanwhile. Small blobs get less ([`crate::limits::COMMITTED_PER_SECOND`]).
    pub commit: Duration,
    /// For a whole manifest, token or list.
    pub document: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            commit: Duration::from_secs(300),
            document: Duration::from_secs(120),
        }
    }
}
