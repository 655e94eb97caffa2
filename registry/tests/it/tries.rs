//! No request is made more than six times, whatever it is; what is asked to wait waits.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use forge_registry::{
    Client, ClientConfig, Credential, Credentials, PushOptions, Reference, RegistryError, progress,
};
use forge_store::Digest;

use crate::support::fake::{Fake, Fault};
use crate::support::http::{Reply, Request, Trouble};
use crate::support::image::{TestImage, image};
use crate::support::{TestStore, quick};

/// The most often that one and the same request was made.
fn most(fake: &Fake, method: &str, part: &str) -> usize {
    let mut counts: HashMap<String, usize> = HashMap::new();
    for r in fake.state().log.iter().filter(|r| r.method == method && r.path.contains(part)) {
        let range = [r.header("range"), r.header("content-range"), r.param("digest")];
        *counts.entry(format!("{} {range:?} {:?}", r.path, r.param("scope"))).or_default() += 1;
    }
    counts.into_values().max().unwrap_or(0)
}

struct Scene {
    fake: Fake,
    made: TestImage,
    store: TestStore,
    name: Reference,
}

async fn scene() -> Scene {
    let fake = Fake::start().await;
    let store = TestStore::new();
    let made = image(&store.blobs, &[80_000]);
    let name = format!("{}/app:1", fake.host()).parse().unwrap();
    Scene { fake, made, store, name }
}

fn client(host: &str) -> Client {
    let credentials = Credentials::default().with(host, Credential::basic("me", "pw"));
    Client::new(ClientConfig { chunk_bytes: 25_000, credentials, ..quick() })
}

impl Scene {
    async fn push(&self) -> Result<(), RegistryError> {
        let (none, silent) = (PushOptions::default(), progress::silent());
        let pushed = client(&self.fake.host())
            .push(&self.name, &self.made.root, &self.store.blobs, &none, &silent)
            .await;
        pushed.map(drop)
    }

