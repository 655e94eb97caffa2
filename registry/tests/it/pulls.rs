//! Pulls through trouble: retries, resumption, stalls, tags that move.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use forge_registry::{
    Client, ClientConfig, ErrorKind, HostConfig, Proxies, Reference, RegistryError, progress,
};
use forge_store::{Digest, Platform};

use crate::support::fake::{Fake, Fault};
use crate::support::http::{Reply, Trouble};
use crate::support::image::{TestImage, assert_has, image};
use crate::support::{Counter, TestStore, client, impatient, quick};

fn amd64() -> Platform {
    Platform::new("linux", "amd64", None)
}

async fn scene(sizes: &[usize]) -> (Fake, TestImage, Reference) {
    let fake = Fake::start().await;
    let made = image(&TestStore::new().blobs, sizes);
    fake.hold("app", "1", &made);
    let reference = format!("{}/app:1", fake.host()).parse().unwrap();
    (fake, made, reference)
}

async fn pull(client: &Client, reference: &Reference, store: &TestStore) -> Result<(), RegistryError> {
    let pulled = client.fetch_image(reference, &amd64(), &store.blobs).await?;
    let layers = &pulled.manifest.layers;
    client.fetch_blobs(reference.repository(), layers, &store.blobs, &progress::silent()).await
}

