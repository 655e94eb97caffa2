//! Mirrors: asked first, trusted only with digests, and never in the way.

use forge_registry::{
    Client, ClientConfig, Credential, Credentials, ErrorKind, Mirror, Reference, Route, progress,
};
use forge_store::Platform;

use crate::support::fake::{Fake, Fault};
use crate::support::http::{Reply, Trouble};
use crate::support::image::{TestImage, assert_has, image};
use crate::support::{TestStore, impatient};

struct Scene {
    origin: Fake,
    mirror: Fake,
    made: TestImage,
    name: Reference,
}

async fn scene() -> Scene {
    let (origin, mirror) = (Fake::start().await, Fake::start().await);
    let made = image(&TestStore::new().blobs, &[1_000, 20_000]);
    origin.hold("app", "1", &made);
    mirror.hold("hub/app", "1", &made);
    let name = format!("{}/app:1", origin.host()).parse().unwrap();
    Scene { origin, mirror, made, name }
}

impl Scene {
    fn client(&self, resolves_tags: bool) -> Client {
        let mirror = Mirror { location: format!("{}/hub", self.mirror.host()), resolves_tags };
        let route = Route { prefix: self.origin.host(), mirrors: vec![mirror], ..Route::default() };
        let credentials = Credentials::default().with(self.origin.host(), Credential::basic("me", "pw"));
        Client::new(ClientConfig { routes: vec![route], credentials, ..impatient() })
    }

    async fn pull(&self, client: &Client) -> Result<TestStore, forge_registry::RegistryError> {
        let store = TestStore::new();
        let pulled =
            client.fetch_image(&self.name, &Platform::new("linux", "amd64", None), &store.blobs).await?;
        let (repository, silent) = (self.name.repository(), progress::silent());
        client.fetch_blobs(repository, &pulled.manifest.layers, &store.blobs, &silent).await?;
        Ok(store)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mirrors_serve_digests_and_the_registry_says_which() {
    let scene = scene().await;
    assert_has(&scene.pull(&scene.client(false)).await.unwrap().blobs, &scene.made);
    assert_eq!(scene.origin.state().log.len(), 1, "HEAD for the tag");
    let origin = scene.origin.host();
    assert!(scene.mirror.state().log.iter().all(|r| r.param("ns") == Some(&origin)));
    assert!(scene.mirror.state().log.iter().all(|r| r.header("authorization").is_none()));
    scene.origin.state().log.clear();
    scene.pull(&scene.client(true)).await.unwrap();
    assert_eq!(scene.origin.state().log.len(), 0, "this mirror is trusted with tags");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_mirrors_are_passed_over() {
    let other = image(&TestStore::new().blobs, &[5]).manifest_bytes;
    for fault in [
        Fault::Instead(Reply::new(404)),
        Fault::Instead(Reply::new(403)),
        Fault::Instead(Reply::new(401).header("www-authenticate", "Basic")),
        Fault::Instead(Reply::new(500)),
        Fault::Instead(Reply::new(429).header("retry-after", "9999")),
        Fault::With(Trouble::Hangup),
        Fault::With(Trouble::Silence),
        Fault::With(Trouble::CutAfter(10)),
        Fault::Body(other),
        Fault::Flip(0),
    ] {
        let scene = scene().await;
        let which = fault.clone();
        scene.mirror.plan(move |_, _| which.clone());
        let store = scene.pull(&scene.client(true)).await.unwrap_or_else(|e| panic!("{fault:?}: {e}"));
        assert_has(&store.blobs, &scene.made);
    }
    // Nobody at all there.
    let scene = scene().await;
    let client = scene.client(true);
    let host = scene.mirror.host();
    let Scene { origin, mirror, made, name } = scene;
    drop(mirror);
    let dead = Scene { origin, mirror: Fake::start().await, made, name };
    assert_ne!(dead.mirror.host(), host);
    assert_has(&dead.pull(&client).await.unwrap().blobs, &dead.made);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_registrys_own_word_is_what_is_told() {
    let scene = scene().await;
    scene.mirror.plan(|_, _| Fault::Instead(Reply::new(500)));
    scene.origin.plan(|_, _| Fault::Instead(Reply::new(404)));
    let Err(error) = scene.pull(&scene.client(true)).await else { panic!("it is nowhere") };
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains(&scene.origin.host()), "{error}");
}
