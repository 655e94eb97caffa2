//! The registry client, made when something first needs the network, and asked from ordinary threads.

use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use forge_registry::{
    AuthFile, Client, ClientConfig, Credential, Credentials, Download, Helpers, Progress, Proxies,
    PulledImage, PushAhead, PushOptions, Reference, RegistryError, Repository, Wanted,
};
use forge_solver::{Event, Events, StepId};
use forge_store::{Blobs, Descriptor, Digest, Platform, StoreError};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;

use crate::args::RegistryFlags;
use crate::environment;
use crate::failure::{Failure, Kind};
use crate::progress::say;

/// Registries, as the user set them up.
pub struct Registries {
    insecure: Vec<String>,
    ca: Vec<PathBuf>,
    stopped: watch::Sender<bool>,
    made: OnceLock<Result<Made, RegistryError>>,
}

struct Made {
    runtime: Runtime,
    client: Client,
}

impl Registries {
    /// Reads nothing yet.
    pub fn new(flags: &RegistryFlags) -> Self {
        Self {
            insecure: flags.insecure.clone(),
            ca: flags.ca.clone(),
            stopped: watch::Sender::new(false),
            made: OnceLock::new(),
        }
    }

    fn made(&self) -> Result<&Made, RegistryError> {
        let made = self.made.get_or_init(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            let client = Client::new(self.config()?);
            Ok(Made { runtime: runtime.map_err(|e| own_fault(e.to_string()))?, client })
        });
        made.as_ref().map_err(RegistryError::again)
    }

    fn config(&self) -> Result<ClientConfig, RegistryError> {
        let mut config =
            ClientConfig { credentials: credentials()?, proxies: proxies(), ..ClientConfig::default() };
        environment::registry_settings().apply(&mut config)?;
        for path in &self.ca {
            let pem = std::fs::read(path)
                .map_err(|e| own_fault(format!("cannot read the certificates {}: {e}", path.display())))?;
            config.ca_certificates.push(pem);
        }
        for host in &self.insecure {
            let host = config.hosts.entry(host.clone()).or_default();
            host.insecure = true;
            host.trust_private_addresses = true;
        }
        Ok(config)
    }

    fn ask<'a, T, F: Future<Output = Result<T, RegistryError>>>(
        &'a self,
        question: impl FnOnce(&'a Client) -> F,
    ) -> Result<T, RegistryError> {
        let made = self.made()?;
        let mut stopped = self.stopped.subscribe();
        made.runtime.block_on(async {
            tokio::select! {
                answer = question(&made.client) => answer,
                _ = stopped.wait_for(|stopped| *stopped) => {
                    Err(RegistryError::Cancelled { object: "what the build asked for".into() })
                }
            }
        })
    }

    /// Ends every question that is under way, and those to come.
    pub fn stop(&self) {
        self.stopped.send_replace(true);
    }

    /// Gets ready to send blobs to a repository before their image is whole, and tells what runs that.
    pub fn push_ahead(
        &self,
        repository: Repository,
        blobs: &Blobs,
        progress: Arc<dyn Progress>,
    ) -> Result<(PushAhead, Handle), RegistryError> {
        let made = self.made()?;
        let ahead = made.client.push_ahead(repository, blobs.clone(), progress);
        Ok((ahead, made.runtime.handle().clone()))
    }

    /// Fetches an image's documents into the store.
    pub fn fetch_image(
        &self,
        reference: &Reference,
        platform: &Platform,
        blobs: &Blobs,
    ) -> Result<PulledImage, RegistryError> {
        self.ask(|client| client.fetch_image(reference, platform, blobs))
    }

    /// Fetches a file at a URL into the store.
    pub fn download(&self, wanted: &Wanted, blobs: &Blobs) -> Result<Download, RegistryError> {
        self.ask(|client| async move { client.download(wanted, blobs, &|_, _| ()).await })
    }

    /// Fetches layers into the store.
    pub fn fetch_blobs(
        &self,
        reference: &Reference,
        descriptors: &[Descriptor],
        blobs: &Blobs,
        progress: Arc<dyn Progress>,
    ) -> Result<(), RegistryError> {
        self.ask(|client| async move {
            client.fetch_blobs(reference.repository(), descriptors, blobs, &progress).await
        })
    }

    /// Pushes an image from the store.
    pub fn push(
        &self,
        target: &Reference,
        root: &Descriptor,
        blobs: &Blobs,
        progress: Arc<dyn Progress>,
    ) -> Result<Descriptor, RegistryError> {
        self.push_from(target, root, blobs, None, progress)
    }

    /// Pushes an image whose blobs may be in a repository, and not here.
    pub fn push_from(
        &self,
        target: &Reference,
        root: &Descriptor,
        blobs: &Blobs,
        from: Option<Repository>,
        progress: Arc<dyn Progress>,
    ) -> Result<Descriptor, RegistryError> {
        let options = PushOptions { mount_from: from.into_iter().collect(), ..PushOptions::default() };
        self.ask(|client| async move { client.push(target, root, blobs, &options, &progress).await })
    }

    /// Fetches all documents below a name, or those for one platform.
    pub fn fetch_documents(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
        blobs: &Blobs,
    ) -> Result<Descriptor, RegistryError> {
        self.ask(|client| client.fetch_documents(reference, platform, blobs))
    }

    /// Fetches blobs from a repository.
    pub fn fetch_from(
        &self,
        repository: &Repository,
        descriptors: &[Descriptor],
        blobs: &Blobs,
        progress: Arc<dyn Progress>,
    ) -> Result<(), RegistryError> {
        if descriptors.is_empty() {
            return Ok(());
        }
        self.ask(|client| async move { client.fetch_blobs(repository, descriptors, blobs, &progress).await })
    }

    /// Fetches blobs from where the store remembers them to be.
    pub fn fetch_remembered(
        &self,
        descriptors: &[Descriptor],
        blobs: &Blobs,
        progress: Arc<dyn Progress>,
    ) -> Result<(), RegistryError> {
        for descriptor in descriptors {
            let mut last = Err(RegistryError::Store(StoreError::MissingBlob(descriptor.digest)));
            for source in blobs.sources(&descriptor.digest)?.iter().filter_map(|name| name.parse().ok()) {
                last = self.fetch_from(&source, std::slice::from_ref(descriptor), blobs, progress.clone());
                if last.is_ok() {
                    break;
                }
            }
            last?;
        }
        Ok(())
    }
}

