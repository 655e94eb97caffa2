//! Pushes through trouble: resumption, lost answers, upload addresses that lead astray.

use std::sync::atomic::{AtomicUsize, Ordering};

use forge_registry::progress::silent;
use forge_registry::{Client, ClientConfig, ErrorKind, PushOptions, Reference, RegistryError};
use forge_store::{Descriptor, DiffId, Digest, MediaType, PackedLayer};

use crate::support::fake::{Fake, Fault};
use crate::support::http::{Reply, Trouble};
use crate::support::image::{TestImage, image};
use crate::support::{Counter, TestStore, client, noise, quick};

async fn scene(sizes: &[usize]) -> (Fake, TestImage, TestStore, Reference) {
    let fake = Fake::start().await;
    let store = TestStore::new();
    let made = image(&store.blobs, sizes);
    let target = format!("{}/app:1", fake.host()).parse().unwrap();
    (fake, made, store, target)
}

fn chunked() -> Client {
    Client::new(ClientConfig { chunk_bytes: 100_000, ..quick() })
}

async fn push(
    client: &Client,
    target: &Reference,
    made: &TestImage,
    store: &TestStore,
) -> Result<u64, RegistryError> {
    let (counter, progress) = Counter::new();
    client.push(target, &made.root, &store.blobs, &PushOptions::default(), &progress).await?;
    Ok(counter.bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_is_layers_then_config_then_manifest() {
    let (fake, made, store, target) = scene(&[1_000, 2_000]).await;
    push(&client(), &target, &made, &store).await.unwrap();
    assert!(fake.has("app", &made));
    let puts: Vec<String> = {
        let state = fake.state();
        let puts = state.log.iter().filter(|r| r.method == "PUT");
        puts.map(|r| r.param("digest").unwrap_or(&r.path).to_owned()).collect()
    };
    let layers: Vec<String> = made.manifest.layers.iter().map(|layer| layer.digest.to_string()).collect();
    assert!(puts[..2].iter().all(|put| layers.contains(put)), "{puts:?}");
    assert_eq!(puts[2..], [made.manifest.config.digest.to_string(), "/v2/app/manifests/1".into()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn torn_uploads_go_on_where_the_registry_stands() {
    let (fake, made, store, target) = scene(&[1_000_000]).await;
    let tears = AtomicUsize::new(0);
    fake.plan(move |r, _| match r.method.as_str() {
        "PATCH" if tears.fetch_add(1, Ordering::Relaxed) % 3 == 1 => Fault::Tear(50_000),
        _ => Fault::None,
    });
    push(&chunked(), &target, &made, &store).await.unwrap();
    assert!(fake.has("app", &made));
    let wasted = fake.state().received - (made.layers[0].len() + made.config_bytes.len()) as u64;
    assert_eq!(wasted, 0, "what the registry had was not sent again");
    assert_eq!(fake.count("POST", "/uploads/"), 2, "one session a blob");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_put_is_made_good() {
    let (fake, made, store, target) = scene(&[80_000]).await;
    let tears = AtomicUsize::new(0);
    fake.plan(move |r, _| {
        let first =
            r.method == "PUT" && r.path.contains("/blobs/") && tears.fetch_add(1, Ordering::Relaxed) == 0;
        if first { Fault::Tear(30_000) } else { Fault::None }
    });
    push(&chunked(), &target, &made, &store).await.unwrap();
    assert!(fake.has("app", &made));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_are_found_out() {
    for method in ["POST", "PATCH", "PUT", "HEAD", "GET"] {
        let (fake, made, store, target) = scene(&[250_000, 1_000]).await;
        let seen = std::sync::Mutex::new(std::collections::HashMap::new());
        fake.plan(move |r, _| {
            let mut seen = seen.lock().unwrap();
            let count = seen.entry(r.path.clone()).or_insert(0);
            *count += usize::from(r.method == method);
            if r.method == method && *count == 1 { Fault::Lost } else { Fault::None }
        });
        push(&chunked(), &target, &made, &store).await.unwrap_or_else(|e| panic!("{method}: {e}"));
        assert!(fake.has("app", &made), "{method}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_the_registry_lost_is_opened_anew() {
    let (fake, made, store, target) = scene(&[500_000]).await;
    let patches = AtomicUsize::new(0);
    fake.plan(move |r, _| {
        let body =
            r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"blob upload unknown to registry"}]}"#;
        let third = r.method == "PATCH" && patches.fetch_add(1, Ordering::Relaxed) == 2;
        let asked = r.method == "GET" && r.path.contains("/uploads/");
        if third || asked { Fault::Instead(Reply::new(404).body(body)) } else { Fault::None }
    });
    push(&chunked(), &target, &made, &store).await.unwrap();
    assert!(fake.has("app", &made));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trouble_at_any_request_is_outlived() {
    for fault in [
        Fault::Instead(Reply::new(500)),
        Fault::Instead(Reply::new(503).header("retry-after", "0")),
        Fault::Instead(Reply::new(429)),
        Fault::With(Trouble::Hangup),
    ] {
        let (fake, made, store, target) = scene(&[250_000, 1_000]).await;
        // Every second time that something is asked for.
        let (which, seen) = (fault.clone(), std::sync::Mutex::new(std::collections::HashMap::new()));
        fake.plan(move |r, _| {
            let mut seen = seen.lock().unwrap();
            let count = seen.entry(format!("{} {}", r.method, r.path)).or_insert(0);
            *count += 1;
            if *count % 2 == 1 { which.clone() } else { Fault::None }
        });
        push(&chunked(), &target, &made, &store).await.unwrap_or_else(|e| panic!("{fault:?}: {e}"));
        assert!(fake.has("app", &made), "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_pushes_say_why_and_are_not_repeated() {
    let (fake, made, store, target) = scene(&[1_000]).await;
    let body = r#"{"errors":[{"code":"DENIED","message":"requested access is denied"}]}"#;
    fake.plan(
        move |r, _| if r.method == "POST" { Fault::Instead(Reply::new(403).body(body)) } else { Fault::None },
    );
    let error = push(&client(), &target, &made, &store).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    let text = error.to_string();
    assert!(text.contains("requested access is denied") && text.contains("app"), "{text}");
    assert_eq!(fake.count("POST", "/uploads/"), 1);
    fake.plan(|r, _| {
        let reply = Reply::new(413).body("too large");
        if r.path.contains("/manifests/") && r.method == "PUT" { Fault::Instead(reply) } else { Fault::None }
    });
    let error = push(&client(), &target, &made, &store).await.unwrap_err();
    assert!(error.to_string().contains("HTTP 413: too large"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_blob_here_is_told_from_one_damaged_there() {
    let (fake, made, store, target) = scene(&[50_000]).await;
    let path = store.blobs.path(&made.manifest.layers[0].digest);
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut bytes = made.layers[0].clone();
    bytes[1234] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = push(&client(), &target, &made, &store).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store, "{error}");
    assert!(error.to_string().contains(&made.manifest.layers[0].digest.to_string()), "{error}");
    assert_eq!(fake.count("PUT", "/manifests/"), 0, "no manifest names what is not there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upload_addresses_are_checked() {
    let elsewhere = Fake::start().await;
    for location in [
        "https://10.0.0.1/x",
        "http://169.254.169.254/x",
        "file:///etc/passwd",
        "http://me:pw@127.0.0.1/x",
        "http://[",
    ] {
        let (fake, made, store, target) = scene(&[1_000]).await;
        fake.plan(move |r, _| {
            let reply = Reply::new(202).header("location", location);
            if r.method == "POST" { Fault::Instead(reply) } else { Fault::None }
        });
        let error = push(&client(), &target, &made, &store).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{location}: {error}");
        assert!(error.to_string().contains("address"), "{location}: {error}");
        assert!(!error.to_string().contains("pw"), "{error}");
    }
    // A PUT that is redirected in a way that loses its body is refused; one that keeps it is followed.
    for (status, good) in [(301, false), (302, false), (303, false), (307, true), (308, true)] {
        let (fake, made, store, target) = scene(&[1_000]).await;
        let to = format!("http://{}", elsewhere.host());
        fake.plan(move |r, _| {
            let reply = Reply::new(status).header("location", format!("{to}{}?stolen=1", r.path));
            if r.method == "PUT" && r.path.contains("/manifests/") {
                Fault::Instead(reply)
            } else {
                Fault::None
            }
        });
        assert_eq!(push(&client(), &target, &made, &store).await.is_ok(), good, "{status}");
    }
    let state = elsewhere.state();
    assert_eq!(state.log.len(), 2);
    assert!(state.log.iter().all(|r| r.header("authorization").is_none()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mounts_that_are_not_taken_become_uploads() {
    let (fake, made, store, target) = scene(&[10_000]).await;
    let source: Reference = format!("{}/base:1", fake.host()).parse().unwrap();
    fake.hold("base", "1", &made);
    let options = PushOptions { mount_from: vec![source.repository().clone()], ..PushOptions::default() };
    let (counter, progress) = Counter::new();
    let client = client();
    client.push(&target, &made.root, &store.blobs, &options, &progress).await.unwrap();
    assert_eq!(counter.bytes(), 0, "mounted");
    fake.state().no_mounts = true;
    let second: Reference = format!("{}/second:1", fake.host()).parse().unwrap();
    client.push(&second, &made.root, &store.blobs, &options, &progress).await.unwrap();
    assert!(fake.has("second", &made));
    assert_eq!(fake.count("POST", "/v2/second/"), 2, "the session of the refused mount was used");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn layers_not_to_be_distributed_stay() {
    let (fake, mut made, store, target) = scene(&[1_000]).await;
    made.manifest.layers[0].media_type = forge_store::MediaType::ImageLayerNonDistributable;
    let bytes = forge_store::image::to_json(&made.manifest);
    made.root.digest = store.blobs.put(&bytes).unwrap();
    made.root.size = bytes.len() as u64;
    push(&client(), &target, &made, &store).await.unwrap();
    assert!(!fake.has("app", &made));
    let options = PushOptions { nondistributable: true, ..PushOptions::default() };
    let (_, progress) = Counter::new();
    client().push(&target, &made.root, &store.blobs, &options, &progress).await.unwrap();
    assert!(fake.has("app", &made));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blobs_that_nobody_has_are_named() {
    let (fake, made, store, target) = scene(&[1_000]).await;
    store.blobs.remove(&made.manifest.layers[0].digest).unwrap();
    let error = push(&client(), &target, &made, &store).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::MissingBlob { digest, .. } if digest == made.manifest.layers[0].digest)
    );
    assert_eq!(fake.count("PUT", "/manifests/"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_keeps_other_bytes_is_found_out() {
    let (fake, made, store, target) = scene(&[1_000]).await;
    fake.plan(|r, _| {
        let reply = Reply::new(201).header("docker-content-digest", Digest::of(b"other").to_string());
        if r.method == "PUT" && r.path.contains("/manifests/") { Fault::Instead(reply) } else { Fault::None }
    });
    let error = push(&client(), &target, &made, &store).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streamed_uploads_survive_trouble_too() {
    let fake = Fake::start().await;
    let target: Reference = format!("{}/app:1", fake.host()).parse().unwrap();
    let patches = AtomicUsize::new(0);
    fake.plan(move |r, _| match (r.method.as_str(), patches.fetch_add(1, Ordering::Relaxed) % 4) {
        ("PATCH", 1) => Fault::Tear(7_000),
        ("PATCH", 3) => Fault::Lost,
        ("PUT", _) if patches.load(Ordering::Relaxed).is_multiple_of(2) => Fault::Lost,
        _ => Fault::None,
    });
    let bytes = noise(3, 200_000);
    let mut upload = client().start_upload(target.repository()).await.unwrap();
    for piece in bytes.chunks(20_000) {
        upload.append(bytes::Bytes::copy_from_slice(piece)).await.unwrap();
    }
    upload.finish(&Digest::of(&bytes)).await.unwrap();
    let state = fake.state();
    assert_eq!(state.blobs.get(&("app".into(), Digest::of(&bytes))), Some(&bytes));
    assert_eq!(state.received, 200_000, "no byte was sent twice");
}

/// What a packer does: bytes into a file, told of as they come.
fn packed(follow: &dyn forge_store::Follow, file: &mut std::fs::File, bytes: &[u8]) {
    use std::io::Write;
    follow.begins(file).unwrap();
    for (n, piece) in bytes.chunks(1 << 20).enumerate() {
        file.write_all(piece).unwrap();
        follow.grew(((n << 20) + piece.len()) as u64);
    }
}

fn layer(bytes: &[u8]) -> PackedLayer {
    let kind = MediaType::ImageLayerGzip;
    let digest = Digest::of(bytes);
    PackedLayer {
        descriptor: Descriptor::new(kind, digest, bytes.len() as u64),
        diff_id: DiffId::new(digest),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_is_sent_while_it_is_packed_and_given_up_with_it() {
    let (fake, store) = (Fake::start().await, TestStore::new());
    let target: Reference = format!("{}/app:1", fake.host()).parse().unwrap();
    let ahead = client().push_ahead(target.repository().clone(), store.blobs.clone(), silent());
    let bytes = noise(5, 10 << 20);
    let mut file = tempfile::tempfile().unwrap();

    let (follow, blob) = ahead.blob();
    let sent = tokio::spawn(blob.run());
    packed(&*follow, &mut file, &bytes);
    while fake.state().received < 4 << 20 {
        tokio::task::yield_now().await;
    }
    assert!(fake.state().blobs.is_empty(), "the blob has no digest yet");
    follow.is_whole(&layer(&bytes));
    sent.await.unwrap().unwrap();
    assert_eq!(fake.state().blobs.get(&("app".into(), Digest::of(&bytes))), Some(&bytes));
    assert_eq!(fake.state().received, bytes.len() as u64);

    // Nobody packs it any more, or nobody wants it any more.
    for is_stopped in [false, true] {
        let (follow, blob) = ahead.blob();
        let sent = tokio::spawn(blob.run());
        let before = fake.state().received;
        packed(&*follow, &mut tempfile::tempfile().unwrap(), &noise(6, 10 << 20));
        while fake.state().received == before {
            tokio::task::yield_now().await;
        }
        if is_stopped {
            ahead.stop();
        } else {
            drop(follow);
        }
        sent.await.unwrap().unwrap();
        let state = fake.state();
        assert_eq!(state.blobs.len(), 1);
        assert!(state.uploads.is_empty(), "the registry keeps nothing of it");
    }
}
