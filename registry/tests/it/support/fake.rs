//! A registry in memory that misbehaves as a test tells it to.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use forge_store::Digest;
use tokio_rustls::TlsAcceptor;

use super::http::{Handler, Reply, Request, Server, Trouble};
use super::image::TestImage;

/// What a test does to a request.
#[derive(Clone, Debug, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// This answer instead; the registry does not see the request.
    Instead(Reply),
    /// The registry's own answer, with trouble.
    With(Trouble),
    /// The registry's own answer, with a bit of its body flipped.
    Flip(usize),
    /// The registry's own answer, with another body.
    Body(Vec<u8>),
    /// The request's body breaks off after so many bytes; the registry keeps what came.
    Tear(usize),
    /// The registry acts, but its answer is lost.
    Lost,
}

type Plan = dyn Fn(&Request, usize) -> Fault + Send + Sync;

/// The registry.
pub struct Fake {
    pub server: Server,
    core: Arc<Core>,
}

struct Core {
    state: Mutex<State>,
    /// Decides about each request, given its number.
    plan: Mutex<Arc<Plan>>,
    /// `Bearer …` or `Basic …` that requests must bring, and the challenge where they do not.
    guard: Mutex<Option<Guard>>,
}

type Guard = Arc<dyn Fn(&Request) -> Option<Reply> + Send + Sync>;

#[derive(Default)]
pub struct State {
    /// By repository and digest.
    pub blobs: HashMap<(String, Digest), Vec<u8>>,
    /// By repository and tag or digest: media type and bytes.
    pub manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    pub uploads: HashMap<u64, Vec<u8>>,
    /// Upload sessions that were opened.
    pub sessions: u64,
    /// `METHOD path` of each request.
    pub log: Vec<Request>,
    /// Bytes of blobs that came in requests.
    pub received: u64,
    /// Bytes of blobs that went out in answers.
    pub sent: u64,
    /// Takes no mounts.
    pub no_mounts: bool,
    /// Ignores `Range`.
    pub no_ranges: bool,
    /// Names upload sessions relative to where they were opened.
    pub relative_uploads: bool,
    /// Says no digest in answers to HEAD.
    pub no_digests: bool,
    planned: Vec<Option<Fault>>,
}

impl Fake {
    pub async fn start() -> Self {
        let core = Arc::new(Core::new());
        Self { server: Server::start(core.clone()).await, core }
    }

    /// By TLS; the first `deaf` connections get no answer.
    pub async fn start_tls(acceptor: TlsAcceptor, deaf: usize) -> Self {
        let core = Arc::new(Core::new());
        Self { server: Server::start_tls(core.clone(), acceptor, deaf).await, core }
    }

    pub fn host(&self) -> String {
        self.server.host()
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.core.state.lock().unwrap()
    }

    /// From now on, `plan` decides about each request; it also gets the number of requests before.
    pub fn plan(&self, plan: impl Fn(&Request, usize) -> Fault + Send + Sync + 'static) {
        *self.core.plan.lock().unwrap() = Arc::new(plan);
    }

    /// From now on, requests for which `guard` has an answer do not pass.
    pub fn guard(&self, guard: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) {
        *self.core.guard.lock().unwrap() = Some(Arc::new(guard));
    }

    /// Holds an image under a tag and its digest.
    pub fn hold(&self, repository: &str, tag: &str, image: &TestImage) {
        let kind = image.root.media_type.to_string();
        self.hold_manifest(repository, tag, &kind, &image.manifest_bytes);
        let mut state = self.state();
        for bytes in image.layers.iter().chain([&image.config_bytes]) {
            state.blobs.insert((repository.into(), Digest::of(bytes)), bytes.clone());
        }
    }

    pub fn hold_manifest(&self, repository: &str, tag: &str, kind: &str, bytes: &[u8]) {
        let mut state = self.state();
        let value = (kind.to_owned(), bytes.to_vec());
        state.manifests.insert((repository.into(), tag.into()), value.clone());
        state.manifests.insert((repository.into(), Digest::of(bytes).to_string()), value);
    }

