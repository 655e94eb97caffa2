//! The client: what all its operations share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::{Method, Request, Response};
use tokio::sync::{OnceCell, Semaphore};

use crate::auth::Auth;
use crate::call::{Call, once};
use crate::config::ClientConfig;
use crate::endpoint::Endpoint;
use crate::retry::{Failure, Tries};
use crate::transport::{About, Broken, Transport};
use crate::{RegistryError, Repository};

/// A client of registries. Clones share connections, tokens and limits.
///
/// Its futures can be dropped at any time: what was fetched of a blob stays for the next try, and nothing that
/// is not whole and checked gets a name. They need a tokio runtime with time and I/O.
#[derive(Clone)]
pub struct Client {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) transport: Arc<Transport>,
    pub(crate) auth: Arc<Auth>,
    pub(crate) downloads: Arc<Semaphore>,
    pub(crate) uploads: Arc<Semaphore>,
    /// Whether a host speaks plain http, where that had to be found out.
    plain: Arc<Mutex<HashMap<String, Arc<OnceCell<bool>>>>>,
}

impl Client {
    /// A client with these settings. Nothing is contacted or read yet.
    pub fn new(config: ClientConfig) -> Self {
        let config = Arc::new(config);
        let transport = Arc::new(Transport::new(config.clone()));
        Self {
            auth: Arc::new(Auth::new(config.clone(), transport.clone())),
            downloads: Arc::new(Semaphore::new(config.downloads.max(1))),
            uploads: Arc::new(Semaphore::new(config.uploads.max(1))),
            plain: Arc::default(),
            transport,
            config,
        }
    }

    /// Where the repository itself is.
    pub(crate) async fn endpoint(&self, repository: &Repository) -> Result<Endpoint, RegistryError> {
        Ok(self.decided(Endpoint::of(&self.config, repository)?).await)
    }

    /// The mirrors of a repository in their order, then where it is itself.
    pub(crate) async fn endpoints(&self, repository: &Repository) -> Result<Vec<Endpoint>, RegistryError> {
        let mut decided = Vec::new();
        for endpoint in Endpoint::all(&self.config, repository)? {
            decided.push(self.decided(endpoint).await);
        }
        Ok(decided)
    }

    /// Finds out, once for each host, what an insecure registry speaks: TLS if it can.
    pub(crate) async fn decided(&self, endpoint: Endpoint) -> Endpoint {
        if !endpoint.undecided {
            return endpoint;
        }
        let known = {
            let mut plain = self.plain.lock().unwrap_or_else(PoisonError::into_inner);
            plain.entry(endpoint.host()).or_default().clone()
        };
        match *known.get_or_init(|| self.is_plain(&endpoint)).await {
            true => endpoint.plain(),
            false => endpoint,
        }
    }

    /// True where nobody answers by TLS. Nothing about us is sent along.
    async fn is_plain(&self, endpoint: &Endpoint) -> bool {
        let answer =
            self.transport.send(Request::new(Method::GET, endpoint.api.clone()), About::default()).await;
        matches!(answer, Err(Broken::Tls(_) | Broken::Connect(_) | Broken::Cut(_)))
    }

    /// One try of a request.
    pub(crate) async fn once(&self, call: &Call<'_>) -> Result<Response, Failure> {
        once(&self.transport, &self.auth, call).await
    }

    /// A request whose answer is all in its head: tried until it succeeds or the tries are used up.
    pub(crate) async fn call(&self, call: &Call<'_>) -> Result<Response, RegistryError> {
        let mut tries = self.tries(call.context.endpoint);
        loop {
            match self.once(call).await {
                Ok(response) => return Ok(response),
                Err(failure) => tries.wait(failure).await?,
            }
        }
    }

    /// The tries that an endpoint gets.
    pub(crate) fn tries(&self, endpoint: &Endpoint) -> Tries<'_> {
        Tries::at(endpoint, &self.config.retry)
    }
}

/// True where another place may serve what this one did not.
pub(crate) fn falls_through(endpoint: &Endpoint, error: &RegistryError) -> bool {
    use crate::ErrorKind::{Cancelled, Settings, Store, Usage};
    endpoint.mirror.is_some() && !matches!(error.kind(), Cancelled | Settings | Store | Usage)
}

/// Runs work that waits for the disk or a lock where it holds nobody up.
pub(crate) async fn blocking<T, F>(object: &str, work: F) -> Result<T, RegistryError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, forge_store::StoreError> + Send + 'static,
{
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|_| RegistryError::Cancelled { object: object.to_owned() })??)
}
