//! What a hostile registry sends is refused, and nothing of it stays.

use forge_registry::{Client, ErrorKind, Reference, RegistryError, progress};
use forge_store::{Descriptor, Digest, MediaType, Platform};

use crate::support::fake::{Fake, Fault};
use crate::support::http::{Reply, Trouble};
use crate::support::image::{TestImage, image, index};
use crate::support::{TestStore, client, impatient, noise};

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn amd64() -> Platform {
    Platform::new("linux", "amd64", None)
}

fn reference(fake: &Fake) -> Reference {
    format!("{}/app:1", fake.host()).parse().unwrap()
}

/// A registry with an image, an empty store to pull it into.
async fn scene(sizes: &[usize]) -> (Fake, TestImage, TestStore) {
    let fake = Fake::start().await;
    let made = image(&TestStore::new().blobs, sizes);
    fake.hold("app", "1", &made);
    (fake, made, TestStore::new())
}

async fn fetch_layer(
    client: &Client,
    fake: &Fake,
    descriptor: &Descriptor,
    store: &TestStore,
) -> RegistryError {
    let reference = reference(fake);
    client
        .fetch_blob(reference.repository(), descriptor, &store.blobs, &progress::silent())
        .await
        .unwrap_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blobs_of_wrong_bytes_or_length_are_never_kept() {
    let (fake, made, store) = scene(&[200_000]).await;
    let layer = &made.manifest.layers[0];
    let bytes = made.layers[0].clone();
    let long = [bytes.clone(), vec![0]].concat();
    let short = bytes[..bytes.len() - 1].to_vec();
    let mut flipped = bytes.clone();
    flipped[100_000] ^= 1;
    for (body, bad) in [(long, "long"), (short, "short"), (flipped, "flipped"), (Vec::new(), "empty")] {
        fake.plan(
            move |r, _| if r.path.contains("/blobs/") { Fault::Body(body.clone()) } else { Fault::None },
        );
        let error = fetch_layer(&client(), &fake, layer, &store).await;
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{bad}: {error}");
        assert!(error.to_string().contains(&layer.digest.to_string()), "{error}");
        assert!(store.blobs.list().unwrap().is_empty(), "{bad}");
        assert!(store.partial_bytes() <= layer.size, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_bodies_end_at_the_size() {
    let (fake, made, store) = scene(&[100_000]).await;
    fake.plan(|r, _| if r.method == "GET" { Fault::With(Trouble::Endless) } else { Fault::None });
    let error = fetch_layer(&client(), &fake, &made.manifest.layers[0], &store).await;
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(store.partial_bytes() <= made.manifest.layers[0].size);
    let error = client().resolve(&reference(&fake), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert!(error.to_string().contains("larger than 16777216 bytes"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sizes_that_lie_are_found_out() {
    let (fake, made, store) = scene(&[5_000]).await;
    for size in [0, 1, made.layers[0].len() as u64 - 1, made.layers[0].len() as u64 + 1, 1 << 62] {
        let mut descriptor = made.manifest.layers[0].clone();
        descriptor.size = size;
        let error = fetch_layer(&client(), &fake, &descriptor, &store).await;
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{size}: {error}");
        assert!(store.blobs.list().unwrap().is_empty());
    }
    let mut child = made.root.clone();
    child.size += 1;
    let reference = reference(&fake);
    let error = client().fetch_manifest(reference.repository(), &child, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    child.size = 1 << 40;
    let error = client().fetch_manifest(reference.repository(), &child, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn manifests_and_configs_of_wrong_bytes_are_never_kept() {
    let (fake, made, store) = scene(&[1_000]).await;
    let pinned = reference(&fake).repository().pinned(made.root.digest);
    fake.plan(|r, _| if r.path.contains("/manifests/") { Fault::Flip(3) } else { Fault::None });
    for name in [pinned, reference(&fake)] {
        let error = client().fetch_image(&name, &amd64(), &store.blobs).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(store.is_empty());
    }
    // A tag whose digest the registry does not tell is believed for what it is: the bytes decide.
    fake.plan(|r, _| if r.path.contains("/blobs/") { Fault::Flip(3) } else { Fault::None });
    let error = client().fetch_image(&reference(&fake), &amd64(), &store.blobs).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(!store.blobs.contains(&made.manifest.config.digest).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn confused_documents_are_refused() {
    let (fake, made, store) = scene(&[1_000]).await;
    let text = String::from_utf8(made.manifest_bytes.clone()).unwrap();
    let config = Digest::of(&made.config_bytes);
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let traversal = text.replace(&config.to_string(), "sha256:../../../../etc/passwd");
    for (name, kind, body, why) in [
        ("both", OCI, text.replace("\"schemaVersion\"", "\"manifests\":[],\"schemaVersion\""), "at once"),
        ("type", OCI_INDEX, text.clone(), "but came as"),
        ("html", "text/html", text.clone(), "but came as"),
        ("twice", OCI, text.replace("\"layers\":", "\"layers\":[],\"layers\":"), "twice"),
        ("capitals", OCI, text.replace("\"layers\":", "\"LAYERS\":"), "wrong case"),
        ("deep", OCI, deep, "sound JSON"),
        ("bom", OCI, format!("\u{feff}{text}"), "sound JSON"),
        ("number", OCI, text.replace("\"schemaVersion\":2", "\"schemaVersion\":2,\"x\":1e400"), "sound JSON"),
        ("negative", OCI, text.replace("\"size\":", "\"size\":-"), "no sound"),
        ("huge", OCI, text.replacen("\"size\":", "\"size\":9223372036854775808,\"x\":", 1), "size of"),
        ("traversal", OCI, traversal, "no sound"),
        ("sha512", OCI, text.replace("sha256:", "sha512:"), "no sound"),
        (
            "old",
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            r#"{"schemaVersion":1}"#.into(),
            "schema 1",
        ),
        ("config", OCI, text.replace("image.config.v1+json", "image.layer.v1.tar"), "config is called"),
        ("artifact", OCI, text.replace("image.config.v1+json", "empty.v1+json"), "an artifact"),
    ] {
        fake.hold_manifest("app", name, kind, body.as_bytes());
        let name: Reference = format!("{}/app:{name}", fake.host()).parse().unwrap();
        let error = client().fetch_image(&name, &amd64(), &store.blobs).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{name}: {error}");
        assert!(error.to_string().contains(why), "{name}: {error}");
    }
    let kept = store.blobs.list().unwrap();
    assert!(kept.iter().all(|(digest, _)| *digest != config), "no blob was fetched for a bad manifest");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn diff_ids_must_be_as_many_as_layers() {
    let (fake, made, store) = scene(&[1_000, 2_000]).await;
    let mut manifest = made.manifest.clone();
    manifest.layers.pop();
    fake.hold_manifest("app", "few", OCI, &forge_store::image::to_json(&manifest));
    let name: Reference = format!("{}/app:few", fake.host()).parse().unwrap();
    let error = client().fetch_image(&name, &amd64(), &store.blobs).await.unwrap_err();
    assert!(error.to_string().contains("2 DiffIDs for 1 layers"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_manifests_are_taken_and_huge_ones_are_not() {
    let (fake, made, _) = scene(&[1_000]).await;
    let padded = |bytes: usize| {
        let pad = format!("\"annotations\":{{\"x\":\"{}\"}},\"layers\":", "x".repeat(bytes));
        String::from_utf8(made.manifest_bytes.clone()).unwrap().replace("\"layers\":", &pad)
    };
    fake.hold_manifest("app", "large", OCI, padded(4 << 20).as_bytes());
    let name = |tag: &str| format!("{}/app:{tag}", fake.host()).parse::<Reference>().unwrap();
    client().resolve(&name("large"), None).await.unwrap();
    fake.hold_manifest("app", "huge", OCI, padded(17 << 20).as_bytes());
    let error = client().resolve(&name("huge"), None).await.unwrap_err();
    assert!(error.to_string().contains("larger than"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn indexes_nest_only_so_deep() {
    let (fake, made, store) = scene(&[1_000]).await;
    let wrap = |child: &Descriptor| {
        let mut entry = child.clone();
        entry.platform = Some(amd64());
        let entry = String::from_utf8(forge_store::image::to_json(&entry)).unwrap();
        format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{entry}]}}"#).into_bytes()
    };
    let mut child = made.root.clone();
    for depth in 1..=50 {
        let bytes = wrap(&child);
        fake.hold_manifest("app", &format!("deep{depth}"), OCI_INDEX, &bytes);
        child = Descriptor::new(MediaType::ImageIndex, Digest::of(&bytes), bytes.len() as u64);
    }
    let pull = async |depth: u32| {
        let name: Reference = format!("{}/app:deep{depth}", fake.host()).parse().unwrap();
        client().fetch_image(&name, &amd64(), &store.blobs).await
    };
    assert_eq!(pull(8).await.unwrap().manifest_descriptor.digest, made.root.digest);
    for depth in [9, 50] {
        assert!(pull(depth).await.unwrap_err().to_string().contains("nest deeper"), "{depth}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_lies_about_its_children_is_refused() {
    let fake = Fake::start().await;
    let (store, made) = (TestStore::new(), TestStore::new());
    let (root, images) = index(&made.blobs, &["amd64"]);
    let bytes = made.blobs.read(&root.digest, 1 << 20).unwrap().unwrap();
    fake.hold("app", "child", &images[0]);
    // The child is called a manifest here, and an index by the one who serves it.
    let lie = String::from_utf8(bytes)
        .unwrap()
        .replace(OCI, "application/vnd.docker.distribution.manifest.v2+json");
    fake.hold_manifest("app", "1", OCI_INDEX, lie.as_bytes());
    let error = client().fetch_image(&reference(&fake), &amd64(), &store.blobs).await.unwrap_err();
    assert!(error.to_string().contains("its index calls it"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_urls_are_never_fetched() {
    let (fake, made, store) = scene(&[1_000]).await;
    let elsewhere = Fake::start().await;
    let mut layer = made.manifest.layers[0].clone();
    layer.media_type = MediaType::ImageLayerNonDistributable;
    layer.urls = vec![
        format!("http://{}/v2/app/blobs/{}", elsewhere.host(), layer.digest),
        "file:///etc/passwd".into(),
    ];
    fake.state().blobs.clear();
    let error = fetch_layer(&client(), &fake, &layer, &store).await;
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(elsewhere.state().log.is_empty());
    // The registry itself may have it after all.
    fake.hold_blob("app", &made.layers[0]);
    let reference = reference(&fake);
    client().fetch_blob(reference.repository(), &layer, &store.blobs, &progress::silent()).await.unwrap();
    assert!(elsewhere.state().log.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encoded_answers_and_floods_of_headers_are_refused() {
    let (fake, made, store) = scene(&[1_000]).await;
    let layer = &made.manifest.layers[0];
    fake.plan(|r, _| {
        let reply = Reply::new(200).header("content-encoding", "gzip").body(noise(1, 100));
        if r.method == "GET" { Fault::Instead(reply) } else { Fault::None }
    });
    assert_eq!(fetch_layer(&client(), &fake, layer, &store).await.kind(), ErrorKind::Protocol);
    assert_eq!(client().resolve(&reference(&fake), None).await.unwrap_err().kind(), ErrorKind::Protocol);
    assert!(fake.state().log.iter().all(|r| r.header("accept-encoding") == Some("identity")));
    for flood in [
        (0..100_000).fold(Reply::new(200), |reply, n| reply.header(&format!("x-{n}"), "y")),
        Reply::new(200).header("x", "y".repeat(1 << 20)),
    ] {
        fake.plan(move |_, _| Fault::Instead(flood.clone()));
        let error = fetch_layer(&client(), &fake, layer, &store).await;
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    }
    assert!(store.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn error_bodies_are_bounded_and_cleaned() {
    let fake = Fake::start().await;
    let client = Client::new(impatient());
    let wild = r#"{"errors":[{"code":"X","message":"\u001b[2J\u001b]52;c;aGk=\u0007 http://me:pw@host/ \n\rgone"}]}"#;
    fake.plan(move |_, _| Fault::Instead(Reply::new(404).body(wild)));
    let error = client.tags(reference(&fake).repository()).await.unwrap_err().to_string();
    assert!(error.contains("gone") && error.contains("xxxxx@host"), "{error}");
    assert!(!error.contains(char::is_control) && !error.contains("pw"), "{error:?}");
    fake.plan(move |_, _| Fault::Instead(Reply::new(404).body(noise(1, 1000)).trouble(Trouble::Endless)));
    assert_eq!(client.tags(reference(&fake).repository()).await.unwrap_err().kind(), ErrorKind::NotFound);
    fake.plan(move |_, _| Fault::Instead(Reply::new(403).body("no").trouble(Trouble::StallAfter(1))));
    assert_eq!(client.tags(reference(&fake).repository()).await.unwrap_err().kind(), ErrorKind::Denied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_tags_stay_on_the_registry() {
    let fake = Fake::start().await;
    let elsewhere = Fake::start().await;
    let link = format!("<http://{}/v2/app/tags/list?n=2>; rel=\"next\"", elsewhere.host());
    fake.plan(move |_, _| {
        Fault::Instead(Reply::new(200).header("link", link.clone()).body(r#"{"tags":["a"]}"#))
    });
    let error = client().tags(reference(&fake).repository()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert!(elsewhere.state().log.is_empty());
    fake.plan(|r, _| match r.param("last") {
        None => Fault::Instead(
            Reply::new(200)
                .header("link", "</v2/app/tags/list?last=a>; rel=\"next\"")
                .body(r#"{"tags":["a"]}"#),
        ),
        Some(_) => Fault::Instead(Reply::new(200).body(r#"{"tags":["b"]}"#)),
    });
    assert_eq!(client().tags(reference(&fake).repository()).await.unwrap(), ["a", "b"]);
}
