//! Debian's `docker-registry`, with skopeo as the judge of what we push and the maker of what we pull.

use std::sync::Arc;

use forge_registry::{
    Client, ClientConfig, Credential, Credentials, ErrorKind, PushOptions, Reference, progress,
};
use forge_store::{Digest, Platform};

use crate::support::docker::DockerRegistry;
use crate::support::image::{assert_has, image, index};
use crate::support::token_server::{Signer, TokenServer};
use crate::support::{Counter, TestStore, client, quick, run};

fn amd64() -> Platform {
    Platform::new("linux", "amd64", None)
}

fn reference(host: &str, rest: &str) -> Reference {
    format!("{host}/{rest}").parse().unwrap()
}

/// Pushes an image with several layers and pulls it into another store; says how many bytes were pushed.
async fn there_and_back(client: &Client, host: &str) -> u64 {
    let (here, there) = (TestStore::new(), TestStore::new());
    let made = image(&here.blobs, &[10, 70_000, 300_000]);
    let target = reference(host, "group/app:v1");
    let (counter, progress) = Counter::new();
    // Spawned: callers push while they do other things.
    let (pusher, name, root, blobs) = (client.clone(), target.clone(), made.root.clone(), here.blobs.clone());
    let push = async move { pusher.push(&name, &root, &blobs, &PushOptions::default(), &progress).await };
    let pushed = tokio::spawn(push).await.unwrap().unwrap();
    assert_eq!(pushed, made.root);
    let pulled = client.fetch_image(&target, &amd64(), &there.blobs).await.unwrap();
    assert_eq!((&pulled.root, &pulled.manifest), (&made.root, &made.manifest));
    assert_eq!(pulled.config_bytes, made.config_bytes);
    let layers = &pulled.manifest.layers;
    client.fetch_blobs(target.repository(), layers, &there.blobs, &progress::silent()).await.unwrap();
    assert_has(&there.blobs, &made);
    counter.bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushed_images_come_back_and_skopeo_agrees() {
    let registry = DockerRegistry::plain();
    let client = Client::new(ClientConfig { chunk_bytes: 100_000, ..quick() });
    there_and_back(&client, &registry.host()).await;
    let name = format!("docker://{}/group/app:v1", registry.host());
    let inspected = run("skopeo", &["inspect", "--tls-verify=false", &name]);
    assert!(inspected.contains("\"Architecture\": \"amd64\""), "{inspected}");
    assert_eq!(inspected.matches("sha256:").count(), 4, "manifest and layers: {inspected}");
    let dir = tempfile::tempdir().unwrap();
    let copy = format!("dir:{}", dir.path().display());
    run("skopeo", &["copy", "--src-tls-verify=false", &name, &copy]);
    let tags = client.tags(reference(&registry.host(), "group/app").repository()).await.unwrap();
    assert_eq!(tags, ["v1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_is_not_sent_again() {
    let registry = DockerRegistry::plain();
    let (store, client) = (TestStore::new(), client());
    let made = image(&store.blobs, &[100_000]);
    let none = PushOptions::default();
    let (counter, progress) = Counter::new();
    let first = reference(&registry.host(), "one:1");
    client.push(&first, &made.root, &store.blobs, &none, &progress).await.unwrap();
    let sent = counter.bytes();
    assert_eq!(sent, (made.layers[0].len() + made.config_bytes.len()) as u64);
    // The same again under another tag: only the manifest goes.
    client
        .push(&reference(&registry.host(), "one:2"), &made.root, &store.blobs, &none, &progress)
        .await
        .unwrap();
    assert_eq!(counter.bytes(), sent);
    // To another repository: mounted, because the store remembers who has the blobs.
    client
        .push(&reference(&registry.host(), "two:1"), &made.root, &store.blobs, &none, &progress)
        .await
        .unwrap();
    assert_eq!(counter.bytes(), sent);
    let name = format!("docker://{}/two:1", registry.host());
    run("skopeo", &["inspect", "--tls-verify=false", &name]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_base_is_pushed_onwards_without_its_layers_here() {
    let registry = DockerRegistry::plain();
    let (store, client) = (TestStore::new(), client());
    let made = image(&store.blobs, &[50_000]);
    let base = reference(&registry.host(), "base:1");
    let none = PushOptions::default();
    client.push(&base, &made.root, &store.blobs, &none, &progress::silent()).await.unwrap();
    let other = TestStore::new();
    let pulled = client.fetch_image(&base, &amd64(), &other.blobs).await.unwrap();
    let onwards = reference(&registry.host(), "onwards:1");
    client.push(&onwards, &pulled.root, &other.blobs, &none, &progress::silent()).await.unwrap();
    assert!(
        !other.blobs.contains(&made.manifest.layers[0].digest).unwrap(),
        "the layer was never needed here"
    );
    // To another registry, there is no way but through here.
    let second = DockerRegistry::plain();
    let far = reference(&second.host(), "far:1");
    client.push(&far, &pulled.root, &other.blobs, &none, &progress::silent()).await.unwrap();
    assert!(second.has_blob(&Digest::of(&made.layers[0]).hex()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_is_pushed_whole_and_pulled_in_part() {
    let registry = DockerRegistry::plain();
    let (here, there, client) = (TestStore::new(), TestStore::new(), client());
    let (root, images) = index(&here.blobs, &["amd64", "arm64", "s390x"]);
    let target = reference(&registry.host(), "many:1");
    let none = PushOptions::default();
    client.push(&target, &root, &here.blobs, &none, &progress::silent()).await.unwrap();
    let wanted = Platform::new("linux", "arm64", Some("v8".into()));
    let pulled = client.fetch_image(&target, &wanted, &there.blobs).await.unwrap();
    assert_eq!((pulled.root.digest, pulled.manifest_descriptor.digest), (root.digest, images[1].root.digest));
    assert!(!there.blobs.contains(&images[0].root.digest).unwrap());
    let missing = Platform::new("linux", "riscv64", None);
    let error = client.fetch_image(&target, &missing, &there.blobs).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("linux/amd64, linux/arm64, linux/s390x"), "{error}");
    let name = format!("docker://{}/many:1", registry.host());
    let raw = run("skopeo", &["inspect", "--raw", "--tls-verify=false", &name]);
    assert_eq!(Digest::of(raw.as_bytes()), root.digest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_are_pushed_by_digest_alone() {
    let registry = DockerRegistry::plain();
    let (store, client) = (TestStore::new(), client());
    let made = image(&store.blobs, &[1000]);
    let repository = reference(&registry.host(), "untagged").repository().clone();
    let target = repository.pinned(made.root.digest);
    let none = PushOptions::default();
    client.push(&target, &made.root, &store.blobs, &none, &progress::silent()).await.unwrap();
    assert_eq!(client.resolve(&target, None).await.unwrap().descriptor, made.root);
    // Without a tag, docker-registry knows no list of them.
    assert_eq!(client.tags(&repository).await.unwrap_err().kind(), ErrorKind::NotFound);
    let other = image(&store.blobs, &[1001]);
    let error =
        client.push(&target, &other.root, &store.blobs, &none, &progress::silent()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_skopeo_pushes_is_pulled() {
    let registry = DockerRegistry::plain();
    let (here, client) = (TestStore::new(), client());
    let made = image(&here.blobs, &[20_000, 30_000]);
    let first = reference(&registry.host(), "oci:1");
    client.push(&first, &made.root, &here.blobs, &PushOptions::default(), &progress::silent()).await.unwrap();
    // skopeo compresses the layers and writes a Docker manifest of its own.
    let source = format!("docker://{}/oci:1", registry.host());
    let target = format!("docker://{}/docker:1", registry.host());
    let plain = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    run("skopeo", &["copy", plain[0], plain[1], "--format", "v2s2", "--dest-compress", &source, &target]);
    let there = TestStore::new();
    let docker = reference(&registry.host(), "docker:1");
    let pulled = client.fetch_image(&docker, &amd64(), &there.blobs).await.unwrap();
    assert!(forge_store::media_type::is_manifest(&pulled.root.media_type));
    assert_ne!(pulled.root.media_type, made.root.media_type);
    let layers = &pulled.manifest.layers;
    client.fetch_blobs(docker.repository(), layers, &there.blobs, &progress::silent()).await.unwrap();
    assert_eq!(pulled.config.rootfs.diff_ids, {
        made.layers.iter().map(|layer| forge_store::DiffId::new(Digest::of(layer))).collect::<Vec<_>>()
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_are_asked_for_and_checked() {
    let registry = DockerRegistry::with_password();
    let login = |password: &str| {
        let credentials = Credentials::default().with(registry.host(), Credential::basic("forge", password));
        Client::new(ClientConfig { credentials, ..quick() })
    };
    login("s3cret").check_login(&registry.host()).await.unwrap();
    there_and_back(&login("s3cret"), &registry.host()).await;
    let error = login("wr0ng").check_login(&registry.host()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    assert!(error.to_string().contains(&format!("forge login {}", registry.host())), "{error}");
    assert!(!error.to_string().contains("wr0ng"), "{error}");
    let error = client().resolve(&reference(&registry.host(), "x"), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_fetched_with_the_rights_that_are_needed() {
    let signer = Arc::new(Signer::new());
    let tokens = TokenServer::start(signer.clone(), 60).await;
    let registry = DockerRegistry::with_tokens(&tokens.realm(), &signer.certificate);
    let credentials = Credentials::default().with(registry.host(), Credential::basic("forge", "s3cret"));
    let client = Client::new(ClientConfig { credentials, chunk_bytes: 20_000, ..quick() });
    client.check_login(&registry.host()).await.unwrap();
    there_and_back(&client, &registry.host()).await;
    let scopes: Vec<String> = tokens
        .asked
        .lock()
        .unwrap()
        .iter()
        .flat_map(|r| r.query.get("scope").cloned().unwrap_or_default())
        .collect();
    assert!(scopes.contains(&"repository:group/app:pull,push".to_owned()), "{scopes:?}");
    // Without a login, the token server refuses, and that is what is told.
    let anonymous = Client::new(quick());
    let error = anonymous.resolve(&reference(&registry.host(), "group/app:v1"), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blobs_are_sent_while_they_are_made() {
    let registry = DockerRegistry::plain();
    let client = client();
    let repository = reference(&registry.host(), "streamed").repository().clone();
    let bytes = crate::support::noise(7, 50_000);
    let mut upload = client.start_upload(&repository).await.unwrap();
    for piece in bytes.chunks(12_000) {
        upload.append(bytes::Bytes::copy_from_slice(piece)).await.unwrap();
    }
    assert_eq!(upload.offset(), 50_000);
    upload.finish(&Digest::of(&bytes)).await.unwrap();
    assert!(registry.has_blob(&Digest::of(&bytes).hex()));
}

#[tokio::test]
async fn names_that_are_not_there_say_so() {
    let registry = DockerRegistry::plain();
    let error = client().resolve(&reference(&registry.host(), "nobody/nothing:1"), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let text = error.to_string();
    assert!(text.contains("nobody/nothing:1") && text.contains(&registry.host()), "{text}");
    let error = client().resolve(&"127.0.0.1:1/x".parse().unwrap(), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}
