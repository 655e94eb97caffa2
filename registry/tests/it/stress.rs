//! Many pulls and pushes while a fifth of all requests goes wrong.

use std::sync::Mutex;

use forge_registry::{Client, ClientConfig, PushOptions, Reference, progress};
use forge_store::Platform;

use crate::support::fake::{Fake, Fault};
use crate::support::http::{Reply, Trouble};
use crate::support::image::{TestImage, assert_has, image};
use crate::support::{Random, TestStore, impatient};

const ROUNDS: usize = 200;
const AT_ONCE: usize = 16;

/// One request in five goes wrong in one of many ways, the same ways for the same seed.
fn trouble(fake: &Fake, seed: u64) {
    let random = Mutex::new(Random(seed));
    fake.plan(move |request, _| {
        let mut random = random.lock().unwrap();
        if random.below(5) != 0 {
            return Fault::None;
        }
        let at = usize::try_from(random.below(60_000)).unwrap();
        match random.below(10) {
            0 => Fault::Instead(Reply::new(500)),
            1 => Fault::Instead(Reply::new(503).header("retry-after", "0")),
            2 => Fault::Instead(Reply::new(429)),
            3 => Fault::With(Trouble::Hangup),
            4 => Fault::With(Trouble::CutAfter(at)),
            5 => Fault::With(Trouble::Late(5)),
            6 if request.method == "GET" => Fault::Flip(at),
            7 if request.method == "PATCH" || request.method == "PUT" => Fault::Tear(at),
            8 => Fault::Lost,
            _ => Fault::With(Trouble::StallAfter(at)),
        }
    });
}

fn client() -> Client {
    Client::new(ClientConfig { chunk_bytes: 25_000, downloads: 64, uploads: 64, ..impatient() })
}

/// Pulls into an empty store, and empties it again.
async fn pull(
    client: &Client,
    name: &Reference,
    made: &TestImage,
    store: &TestStore,
) -> Result<(), forge_registry::RegistryError> {
    let pulled = client.fetch_image(name, &Platform::new("linux", "amd64", None), &store.blobs).await?;
    let layers = &pulled.manifest.layers;
    client.fetch_blobs(name.repository(), layers, &store.blobs, &progress::silent()).await?;
    assert_has(&store.blobs, made);
    for (digest, _) in store.blobs.list().unwrap() {
        store.blobs.remove(&digest).unwrap();
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulls_succeed_though_a_fifth_of_the_requests_fail() {
    let fake = Fake::start().await;
    let made = image(&TestStore::new().blobs, &[80_000, 3_000]);
    fake.hold("app", "1", &made);
    trouble(&fake, 42);
    let name: Reference = format!("{}/app:1", fake.host()).parse().unwrap();
    let client = client();
    let stores: Vec<_> = (0..AT_ONCE).map(|_| tokio::sync::Mutex::new(TestStore::new())).collect();
    let outcomes = rounds(async |n| {
        let store = stores[n % AT_ONCE].lock().await;
        pull(&client, &name, &made, &store).await
    })
    .await;
    let failed: Vec<String> = outcomes.into_iter().filter_map(Result::err).map(|e| e.to_string()).collect();
    assert!(failed.len() * 200 <= ROUNDS, "{} of {ROUNDS} failed: {failed:?}", failed.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushes_succeed_though_a_fifth_of_the_requests_fail() {
    let fake = Fake::start().await;
    let store = TestStore::new();
    let made = image(&store.blobs, &[80_000, 3_000]);
    fake.state().no_mounts = true;
    trouble(&fake, 7);
    let client = client();
    let options = PushOptions::default();
    let silent = progress::silent();
    let outcomes = rounds(async |n| {
        let target: Reference = format!("{}/app{n}:1", fake.host()).parse().unwrap();
        client.push(&target, &made.root, &store.blobs, &options, &silent).await?;
        assert!(fake.has(&format!("app{n}"), &made), "a push that succeeded is all there");
        Ok::<_, forge_registry::RegistryError>(())
    })
    .await;
    let failed: Vec<String> = outcomes.into_iter().filter_map(Result::err).map(|e| e.to_string()).collect();
    assert!(failed.len() * 200 <= ROUNDS, "{} of {ROUNDS} failed: {failed:?}", failed.len());
}

/// All rounds, a few at a time.
async fn rounds<T, F: Future<Output = T>>(round: impl Fn(usize) -> F) -> Vec<T> {
    use futures_util::stream::{self, StreamExt as _};
    stream::iter((0..ROUNDS).map(round)).buffer_unordered(AT_ONCE).collect().await
}