/// Every request fails this way the first `times` times that its path is asked for.
fn at_first(fake: &Fake, times: usize, fault: Fault) {
    let seen = std::sync::Mutex::new(std::collections::HashMap::new());
    fake.plan(move |request, _| {
        let mut seen = seen.lock().unwrap();
        let count = seen.entry(format!("{} {}", request.method, request.path)).or_insert(0);
        *count += 1;
        if *count <= times { fault.clone() } else { Fault::None }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passing_trouble_is_outlived() {
    for fault in [
        Fault::Instead(Reply::new(500)),
        Fault::Instead(Reply::new(502).body("<html>")),
        Fault::Instead(Reply::new(503).header("retry-after", "0")),
        Fault::Instead(Reply::new(504)),
        Fault::Instead(Reply::new(408)),
        Fault::Instead(Reply::new(429)),
        Fault::Instead(Reply::new(429).header("retry-after", "0")),
        Fault::Instead(Reply::new(429).header("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")),
        Fault::With(Trouble::Hangup),
        Fault::With(Trouble::CutAfter(3)),
        Fault::Flip(17),
        Fault::Body(vec![]),
    ] {
        let (fake, made, reference) = scene(&[1_000, 50_000]).await;
        at_first(&fake, 3, fault.clone());
        let store = TestStore::new();
        pull(&client(), &reference, &store).await.unwrap_or_else(|e| panic!("{fault:?}: {e}"));
        assert_has(&store.blobs, &made);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lasting_trouble_is_told_after_six_tries() {
    for (fault, kind) in [
        (Fault::Instead(Reply::new(500)), ErrorKind::Server),
        (Fault::Instead(Reply::new(429)), ErrorKind::RateLimited),
        (Fault::With(Trouble::Hangup), ErrorKind::Unreachable),
    ] {
        let (fake, _, reference) = scene(&[10]).await;
        fake.plan(move |_, _| fault.clone());
        let error = client().resolve(&reference, None).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(&fake.host()), "{error}");
        assert_eq!(fake.state().log.len(), 6);
    }
    for status in [400, 403, 404, 501] {
        let (fake, _, reference) = scene(&[10]).await;
        fake.plan(move |_, _| Fault::Instead(Reply::new(status)));
        client().tags(reference.repository()).await.unwrap_err();
        assert_eq!(fake.state().log.len(), 1, "{status} is not tried again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_wants_to_be_left_alone_is() {
    let (fake, _, reference) = scene(&[10]).await;
    fake.plan(|_, _| Fault::Instead(Reply::new(429).header("retry-after", "3600")));
    let begun = Instant::now();
    let error = client().resolve(&reference, None).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert!(error.to_string().contains("try again in 3600 s"), "{error}");
    assert_eq!(fake.state().log.len(), 1);
    let (fake, _, reference) = scene(&[10]).await;
    at_first(&fake, 1, Fault::Instead(Reply::new(429).header("retry-after", "1")));
    let begun = Instant::now();
    client().tags(reference.repository()).await.unwrap_err();
    assert!(begun.elapsed() >= Duration::from_secs(1), "the second that it asked for was waited");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_downloads_go_on_where_they_broke() {
    let (fake, made, reference) = scene(&[1_000_000]).await;
    let cuts = AtomicUsize::new(0);
    fake.plan(move |request, _| {
        let layer = request.path.contains("/blobs/") && request.method == "GET";
        if layer && cuts.fetch_add(1, Ordering::Relaxed) < 5 {
            Fault::With(Trouble::CutAfter(180_000))
        } else {
            Fault::None
        }
    });
    let store = TestStore::new();
    let (counter, progress) = Counter::new();
    let layer = &made.manifest.layers[0];
    client().fetch_blob(reference.repository(), layer, &store.blobs, &progress).await.unwrap();
    assert_eq!(store.blobs.read(&layer.digest, 1 << 30).unwrap().as_ref(), Some(&made.layers[0]));
    assert_eq!((counter.bytes(), counter.done()), (layer.size, 1), "no byte came twice");
    let ranges: Vec<_> =
        fake.state().log.iter().filter_map(|r| r.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges[0], "bytes=180000-");
    assert_eq!(ranges.len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_run_goes_on_where_an_earlier_one_stopped() {
    let (fake, made, reference) = scene(&[1_000_000]).await;
    let store = TestStore::new();
    let layer = &made.manifest.layers[0];
    fake.plan(|r, _| {
        if r.header("range").is_none() {
            Fault::With(Trouble::CutAfter(600_000))
        } else {
            Fault::With(Trouble::Hangup)
        }
    });
    let silent = progress::silent();
    client().fetch_blob(reference.repository(), layer, &store.blobs, &silent).await.unwrap_err();
    assert_eq!(store.partial_bytes(), 600_000);
    fake.plan(|_, _| Fault::None);
    let (counter, progress) = Counter::new();
    client().fetch_blob(reference.repository(), layer, &store.blobs, &progress).await.unwrap();
    assert_eq!(counter.bytes(), layer.size - 600_000);
    assert_eq!(store.blobs.read(&layer.digest, 1 << 30).unwrap().as_ref(), Some(&made.layers[0]));
    assert_eq!(store.partial_bytes(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registries_without_ranges_are_resumed_all_the_same() {
    let (fake, made, reference) = scene(&[500_000]).await;
    fake.state().no_ranges = true;
    at_first(&fake, 2, Fault::With(Trouble::CutAfter(200_000)));
    let store = TestStore::new();
    let layer = &made.manifest.layers[0];
    client().fetch_blob(reference.repository(), layer, &store.blobs, &progress::silent()).await.unwrap();
    assert_eq!(store.blobs.read(&layer.digest, 1 << 30).unwrap().as_ref(), Some(&made.layers[0]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_that_were_not_asked_for_spoil_nothing() {
    let (fake, made, reference) = scene(&[500_000]).await;
    let layer = made.manifest.layers[0].clone();
    let wrong = made.layers[0].clone();
    fake.plan(move |r, number| match (r.header("range"), number) {
        (None, 0) => Fault::With(Trouble::CutAfter(100_000)),
        (Some(_), 1) => {
            Fault::Instead(Reply::new(206).header("content-range", "bytes 5-9/500000").body(&wrong[5..10]))
        }
        (Some(_), 2) => Fault::Instead(Reply::new(416)),
        _ => Fault::None,
    });
    let store = TestStore::new();
    client().fetch_blob(reference.repository(), &layer, &store.blobs, &progress::silent()).await.unwrap();
    assert_eq!(store.blobs.read(&layer.digest, 1 << 30).unwrap().as_ref(), Some(&made.layers[0]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_cut_short_and_other_layers_go_on() {
    for trouble in [Trouble::Silence, Trouble::StallAfter(0), Trouble::StallAfter(1_000), Trouble::Drip(20)] {
        let (fake, made, reference) = scene(&[3_000, 4_000, 5_000]).await;
        let dead = format!("/v2/app/blobs/{}", made.manifest.layers[1].digest);
        fake.plan(move |r, _| if r.path == dead { Fault::With(trouble) } else { Fault::None });
        let store = TestStore::new();
        let config =
            ClientConfig { retry: forge_registry::RetryPolicy { tries: 2, ..quick().retry }, ..impatient() };
        let client = Client::new(config);
        let begun = Instant::now();
        let error = pull(&client, &reference, &store).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{trouble:?}: {error}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{trouble:?}");
        assert!(store.blobs.contains(&made.manifest.layers[0].digest).unwrap(), "{trouble:?}");
        assert!(store.blobs.contains(&made.manifest.layers[2].digest).unwrap(), "{trouble:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_is_not_dead() {
    let (fake, _, reference) = scene(&[10]).await;
    at_first(&fake, 1, Fault::With(Trouble::Late(50)));
    Client::new(impatient()).resolve(&reference, None).await.unwrap();
    assert_eq!(fake.state().log.len(), 2, "nothing was asked twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_that_moves_meanwhile_gives_one_image() {
    let (fake, made, reference) = scene(&[1_000]).await;
    let other = image(&TestStore::new().blobs, &[2_000]);
    fake.hold("app", "other", &other);
    let moved = (other.root.media_type.to_string(), other.manifest_bytes.clone());
    // HEAD says A; whoever asks for the tag after that gets B.
    fake.plan(move |r, _| match (r.method.as_str(), r.path.ends_with("/manifests/1")) {
        ("GET", true) => {
            Fault::Instead(Reply::new(200).header("content-type", &moved.0).body(moved.1.clone()))
        }
        _ => Fault::None,
    });
    let resolved = client().resolve(&reference, None).await.unwrap();
    assert_eq!(resolved.descriptor.digest, made.root.digest);
    // Where HEAD tells no digest, the bytes of one GET decide, and all that follows is by digest.
    fake.state().no_digests = true;
    let store = TestStore::new();
    pull(&client(), &reference, &store).await.unwrap();
    assert_has(&store.blobs, &other);
    assert_eq!(fake.count("GET", "/manifests/1"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_the_store_is_not_fetched() {
    let (fake, made, reference) = scene(&[1_000]).await;
    let (store, client) = (TestStore::new(), client());
    pull(&client, &reference, &store).await.unwrap();
    fake.state().log.clear();
    pull(&client, &reference, &store).await.unwrap();
    assert_eq!(fake.state().log.len(), 1, "one HEAD for the tag");
    pull(&client, &reference.with_digest(made.root.digest), &store).await.unwrap();
    assert_eq!(fake.state().log.len(), 1, "nothing for a digest");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registries_without_head_are_asked_by_get() {
    for status in [400, 405, 501] {
        let (fake, made, reference) = scene(&[1_000]).await;
        fake.plan(
            move |r, _| if r.method == "HEAD" { Fault::Instead(Reply::new(status)) } else { Fault::None },
        );
        assert_eq!(client().resolve(&reference, None).await.unwrap().descriptor, made.root);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_blob_is_fetched_once_by_many() {
    let (fake, made, reference) = scene(&[300_000]).await;
    let (store, client) = (TestStore::new(), client());
    let layers = vec![made.manifest.layers[0].clone(); 5];
    let silent = progress::silent();
    let fetches = (0..4).map(|_| client.fetch_blobs(reference.repository(), &layers, &store.blobs, &silent));
    for done in futures_util::future::join_all(fetches).await {
        done.unwrap();
    }
    assert_eq!(fake.count("GET", "/blobs/"), 1);
    assert!(store.blobs.contains(&Digest::of(&made.layers[0])).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_pull_leaves_only_what_it_may() {
    let (fake, made, reference) = scene(&[400_000]).await;
    let layer = &made.manifest.layers[0];
    fake.plan(|_, _| Fault::With(Trouble::StallAfter(100_000)));
    let (store, client) = (TestStore::new(), client());
    let silent = progress::silent();
    let fetch = client.fetch_blob(reference.repository(), layer, &store.blobs, &silent);
    assert!(tokio::time::timeout(Duration::from_millis(300), fetch).await.is_err());
    assert!(store.blobs.list().unwrap().is_empty());
    fake.plan(|_, _| Fault::None);
    client.fetch_blob(reference.repository(), layer, &store.blobs, &progress::silent()).await.unwrap();
    assert!(store.blobs.contains(&layer.digest).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulls_can_be_spawned_and_go_through_a_proxy() {
    let (fake, made, _) = scene(&[1_000]).await;
    // The proxy is the registry itself: what matters is that it was asked for a host that it is not.
    let far: Reference = "registry.invalid/app:1".parse().unwrap();
    fake.plan(|r, _| match r.path.strip_prefix("http://registry.invalid") {
        Some(_) => Fault::Instead(Reply::new(404).body("seen by the proxy")),
        None => Fault::None,
    });
    let plain = HostConfig { plain_http: Some(true), ..HostConfig::default() };
    let proxies = Proxies { http: Some(format!("http://{}", fake.host())), ..Proxies::default() };
    let config = ClientConfig { hosts: [("registry.invalid".into(), plain)].into(), proxies, ..quick() };
    let (client, repository) = (Client::new(config.clone()), far.repository().clone());
    let error = tokio::spawn(async move { client.tags(&repository).await }).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("seen by the proxy"), "{error}");
    // Hosts that are listed go without, and so does loopback.
    let proxies =
        Proxies { no_proxy: ".invalid".into(), http: Some("http://127.0.0.1:1".into()), https: None };
    let listed = Client::new(ClientConfig { proxies: proxies.clone(), ..config.clone() });
    let error = listed.tags(far.repository()).await.unwrap_err();
    assert!(!error.to_string().contains("refused"), "the proxy was not asked: {error}");
    let direct = Client::new(ClientConfig { proxies, ..config });
    let name: Reference = format!("{}/app:1", fake.host()).parse().unwrap();
    let (store, silent) = (TestStore::new(), progress::silent());
    let pull = async move {
        let pulled = direct.fetch_image(&name, &amd64(), &store.blobs).await.unwrap();
        direct.fetch_blobs(name.repository(), &pulled.manifest.layers, &store.blobs, &silent).await.unwrap();
        store
    };
    assert_has(&tokio::spawn(pull).await.unwrap().blobs, &made);
}