/// Says how blobs travel, as events of a step.
pub struct Travelling<E> {
    step: StepId,
    events: E,
    done: Mutex<std::collections::HashMap<Digest, (u64, u64)>>,
}

impl<E: Events> Travelling<E> {
    /// Progress for `step`.
    pub fn new(step: StepId, events: E) -> Self {
        Self { step, events, done: Mutex::default() }
    }

    fn update(&self, digest: &Digest, edit: impl FnOnce(&mut (u64, u64))) {
        let (done, total) = {
            let mut all = self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let entry = all.entry(*digest).or_default();
            edit(entry);
            *entry
        };
        let item = digest.short();
        self.events.emit(Event::Progress { step: self.step, item, done, total: Some(total) });
    }
}

impl<E: Events + Send + Sync> Progress for Travelling<E> {
    fn on_start(&self, digest: &Digest, total: u64, offset: u64) {
        self.update(digest, |entry| *entry = (offset, total));
    }
    fn on_bytes(&self, digest: &Digest, delta: u64) {
        self.update(digest, |entry| entry.0 += delta);
    }
    fn on_rewind(&self, digest: &Digest, offset: u64) {
        self.update(digest, |entry| entry.0 = offset);
    }
}

/// Reads a name of an image.
pub fn parse_reference(text: &str) -> Result<Reference, Failure> {
    text.parse().map_err(|e| Failure::new(Kind::Usage, format!("invalid reference format: {e}"), None))
}

/// Something is wrong on this side, before any registry was asked.
fn own_fault(detail: String) -> RegistryError {
    RegistryError::Config { host: "registries".into(), detail }
}

