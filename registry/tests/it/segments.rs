//! Large blobs by several connections: whole, in order, through trouble, and not where it is of no use.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use forge_registry::{Client, ClientConfig, ErrorKind, Reference, RegistryError};

use crate::support::fake::{Fake, Fault};
use crate::support::http::{Reply, Trouble};
use crate::support::image::{TestImage, image};
use crate::support::{Counter, TestStore, quick};

const SEGMENT: u64 = 50_000;

async fn scene(size: usize) -> (Fake, TestImage, Reference) {
    let fake = Fake::start().await;
    let made = image(&TestStore::new().blobs, &[size]);
    fake.hold("app", "1", &made);
    let name = format!("{}/app:1", fake.host()).parse().unwrap();
    (fake, made, name)
}

fn client(segment_bytes: u64) -> Client {
    Client::new(ClientConfig { segment_bytes, ..quick() })
}

async fn fetch(
    client: &Client,
    (fake, made, name): &(Fake, TestImage, Reference),
    store: &TestStore,
) -> Result<u64, RegistryError> {
    let (counter, progress) = Counter::new();
    let layer = &made.manifest.layers[0];
    client.fetch_blob(name.repository(), layer, &store.blobs, &progress).await?;
    assert!(
        store.blobs.read(&layer.digest, 1 << 30).unwrap().as_ref() == Some(&made.layers[0]),
        "{}",
        fake.host()
    );
    Ok(counter.bytes())
}