    pub fn hold_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.state().blobs.insert((repository.into(), digest), bytes.to_vec());
        digest
    }

    /// How many requests of this method touched a path with `part` in it.
    pub fn count(&self, method: &str, part: &str) -> usize {
        self.state().log.iter().filter(|r| r.method == method && r.path.contains(part)).count()
    }

    pub fn has(&self, repository: &str, image: &TestImage) -> bool {
        let state = self.state();
        let has = |bytes: &Vec<u8>| state.blobs.get(&(repository.into(), Digest::of(bytes))) == Some(bytes);
        image.layers.iter().all(has) && has(&image.config_bytes)
    }
}

impl Core {
    fn new() -> Self {
        let none: Arc<Plan> = Arc::new(|_, _| Fault::None);
        Self { state: Mutex::default(), plan: Mutex::new(none), guard: Mutex::default() }
    }
}

impl Handler for Core {
    fn refuse(&self, head: &Request) -> Option<Reply> {
        let guard = self.guard.lock().unwrap().clone();
        let reply = guard.and_then(|guard| guard(head));
        if reply.is_some() {
            self.state.lock().unwrap().log.push(head.clone());
        }
        reply
    }

    fn tear(&self, head: &Request) -> Option<usize> {
        let number = self.state.lock().unwrap().log.len();
        let plan = self.plan.lock().unwrap().clone();
        let fault = plan(head, number);
        let tear = if let Fault::Tear(n) = fault { Some(n) } else { None };
        let mut state = self.state.lock().unwrap();
        state.log.push(head.clone());
        let at = state.log.len();
        state.planned.resize(at, None);
        state.planned[at - 1] = Some(fault);
        tear
    }

    fn answer(&self, request: Request) -> Reply {
        let mut state = self.state.lock().unwrap();
        // The newest entry of the log that is this request: bodies may arrive in another order than heads.
        let at = state.log.iter().rposition(|own| {
            own.method == request.method
                && own.path == request.path
                && own.query == request.query
                && own.headers == request.headers
        });
        let fault = at.and_then(|at| state.planned.get_mut(at).and_then(Option::take)).unwrap_or_default();
        if let Fault::Instead(reply) = fault {
            return reply;
        }
        let reply = state.act(&request);
        match fault {
            Fault::With(trouble) => reply.trouble(trouble),
            Fault::Lost => reply.trouble(Trouble::Hangup),
            Fault::Body(body) => reply.body(body),
            Fault::Flip(at) => {
                let mut reply = reply;
                let length = reply.body.len().max(1);
                if let Some(byte) = reply.body.get_mut(at % length) {
                    *byte ^= 1;
                }
                reply
            }
            _ => reply,
        }
    }
}

fn error(status: u16, code: &str) -> Reply {
    let body = format!(
        r#"{{"errors":[{{"code":"{code}","message":"{}"}}]}}"#,
        code.to_lowercase().replace('_', " ")
    );
    Reply::new(status).header("content-type", "application/json").body(body)
}

impl State {
    fn act(&mut self, request: &Request) -> Reply {
        let path = request.path.trim_start_matches("/v2/");
        if path.is_empty() {
            return Reply::new(200);
        }
        if let Some((repository, id)) = path.split_once("/blobs/uploads/") {
            return self.upload(repository, id, request);
        }
        if let Some((repository, digest)) = path.split_once("/blobs/") {
            return self.blob(repository, digest, request);
        }
        if let Some((repository, locator)) = path.split_once("/manifests/") {
            return self.manifest(repository, locator, request);
        }
        error(404, "NAME_UNKNOWN")
    }

