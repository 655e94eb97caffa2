//! Many pulls and pushes while a fifth of all requests goes wrong.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use forge_registry::{Client, ClientConfig, Progress, PushOptions, Reference, progress};
use forge_store::Platform;

use crate::support::fake::{Fake, Fault};
use crate::support::http::{Reply, Trouble};
use crate::support::image::{TestImage, assert_has, image};
use crate::support::{Counter, Random, TestStore, impatient};

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
    progress: &Arc<dyn Progress>,
) -> Result<(), forge_registry::RegistryError> {
    let pulled = client.fetch_image(name, &Platform::new("linux", "amd64", None), &store.blobs).await?;
    let layers = &pulled.manifest.layers;
    client.fetch_blobs(name.repository(), layers, &store.blobs, progress).await?;
    assert_has(&store.blobs, made);
    for (digest, _) in store.blobs.list().unwrap() {
        store.blobs.remove(&digest).unwrap();
    }
    Ok(())
}

/// The most often that one request was made: a blob's GET from one place, a document's, a PATCH of one chunk.
fn most_tries(fake: &Fake) -> usize {
    let mut counts: HashMap<(String, String, String), usize> = HashMap::new();
    for request in &fake.state().log {
        let from = request.header("range").or(request.header("content-range")).unwrap_or_default();
        *counts.entry((request.method.clone(), request.path.clone(), from.to_owned())).or_default() += 1;
    }
    counts.into_values().max().unwrap_or(0)
}

/// Says how it went; the limits are those of the project.
#[expect(clippy::print_stdout, reason = "the figures are what a reader wants to see")]
fn judge(what: &str, failed: &[String], moved: u64, needed: u64) {
    let waste = 100.0 * (moved as f64 / needed as f64 - 1.0);
    println!(
        "{what}: {} of {ROUNDS} failed, {moved} bytes for {needed}, {waste:.1} % of waste",
        failed.len()
    );
    assert!(failed.len() * 200 <= ROUNDS, "{} of {ROUNDS} failed: {failed:?}", failed.len());
    assert!(waste <= 10.0, "{what}: {waste:.1} % of the bytes were moved in vain");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulls_succeed_though_a_fifth_of_the_requests_fail() {
    let fake = Fake::start().await;
    let made = image(&TestStore::new().blobs, &[80_000, 3_000]);
    fake.hold("app", "1", &made);
    trouble(&fake, 42);
    let name: Reference = format!("{}/app:1", fake.host()).parse().unwrap();
    let client = client();
    let (counter, progress) = Counter::new();
    let stores: Vec<_> = (0..AT_ONCE).map(|_| tokio::sync::Mutex::new(TestStore::new())).collect();
    let outcomes = rounds(async |n| {
        let store = stores[n % AT_ONCE].lock().await;
        pull(&client, &name, &made, &store, &progress).await
    })
    .await;
    let failed: Vec<String> = outcomes.into_iter().filter_map(Result::err).map(|e| e.to_string()).collect();
    // Bytes that the client took over, and not those that a fault kept from it.
    let needed = ROUNDS as u64 * made.layers.iter().map(|layer| layer.len() as u64).sum::<u64>();
    judge("pulls", &failed, counter.bytes(), needed);
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
    let one =
        made.layers.iter().map(|layer| layer.len() as u64).sum::<u64>() + made.config_bytes.len() as u64;
    judge("pushes", &failed, fake.state().received, ROUNDS as u64 * one);
}

/// The six tries are for one request, whatever went wrong with it: a registry that never answers one of them is not
/// asked a seventh time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_made_more_than_six_times() {
    let fake = Fake::start().await;
    let made = image(&TestStore::new().blobs, &[80_000]);
    fake.hold("app", "1", &made);
    fake.plan(|request, _| match request.path.contains("/blobs/") {
        true => Fault::With(Trouble::Hangup),
        false => Fault::None,
    });
    let (store, name) = (TestStore::new(), format!("{}/app:1", fake.host()).parse().unwrap());
    pull(&client(), &name, &made, &store, &progress::silent()).await.unwrap_err();
    assert_eq!(most_tries(&fake), 6);
}

/// All rounds, a few at a time.
async fn rounds<T, F: Future<Output = T>>(round: impl Fn(usize) -> F) -> Vec<T> {
    use futures_util::stream::{self, StreamExt as _};
    stream::iter((0..ROUNDS).map(round)).buffer_unordered(AT_ONCE).collect().await
}