fn ranges(fake: &Fake) -> Vec<String> {
    fake.state().log.iter().filter_map(|r| r.header("range").map(str::to_owned)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_blob_comes_by_several_connections() {
    let scene = scene(1_000_000).await;
    // Slow enough that the network is what is waited for.
    scene.0.plan(|_, _| Fault::With(Trouble::Rate(2_000_000)));
    let bytes = fetch(&client(SEGMENT), &scene, &TestStore::new()).await.unwrap();
    assert_eq!(bytes, scene.1.manifest.layers[0].size, "no byte came twice");
    let asked = ranges(&scene.0);
    assert_eq!(asked.len(), 20, "{asked:?}");
    assert!(asked.contains(&"bytes=0-49999".to_owned()) && asked.contains(&"bytes=50000-99999".to_owned()));
    let connections = scene.0.server.connections();
    assert!(connections >= 2, "{connections} connections");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_blobs_and_busy_clients_use_one_request_each() {
    let small = scene(150_000).await;
    fetch(&client(SEGMENT), &small, &TestStore::new()).await.unwrap();
    assert_eq!((ranges(&small.0).len(), small.0.count("GET", "/blobs/")), (0, 1));
    let large = scene(1_000_000).await;
    fetch(&client(0), &large, &TestStore::new()).await.unwrap();
    assert_eq!((ranges(&large.0).len(), large.0.count("GET", "/blobs/")), (0, 1));
    // With one download allowed, segments come one after the other, as the order of the questions shows.
    large.0.state().log.clear();
    large.0.plan(|_, _| Fault::With(Trouble::Rate(5_000_000)));
    let one = Client::new(ClientConfig { segment_bytes: SEGMENT, downloads: 1, ..quick() });
    fetch(&one, &large, &TestStore::new()).await.unwrap();
    let begins: Vec<u64> =
        ranges(&large.0).iter().map(|r| r[6..].split('-').next().unwrap().parse().unwrap()).collect();
    assert!(begins.is_sorted() && begins.len() == 20, "{begins:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_go_on_where_they_broke() {
    for (fault, wasted) in [
        (Fault::With(Trouble::CutAfter(20_000)), 0),
        (Fault::With(Trouble::ResetAfter(0)), 0),
        (Fault::Instead(Reply::new(500)), 0),
        (Fault::Instead(Reply::new(429).header("retry-after", "0")), 0),
    ] {
        let scene = scene(1_000_000).await;
        let count = AtomicUsize::new(0);
        let shown = format!("{fault:?}");
        scene.0.plan(move |r, _| {
            let third = r.header("range").is_some() && count.fetch_add(1, Ordering::SeqCst) % 3 == 1;
            if third { fault.clone() } else { Fault::None }
        });
        let bytes = fetch(&client(SEGMENT), &scene, &TestStore::new())
            .await
            .unwrap_or_else(|e| panic!("{shown}: {e}"));
        assert_eq!(bytes - scene.1.manifest.layers[0].size, wasted, "{shown}");
    }
}

/// A segment needs more requests here than one request has tries.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_that_moves_on_earns_new_tries() {
    let scene = scene(34 << 20).await;
    scene.0.plan(|_, _| Fault::With(Trouble::CutAfter(1 << 20)));
    let bytes = fetch(&client(8 << 20), &scene, &TestStore::new()).await.unwrap();
    assert_eq!(bytes, scene.1.manifest.layers[0].size);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_without_ranges_or_with_others_serve_the_whole() {
    let none = scene(1_000_000).await;
    none.0.state().no_ranges = true;
    fetch(&client(SEGMENT), &none, &TestStore::new()).await.unwrap();
    assert_eq!(none.0.count("GET", "/blobs/"), 1, "the answer to the first segment was the blob");
    let wrong = scene(1_000_000).await;
    let bytes = wrong.1.layers[0][..10].to_vec();
    wrong.0.plan(move |r, _| match r.header("range") {
        Some("bytes=0-49999") | None => Fault::None,
        Some(range) if range.ends_with('-') => Fault::None,
        _ => Fault::Instead(Reply::new(206).header("content-range", "bytes 0-9/1000").body(bytes.clone())),
    });
    fetch(&client(SEGMENT), &wrong, &TestStore::new()).await.unwrap();
    // More than was asked for.
    let long = scene(1_000_000).await;
    let whole = long.1.layers[0].clone();
    long.0.plan(move |r, _| match r.header("range") {
        Some("bytes=0-49999") => {
            Fault::Instead(Reply::new(206).header("content-range", "bytes 0-49999/1").body(whole.clone()))
        }
        _ => Fault::None,
    });
    fetch(&client(SEGMENT), &long, &TestStore::new()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_bytes_in_a_segment_are_found_and_leave_nothing() {
    let scene = scene(1_000_000).await;
    scene.0.plan(|r, _| match r.header("range") {
        Some(range) if range.starts_with("bytes=400000-") => Fault::Flip(7),
        _ => Fault::None,
    });
    let store = TestStore::new();
    let error = fetch(&client(SEGMENT), &scene, &store).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(store.is_empty(), "{:?}", store.files());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_run_goes_on_behind_what_is_here() {
    let scene = scene(1_000_000).await;
    scene.0.plan(|r, _| match r.header("range") {
        Some(range) if range.starts_with("bytes=500000-") => Fault::With(Trouble::Hangup),
        _ => Fault::None,
    });
    let store = TestStore::new();
    fetch(&client(SEGMENT), &scene, &store).await.unwrap_err();
    assert_eq!(store.partial_bytes(), 500_000, "in order, so that the rest is behind");
    scene.0.plan(|_, _| Fault::None);
    let bytes = fetch(&client(SEGMENT), &scene, &store).await.unwrap();
    assert_eq!(bytes, scene.1.manifest.layers[0].size - 500_000);
}

/// Says what it brings where each connection gets a share of the line; nothing depends on the figures.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "the figures are what a reader wants to see")]
async fn what_it_brings() {
    let scene = scene(8_000_000).await;
    for (limit, trouble) in [("20 MB/s a connection", Trouble::Rate(20_000_000)), ("no limit", Trouble::None)]
    {
        scene.0.plan(move |_, _| Fault::With(trouble));
        let mut took = [0; 2];
        for (took, segment) in took.iter_mut().zip([0, 500_000]) {
            let begun = Instant::now();
            fetch(&client(segment), &scene, &TestStore::new()).await.unwrap();
            *took = begun.elapsed().as_millis();
        }
        println!("8 MB with {limit}: {} ms by one request, {} ms by segments", took[0], took[1]);
    }
}
