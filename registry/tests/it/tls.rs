//! TLS: whom to trust, and how to say that someone is not to be trusted.

use forge_registry::{Client, ClientConfig, ErrorKind, HostConfig, PushOptions, Reference, progress};

use crate::support::authority::Authority;
use crate::support::docker::DockerRegistry;
use crate::support::image::image;
use crate::support::{TestStore, quick};

fn client(registry: &DockerRegistry, host: HostConfig) -> Client {
    Client::new(ClientConfig { hosts: [(registry.host(), host)].into(), ..quick() })
}

fn trusting(authority: &Authority) -> HostConfig {
    HostConfig { ca_certificates: vec![authority.pem()], ..HostConfig::default() }
}

async fn ask(client: &Client, registry: &DockerRegistry) -> ErrorKind {
    let name: Reference = format!("{}/app:1", registry.host()).parse().unwrap();
    client.resolve(&name, None).await.unwrap_err().kind()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_own_authority_is_trusted_where_it_is_given() {
    let authority = Authority::new();
    let (cert, key) = authority.issue("IP:127.0.0.1,DNS:localhost", false);
    let registry = DockerRegistry::with_tls(&cert, &key);
    let store = TestStore::new();
    let made = image(&store.blobs, &[300_000]);
    let name: Reference = format!("{}/app:1", registry.host()).parse().unwrap();
    let client = client(&registry, trusting(&authority));
    let none = PushOptions::default();
    client.push(&name, &made.root, &store.blobs, &none, &progress::silent()).await.unwrap();
    assert_eq!(client.resolve(&name, None).await.unwrap().descriptor, made.root);
    let other = TestStore::new();
    let (repository, silent) = (name.repository(), progress::silent());
    client.fetch_blobs(repository, &made.manifest.layers, &other.blobs, &silent).await.unwrap();
    // For all hosts at once, too.
    let tls = HostConfig { plain_http: Some(false), ..HostConfig::default() };
    let hosts = [(registry.host(), tls)].into();
    let everywhere = Client::new(ClientConfig { ca_certificates: vec![authority.pem()], hosts, ..quick() });
    assert_eq!(everywhere.resolve(&name, None).await.unwrap().descriptor, made.root);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_prove_himself_is_not_trusted() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (cert, key) = authority.issue("IP:127.0.0.1", false);
    let registry = DockerRegistry::with_tls(&cert, &key);
    let unknown = client(&registry, trusting(&stranger));
    assert_eq!(ask(&unknown, &registry).await, ErrorKind::Tls);
    assert_eq!(ask(&client(&registry, trusting(&authority)), &registry).await, ErrorKind::NotFound);
    let blind = HostConfig { skip_tls_verify: true, ..HostConfig::default() };
    assert_eq!(ask(&client(&registry, blind), &registry).await, ErrorKind::NotFound);
    for (names, expired) in [("DNS:other.example", false), ("IP:127.0.0.2", false), ("IP:127.0.0.1", true)] {
        let (cert, key) = authority.issue(names, expired);
        let registry = DockerRegistry::with_tls(&cert, &key);
        assert_eq!(ask(&client(&registry, trusting(&authority)), &registry).await, ErrorKind::Tls, "{names}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wrong_protocol_says_so() {
    let authority = Authority::new();
    let (cert, key) = authority.issue("IP:127.0.0.1", false);
    let registry = DockerRegistry::with_tls(&cert, &key);
    // Loopback is plain http unless something speaks of TLS.
    let name: Reference = format!("{}/app:1", registry.host()).parse().unwrap();
    let error = client(&registry, HostConfig::default()).tags(name.repository()).await.unwrap_err();
    assert!(error.to_string().contains("plain_http"), "{error}");
    let plain = DockerRegistry::plain();
    let tls = HostConfig { plain_http: Some(false), ..HostConfig::default() };
    assert_eq!(ask(&client(&plain, tls), &plain).await, ErrorKind::Tls);
}

#[tokio::test]
async fn certificates_that_are_none_are_told() {
    for host in [
        HostConfig {
            ca_certificates: vec![b"junk".to_vec()],
            plain_http: Some(false),
            ..HostConfig::default()
        },
        HostConfig { identity: Some(b"junk".to_vec()), ..HostConfig::default() },
    ] {
        let client = Client::new(ClientConfig { hosts: [("127.0.0.1:9".into(), host)].into(), ..quick() });
        let error = client.resolve(&"127.0.0.1:9/x".parse().unwrap(), None).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Settings | ErrorKind::Tls), "{error}");
    }
}