    fn blob(&mut self, repository: &str, digest: &str, request: &Request) -> Reply {
        let Ok(digest) = digest.parse() else { return error(400, "DIGEST_INVALID") };
        let Some(bytes) = self.blobs.get(&(repository.to_owned(), digest)).cloned() else {
            return error(404, "BLOB_UNKNOWN");
        };
        let range = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        let from = range.and_then(|(from, _)| from.parse().ok());
        let last = range.and_then(|(_, last)| last.parse().ok()).unwrap_or(usize::MAX);
        let reply = match from {
            Some(from) if !self.no_ranges && from < bytes.len() => {
                let last = last.min(bytes.len() - 1);
                let range = format!("bytes {from}-{last}/{}", bytes.len());
                Reply::new(206).header("content-range", range).body(&bytes[from..=last])
            }
            Some(_) if !self.no_ranges => Reply::new(416),
            _ => Reply::new(200).body(bytes),
        };
        if request.method == "GET" {
            self.sent += reply.body.len() as u64;
        }
        reply.header("content-type", "application/octet-stream")
    }

    fn manifest(&mut self, repository: &str, locator: &str, request: &Request) -> Reply {
        let key = (repository.to_owned(), locator.to_owned());
        if request.method == "PUT" {
            let kind = request.header("content-type").unwrap_or_default().to_owned();
            let digest = Digest::of(&request.body).to_string();
            let value = (kind, request.body.clone());
            self.manifests.insert((repository.to_owned(), digest.clone()), value.clone());
            self.manifests.insert(key, value);
            return Reply::new(201).header("docker-content-digest", digest);
        }
        let Some((kind, bytes)) = self.manifests.get(&key) else { return error(404, "MANIFEST_UNKNOWN") };
        let reply = Reply::new(200).header("content-type", kind.as_str()).body(bytes.as_slice());
        if self.no_digests {
            reply
        } else {
            reply.header("docker-content-digest", Digest::of(bytes).to_string())
        }
    }

    fn upload(&mut self, repository: &str, id: &str, request: &Request) -> Reply {
        if request.method == "POST" {
            if let (Some(Ok(digest)), Some(from), false) =
                (request.param("mount").map(str::parse), request.param("from"), self.no_mounts)
                && let Some(bytes) = self.blobs.get(&(from.to_owned(), digest)).cloned()
            {
                self.blobs.insert((repository.to_owned(), digest), bytes);
                return Reply::new(201).header("location", format!("/v2/{repository}/blobs/{digest}"));
            }
            self.sessions += 1;
            self.uploads.insert(self.sessions, Vec::new());
            let before = if self.relative_uploads {
                String::new()
            } else {
                format!("/v2/{repository}/blobs/uploads/")
            };
            let location = format!("{before}{}?state=a%20b", self.sessions);
            return Reply::new(202).header("location", location);
        }
        let Ok(id) = id.parse::<u64>() else { return error(404, "BLOB_UPLOAD_UNKNOWN") };
        let Some(upload) = self.uploads.get_mut(&id) else { return error(404, "BLOB_UPLOAD_UNKNOWN") };
        if request.param("state") != Some("a b") {
            return error(400, "BLOB_UPLOAD_INVALID");
        }
        if request.method == "DELETE" {
            self.uploads.remove(&id);
            return Reply::new(204);
        }
        let begin =
            request.header("content-range").and_then(|range| range.split('-').next()?.parse::<usize>().ok());
        if begin.is_some_and(|begin| begin != upload.len()) {
            return error(416, "RANGE_INVALID");
        }
        self.received += request.body.len() as u64;
        upload.extend(&request.body);
        if request.torn {
            return Reply::new(499);
        }
        if request.method == "PUT" {
            let bytes = self.uploads.remove(&id).unwrap_or_default();
            let digest = Digest::of(&bytes);
            if request.param("digest") != Some(&digest.to_string()) {
                return error(400, "DIGEST_INVALID");
            }
            self.blobs.insert((repository.to_owned(), digest), bytes);
            return Reply::new(201).header("docker-content-digest", digest.to_string());
        }
        let status = if request.method == "PATCH" { 202 } else { 204 };
        let range = format!("0-{}", upload.len().saturating_sub(1));
        let location = format!("/v2/{repository}/blobs/uploads/{id}?state=a%20b");
        Reply::new(status).header("location", location).header("range", range)
    }
}