    async fn pull(&self) -> Result<(), RegistryError> {
        let (client, store) = (client(&self.fake.host()), TestStore::new());
        let resolved = client.resolve(&self.name, None).await?;
        assert_eq!(resolved.descriptor, self.made.root);
        let layers = &self.made.manifest.layers;
        client.fetch_blobs(self.name.repository(), layers, &store.blobs, &progress::silent()).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn six_times_for_each_kind_of_request() {
    // What the request is, whether a pull makes it, and what must go wrong first so that it is made at all.
    type First = fn(&Request) -> Option<Fault>;
    let nothing: First = |_| None;
    let cut: First = |r| {
        let first = r.method == "GET" && r.path.contains("/blobs/") && r.header("range").is_none();
        first.then_some(Fault::With(Trouble::CutAfter(300)))
    };
    let torn: First = |r| (r.method == "PATCH").then_some(Fault::Tear(10));
    for (method, part, ranged, pulls, first) in [
        ("HEAD", "/manifests/", false, true, nothing),
        ("GET", "/manifests/", false, true, nothing),
        ("GET", "/blobs/sha256", false, true, nothing),
        ("GET", "/blobs/sha256", true, true, cut),
        ("HEAD", "/blobs/", false, false, nothing),
        ("POST", "/uploads/", false, false, nothing),
        ("PATCH", "/uploads/", false, false, nothing),
        ("GET", "/uploads/", false, false, torn),
        ("PUT", "/uploads/", false, false, nothing),
        ("PUT", "/manifests/", false, false, nothing),
        ("HEAD", "/manifests/", false, false, nothing),
    ] {
        for fault in [
            Fault::Instead(Reply::default().trouble(Trouble::Hangup)),
            Fault::Instead(Reply::new(500)),
            Fault::Instead(Reply::new(429).header("retry-after", "0")),
        ] {
            let scene = scene().await;
            if pulls {
                scene.fake.hold("app", "1", &scene.made);
            }
            let shown = format!("{method} {part} {fault:?}");
            scene.fake.plan(move |r, _| {
                let is_it = r.method == method
                    && r.path.contains(part)
                    && (r.header("range").is_some() == ranged || !pulls);
                if is_it { fault.clone() } else { first(r).unwrap_or_default() }
            });
            let done = if pulls { scene.pull().await } else { scene.push().await };
            assert!(done.is_err(), "{shown}");
            let tried = most(&scene.fake, method, part);
            // What went wrong before was a try, too.
            assert!((5..=6).contains(&tried), "{shown}: {tried} times");
            for (method, part) in [("HEAD", "/"), ("GET", "/"), ("POST", "/"), ("PATCH", "/"), ("PUT", "/")] {
                assert!(most(&scene.fake, method, part) <= 6, "{shown}: {method}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn six_times_for_a_token_that_many_wait_for() {
    for fault in [Reply::default().trouble(Trouble::Hangup), Reply::new(503).header("retry-after", "0")] {
        let scene = scene().await;
        let tokens = Fake::start().await;
        let realm = format!("http://{}/token", tokens.host());
        let challenge = Reply::new(401).header("www-authenticate", format!("Bearer realm=\"{realm}\""));
        scene.fake.guard(move |_| Some(challenge.clone()));
        tokens.plan(move |_, _| Fault::Instead(fault.clone()));
        // Blobs and manifest are asked for side by side, and all wait for the same token.
        scene.push().await.unwrap_err();
        assert_eq!(tokens.state().log.len(), 6);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_to_wait_waits() {
    for status in [429, 503] {
        for (method, part) in [("HEAD", "/manifests/"), ("PATCH", "/uploads/"), ("PUT", "/manifests/")] {
            let scene = scene().await;
            let asked = std::sync::Mutex::new(false);
            scene.fake.plan(move |r, _| {
                let is_it = r.method == method && r.path.contains(part);
                let first = is_it && !std::mem::replace(&mut *asked.lock().unwrap(), true);
                let reply = Reply::new(status).header("retry-after", "1");
                if first { Fault::Instead(reply) } else { Fault::None }
            });
            let begun = Instant::now();
            scene.push().await.unwrap();
            assert!(begun.elapsed() >= Duration::from_secs(1), "{status} {method} {part}");
            assert!(scene.fake.has("app", &scene.made));
        }
    }
}

/// A push of what is there: each thing is asked for once by HEAD, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_costs_heads_alone() {
    let scene = scene().await;
    scene.push().await.unwrap();
    scene.fake.state().log.clear();
    scene.push().await.unwrap();
    {
        let state = scene.fake.state();
        let asked: Vec<&str> = state.log.iter().map(|r| r.method.as_str()).collect();
        assert_eq!(asked, ["HEAD"; 3], "a layer, a configuration, a manifest");
    }
    // The tag stands for something else now: the manifest alone goes.
    let other = image(&TestStore::new().blobs, &[5]);
    scene.fake.hold_manifest("app", "1", "application/vnd.oci.image.manifest.v1+json", &other.manifest_bytes);
    scene.fake.state().log.clear();
    scene.push().await.unwrap();
    assert_eq!(scene.fake.state().log.len(), 4);
    assert_eq!(scene.fake.count("PUT", "/manifests/1"), 1);
    // A blob got lost there: it is sent, though the tag is right.
    let layer = made_layer(&scene);
    scene.fake.state().blobs.remove(&("app".into(), layer));
    scene.push().await.unwrap();
    assert!(scene.fake.has("app", &scene.made));
    // Who does not say what a tag stands for gets the manifest.
    scene.fake.state().no_digests = true;
    scene.fake.state().log.clear();
    scene.push().await.unwrap();
    assert_eq!(scene.fake.count("PUT", "/manifests/1"), 1);
}

fn made_layer(scene: &Scene) -> Digest {
    scene.made.manifest.layers[0].digest
}
