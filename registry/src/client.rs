//! The client: what all its operations share.

use std::sync::Arc;

use reqwest::Response;
use tokio::sync::Semaphore;

use crate::RegistryError;
use crate::auth::Auth;
use crate::call::{Call, once};
use crate::config::ClientConfig;
use crate::endpoint::Endpoint;
use crate::retry::{Failure, Tries};
use crate::transport::Transport;

/// How often a mirror is tried for one request.
const MIRROR_TRIES: u32 = 2;

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
            transport,
            config,
        }
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
        let tries = Tries::new(&self.config.retry);
        if endpoint.mirror.is_some() { tries.at_most(MIRROR_TRIES) } else { tries }
    }
}

/// True where another place may serve what this one did not.
pub(crate) fn falls_through(endpoint: &Endpoint, error: &RegistryError) -> bool {
    use crate::ErrorKind::{Cancelled, Store, Usage};
    endpoint.mirror.is_some() && !matches!(error.kind(), Cancelled | Store | Usage)
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