fn credentials() -> Result<Credentials, RegistryError> {
    let mut credentials = Credentials::default().with_helpers(helpers());
    for path in environment::auth_files() {
        if let Some(file) = AuthFile::read(&path)? {
            if file.is_exposed() {
                let shown = path.display();
                say(&format!("warning: others may read the logins in {shown}; run `chmod 600 {shown}`"));
            }
            credentials = credentials.with_file(file);
        }
    }
    Ok(credentials)
}

/// How credential helpers are found and run.
pub fn helpers() -> Helpers {
    let path = environment::search_path();
    Helpers {
        search: std::env::split_paths(&path).collect(),
        environment: environment::for_helpers(),
        ..Helpers::default()
    }
}

fn proxies() -> Proxies {
    let set = environment::proxies();
    let get = |names: [&str; 2]| names.iter().find_map(|name| set.get(*name)).cloned();
    let all = get(["ALL_PROXY", "all_proxy"]);
    Proxies {
        http: get(["HTTP_PROXY", "http_proxy"]).or_else(|| all.clone()),
        https: get(["HTTPS_PROXY", "https_proxy"]).or(all),
        no_proxy: get(["NO_PROXY", "no_proxy"]).unwrap_or_default(),
    }
}

/// The registry that a text names: without what Docker's users write around it.
pub fn registry_name(text: &str) -> String {
    let bare = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    match bare.split('/').next().unwrap_or_default() {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => "docker.io".to_owned(),
        host => host.to_owned(),
    }
}

/// Asks the registry whether it takes what is kept for it; false where nothing is.
pub fn check_kept_login(registry: &str, flags: &RegistryFlags) -> Result<bool, Failure> {
    let config = Registries::new(flags).config()?;
    let runtime = single_threaded()?;
    if runtime.block_on(config.credentials.lookup(registry, ""))?.is_none() {
        return Ok(false);
    }
    // What is kept may be out of date: then the user is asked.
    Ok(runtime.block_on(Client::new(config).check_login(registry)).is_ok())
}

/// Logs in: asks the registry, then keeps the credentials where Docker keeps them. Says where that is.
pub fn login(
    registry: &str,
    username: &str,
    password: &str,
    flags: &RegistryFlags,
) -> Result<String, Failure> {
    let mut credential = Credential::basic(username, password);
    let mut config = Registries::new(flags).config()?;
    config.credentials = Credentials::default().with(registry, credential.clone());
    config.wants_identity = true;
    let runtime = single_threaded()?;
    if let Some(identity) = runtime.block_on(Client::new(config).check_login(registry))? {
        credential = Credential::Identity(identity);
    }
    let path = environment::auth_files().into_iter().next().ok_or_else(|| {
        Failure::new(Kind::Usage, "there is no HOME to keep credentials in", Some("set DOCKER_CONFIG".into()))
    })?;
    let file = AuthFile::read(&path)?;
    if let Some(helper) = file.as_ref().and_then(|file| file.helper_for(registry)) {
        let kept = runtime.block_on(helpers().store(helper, registry, &credential));
        kept.map_err(RegistryError::from)?;
        return Ok(format!("credentials are kept by docker-credential-{helper}"));
    }
    AuthFile::store(&path, registry, &credential)?;
    Ok(format!("credentials are kept in {}", path.display()))
}

/// Forgets credentials; false if there were none.
pub fn logout(registry: &str) -> Result<bool, Failure> {
    let mut found = false;
    for path in environment::auth_files() {
        let Some(file) = AuthFile::read(&path)? else { continue };
        if let Some(helper) = file.helper_for(registry) {
            let runtime = single_threaded()?;
            let had = runtime.block_on(helpers().get(helper, registry)).map_err(RegistryError::from)?;
            runtime.block_on(helpers().erase(helper, registry)).map_err(RegistryError::from)?;
            found |= had.is_some();
        }
        found |= AuthFile::erase(&path, registry)?;
    }
    Ok(found)
}

fn single_threaded() -> Result<Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Failure::new(Kind::System, format!("cannot start: {e}"), None))
}
