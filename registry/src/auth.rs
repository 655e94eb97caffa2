//! Logging in, request by request: which header a request needs, and what to do about a 401.
//!
//! What a registry asked for once is remembered, so that later requests bring it unasked. Tokens are kept per set
//! of rights until they expire; when several requests need the same token, one of them fetches it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use tokio::sync::OnceCell;

use crate::address::Origin;
use crate::challenge::{self, Bearer, Challenge};
use crate::config::ClientConfig;
use crate::context::Context;
use crate::endpoint::Endpoint;
use crate::retry::{Failure, Tries};
use crate::token::{self, Token, TokenServer};
use crate::transport::Transport;
use crate::{Credential, RegistryError, Secret};

/// A challenge's own wish for rights is taken up to this length.
const SCOPE_CHARS: usize = 2048;

type Slot = Arc<Kept>;
type Known = Arc<OnceCell<Option<Credential>>>;

/// One set of rights: its token, and how asking for it went last.
struct Kept {
    token: tokio::sync::Mutex<Result<Option<Token>, RegistryError>>,
    /// How often it could not be had.
    failures: AtomicUsize,
}

impl Default for Kept {
    fn default() -> Self {
        Self { token: tokio::sync::Mutex::new(Ok(None)), failures: AtomicUsize::new(0) }
    }
}

/// The logins of one client.
pub struct Auth {
    config: Arc<ClientConfig>,
    transport: Arc<Transport>,
    ways: Mutex<HashMap<Origin, Way>>,
    tokens: Mutex<HashMap<(Origin, String), Slot>>,
    credentials: Mutex<HashMap<(String, String), Known>>,
    /// The last identity token that a token server gave.
    identity: Mutex<Option<Secret>>,
}

/// How a registry wants to be shown who we are.
#[derive(Clone)]
enum Way {
    Basic,
    Bearer(TokenServer),
}

impl Auth {
    pub fn new(config: Arc<ClientConfig>, transport: Arc<Transport>) -> Self {
        Self {
            config,
            transport,
            ways: Mutex::default(),
            tokens: Mutex::default(),
            credentials: Mutex::default(),
            identity: Mutex::default(),
        }
    }

    /// The identity token that came with a login, if one was wanted and given.
    pub fn identity(&self) -> Option<Secret> {
        lock(&self.identity).clone()
    }

    /// What an answer must not bring into a message: the header that was sent, and the secret behind it. Empty
    /// where nobody is logged in.
    pub async fn secrets(&self, endpoint: &Endpoint, sent: Option<&HeaderValue>) -> Vec<String> {
        let Ok(Some(credential)) = self.credential(endpoint).await else { return Vec::new() };
        let header = sent.and_then(|header| header.to_str().ok()).unwrap_or_default();
        let value = header.split_once(' ').map_or("", |(_, value)| value);
        let texts = [header, value, credential.secret()].map(str::to_owned);
        texts.into_iter().filter(|text| !text.is_empty()).collect()
    }

    /// The header that a request needs, as far as is known before it is sent.
    pub async fn ready(
        &self,
        context: &Context<'_>,
        scopes: &[String],
    ) -> Result<Option<HeaderValue>, Failure> {
        let way = lock(&self.ways).get(&Origin::of(&context.endpoint.api)).cloned();
        match way {
            None => Ok(None),
            Some(Way::Basic) => Ok(self.credential(context.endpoint).await?.as_ref().and_then(header_of)),
            Some(Way::Bearer(server)) => self.token(context, &server, scopes, &[], None).await.map(Some),
        }
    }

    /// The header that answers a 401; `used` is the one that was not enough.
    pub async fn answer(
        &self,
        context: &Context<'_>,
        scopes: &[String],
        headers: &HeaderMap,
        used: Option<&HeaderValue>,
    ) -> Result<HeaderValue, Failure> {
        let credential = self.credential(context.endpoint).await?;
        let (way, more) = choose(context, headers, credential.as_ref())?;
        lock(&self.ways).insert(Origin::of(&context.endpoint.api), way.clone());
        match way {
            Way::Bearer(server) => self.token(context, &server, scopes, &more, used).await,
            Way::Basic => match credential.as_ref().and_then(header_of) {
                Some(header) if Some(&header) == used => {
                    Err(context.unauthorized("the user name or the password is wrong").into())
                }
                Some(header) => Ok(header),
                None => Err(context.unauthorized("it asks for a user name and a password").into()),
            },
        }
    }

    /// A token for `scopes`, kept or fetched; not the one that was `used` and refused.
    ///
    /// Asking for it is a request with tries of its own: those who waited for the same token do not ask once more.
    async fn token(
        &self,
        context: &Context<'_>,
        server: &TokenServer,
        scopes: &[String],
        more: &[String],
        used: Option<&HeaderValue>,
    ) -> Result<HeaderValue, Failure> {
        let credential = self.credential(context.endpoint).await?;
        if let Some(Credential::Bearer(own)) = &credential {
            let header = token::bearer(own.expose());
            return header
                .filter(|header| Some(header) != used)
                .ok_or_else(|| context.unauthorized("the registry token is no longer good").into());
        }
        let key = (Origin::of(&context.endpoint.api), scopes.join(" "));
        let slot = lock(&self.tokens).entry(key).or_default().clone();
        let failures = slot.failures.load(Ordering::Acquire);
        let mut kept = slot.token.lock().await;
        match &*kept {
            Ok(Some(token)) if token.is_valid() && Some(&token.header) != used => {
                return Ok(token.header.clone());
            }
            Err(error) if slot.failures.load(Ordering::Acquire) > failures => {
                return Err(error.again().into());
            }
            _ => *kept = Ok(None),
        }
        let mut wanted = scopes.to_vec();
        wanted.extend(more.iter().filter(|scope| !names_one_of(scope, scopes)).cloned());
        let limit = self.config.timeouts.document;
        let identity = self.config.wants_identity;
        let mut tries = Tries::at(context.endpoint, &self.config.retry);
        let token = loop {
            let credential = credential.as_ref();
            match token::fetch(&self.transport, limit, context, server, &wanted, credential, identity).await {
                Ok(token) => break token,
                Err(failure) => {
                    if let Err(error) = tries.wait(failure).await {
                        slot.failures.fetch_add(1, Ordering::Release);
                        *kept = Err(error.again());
                        return Err(error.into());
                    }
                }
            }
        };
        if token.identity.is_some() {
            lock(&self.identity).clone_from(&token.identity);
        }
        let header = token.header.clone();
        *kept = Ok(Some(token));
        Ok(header)
    }

    /// Looks up, once, who we are for this repository.
    async fn credential(&self, endpoint: &Endpoint) -> Result<Option<Credential>, RegistryError> {
        let key = (endpoint.registry.clone(), endpoint.path.clone());
        let known = lock(&self.credentials).entry(key).or_default().clone();
        let lookup = || self.config.credentials.lookup(&endpoint.registry, &endpoint.path);
        known.get_or_try_init(lookup).await.cloned()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The header of a credential that is sent as it is.
fn header_of(credential: &Credential) -> Option<HeaderValue> {
    match credential {
        Credential::Basic { username, password } => Some(token::basic(username, password.expose())),
        Credential::Bearer(own) => token::bearer(own.expose()),
        Credential::Identity(_) => None,
    }
}

/// Picks the challenge to meet: a token if it can be had, else the password itself.
fn choose(
    context: &Context<'_>,
    headers: &HeaderMap,
    credential: Option<&Credential>,
) -> Result<(Way, Vec<String>), Failure> {
    let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let mut refusal = None;
    let mut basic = false;
    for challenge in challenge::parse(texts) {
        match challenge {
            Challenge::Basic => basic = true,
            Challenge::Bearer(bearer) => match token::check_realm(context.endpoint, &bearer.realm) {
                Ok(realm) => {
                    let more = extra_scopes(&bearer);
                    return Ok((Way::Bearer(TokenServer { realm, service: bearer.service }), more));
                }
                Err(reason) => refusal = refusal.or(Some(reason)),
            },
        }
    }
    if basic && (refusal.is_none() || credential.is_some()) {
        return Ok((Way::Basic, Vec::new()));
    }
    let reason = refusal.unwrap_or_else(|| "it asks for a login but offers no way that forge knows".into());
    Err(context.protocol(&reason).into())
}

/// The rights that the registry itself asks for, in case it names them otherwise than we do.
fn extra_scopes(bearer: &Bearer) -> Vec<String> {
    let scope = bearer.scope.as_deref().filter(|scope| scope.len() <= SCOPE_CHARS).unwrap_or_default();
    scope.split_whitespace().map(str::to_owned).collect()
}

/// True if the scope is about a resource that one of `scopes` is about.
fn names_one_of(scope: &str, scopes: &[String]) -> bool {
    let resource = |scope: &str| scope.rsplit_once(':').map(|(resource, _)| resource.to_owned());
    scopes.iter().any(|own| resource(own) == resource(scope))
}
