//! Where a registry may lead us and what its connections may do: rules R06 to R16, each input that `../README.md`
//! lists and that no other file has.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forge_registry::{
    Client, ClientConfig, Credential, Credentials, ErrorKind, HostConfig, PushOptions, Reference,
    RegistryError, Timeouts, progress,
};
use forge_store::{Descriptor, MediaType, Platform};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::authority::Authority;
use crate::support::fake::{Fake, Fault};
use crate::support::http::{Reply, Request, Server, Trouble};
use crate::support::image::{TestImage, assert_has, image};
use crate::support::{TestStore, impatient, quick, run, try_run};

const PASSWORD: &str = "hunter2-s3cret";

async fn scene(sizes: &[usize]) -> (Fake, TestImage, Reference) {
    let fake = Fake::start().await;
    let made = image(&TestStore::new().blobs, sizes);
    fake.hold("app", "1", &made);
    let name = name_at(&fake);
    (fake, made, name)
}

fn name_at(fake: &Fake) -> Reference {
    format!("{}/app:1", fake.host()).parse().unwrap()
}

fn with_password(host: &str, config: ClientConfig) -> Client {
    let credentials = Credentials::default().with(host, Credential::basic("me", PASSWORD));
    Client::new(ClientConfig { credentials, ..config })
}

async fn pull(client: &Client, name: &Reference) -> Result<TestStore, RegistryError> {
    let store = TestStore::new();
    let pulled = client.fetch_image(name, &Platform::new("linux", "amd64", None), &store.blobs).await?;
    let layers = &pulled.manifest.layers;
    client.fetch_blobs(name.repository(), layers, &store.blobs, &progress::silent()).await?;
    Ok(store)
}

async fn push(
    client: &Client,
    name: &Reference,
    made: &TestImage,
    store: &TestStore,
) -> Result<(), RegistryError> {
    let (none, silent) = (PushOptions::default(), progress::silent());
    client.push(name, &made.root, &store.blobs, &none, &silent).await.map(drop)
}

/// A server that notes who asked it, and answers like this.
async fn noting(reply: Reply) -> (Server, Arc<Mutex<Vec<Request>>>) {
    let asked: Arc<Mutex<Vec<Request>>> = Arc::default();
    let log = asked.clone();
    let server = Server::start(Arc::new(move |request: Request| {
        log.lock().unwrap().push(request);
        reply.clone()
    }));
    (server.await, asked)
}

fn bearer(realm: &str) -> Reply {
    Reply::new(401).header("www-authenticate", format!("Bearer realm=\"{realm}\",service=\"svc\""))
}

/// A registry by TLS that forge trusts, and the settings for it.
async fn trusted() -> (Fake, ClientConfig, Authority) {
    let authority = Authority::new();
    let fake = Fake::start_tls(authority.acceptor(&[b"http/1.1"], false), 0).await;
    let host = HostConfig { plain_http: Some(false), ..HostConfig::default() };
    let hosts = [(fake.host(), host)].into();
    let config = ClientConfig { hosts, ca_certificates: vec![authority.pem()], ..quick() };
    (fake, config, authority)
}

/// R06: what `urls` say is never asked, whatever they lead to. skopeo does ask: the input fires.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn urls_of_layers_lead_nowhere() {
    let (thief, stolen) = noting(Reply::new(200).body(r#"{"token":"t"}"#)).await;
    let challenge = bearer(&format!("http://{}/token", thief.host()));
    let (challenging, challenged) = noting(challenge).await;
    let metadata = Reply::new(302).header("location", "http://169.254.169.254/latest/meta-data");
    let (redirecting, redirected) = noting(metadata).await;
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    for url in [
        "http://169.254.169.254/latest/meta-data".to_owned(),
        format!("http://{}/layer", redirecting.host()),
        "file:///etc/passwd".into(),
        format!("http://{}/layer", challenging.host()),
    ] {
        let (fake, made, name) = scene(&[1_000]).await;
        for kind in [foreign, "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"] {
            let mut layer = made.manifest.layers[0].clone();
            layer.media_type = MediaType::from(kind);
            layer.urls = vec![url.clone()];
            fake.state().blobs.remove(&("app".into(), layer.digest));
            let store = TestStore::new();
            let silent = progress::silent();
            let client = with_password(&challenging.host(), quick());
            let error =
                client.fetch_blob(name.repository(), &layer, &store.blobs, &silent).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{url}: {error}");
            assert!(store.is_empty(), "{:?}", store.files());
        }
    }
    for log in [&stolen, &challenged, &redirected] {
        assert!(log.lock().unwrap().is_empty());
    }
    let (fake, mut made, _) = scene(&[1_000]).await;
    made.manifest.layers[0].media_type = MediaType::from(foreign);
    made.manifest.layers[0].urls = vec![format!("http://{}/layer", challenging.host())];
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    let text = String::from_utf8(forge_store::image::to_json(&made.manifest)).unwrap();
    let text = text.replace("application/vnd.oci.image.manifest.v1+json", docker);
    let text = text.replace(
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    );
    fake.hold_manifest("app", "1", docker, text.as_bytes());
    let from = format!("docker://{}/app:1", fake.host());
    tokio::task::spawn_blocking(move || {
        let dir = tempfile::tempdir().unwrap();
        try_run(
            "skopeo",
            &["copy", "--src-tls-verify=false", &from, &format!("dir:{}", dir.path().display())],
        )
    })
    .await
    .unwrap();
    assert!(!challenged.lock().unwrap().is_empty(), "skopeo asks the layer's own address");
}

/// R07: a redirect off TLS is refused; nobody is asked there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redirects_do_not_leave_tls() {
    let (fake, config, _authority) = trusted().await;
    let (plain, asked) = noting(Reply::new(200)).await;
    let to = format!("http://{}/blob", plain.host());
    for status in [301, 302, 303, 307, 308] {
        let location = to.clone();
        fake.plan(move |r, _| {
            let reply = Reply::new(status).header("location", location.clone());
            if r.method == "GET" { Fault::Instead(reply) } else { Fault::None }
        });
        let layer = Descriptor::new(MediaType::ImageLayer, forge_store::Digest::of(b"x"), 1);
        let (store, silent) = (TestStore::new(), progress::silent());
        let client = with_password(&fake.host(), config.clone());
        let repository = name_at(&fake).repository().clone();
        let error = client.fetch_blob(&repository, &layer, &store.blobs, &silent).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(error.to_string().contains("without TLS"), "{error}");
        assert!(store.is_empty());
    }
    assert!(asked.lock().unwrap().is_empty());
}

/// R08: from a registry by TLS, a token server without it is refused; one on another host by TLS is asked, and gets
/// the login, as Docker Hub has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn realms_do_not_leave_tls() {
    let (fake, config, authority) = trusted().await;
    let made = image(&TestStore::new().blobs, &[10]);
    fake.hold("app", "1", &made);
    let (plain, asked) = noting(Reply::new(200).body(r#"{"token":"t"}"#)).await;
    let realm = format!("http://{}/token", plain.host());
    fake.guard(move |_| Some(bearer(&realm)));
    let client = with_password(&fake.host(), config.clone());
    let error = client.resolve(&name_at(&fake), None).await.unwrap_err();
    assert!(error.to_string().contains("token server without TLS"), "{error}");
    assert!(asked.lock().unwrap().is_empty());

    let tokens = Fake::start_tls(authority.acceptor(&[b"http/1.1"], false), 0).await;
    tokens.plan(|_, _| Fault::Instead(Reply::new(200).body(r#"{"token":"good"}"#)));
    let realm = format!("https://{}/token", tokens.host());
    fake.guard(move |r| (r.header("authorization") != Some("Bearer good")).then(|| bearer(&realm)));
    let host = HostConfig { plain_http: Some(false), ..HostConfig::default() };
    let mut config = config;
    config.hosts.insert(tokens.host(), host);
    let client = with_password(&fake.host(), config);
    assert_eq!(client.resolve(&name_at(&fake), None).await.unwrap().descriptor, made.root);
    assert!(tokens.state().log[0].header("authorization").is_some_and(|value| value.starts_with("Basic ")));
}

/// R08: 10⁴ challenges, in one header and in as many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_challenges() {
    let one = Reply::new(401).header("www-authenticate", "X a=\"b\\\"c\", ".repeat(10_000));
    let many = (0..10_000)
        .fold(Reply::new(401), |reply, n| reply.header("www-authenticate", format!("X{n} junk = ; \"")));
    for flood in [one, many] {
        let (fake, _, name) = scene(&[10]).await;
        fake.guard(move |_| Some(flood.clone()));
        let error = with_password(&fake.host(), quick()).resolve(&name, None).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Protocol | ErrorKind::Unreachable), "{error}");
        assert!(fake.state().log.len() <= 6);
    }
}

/// R09: an upload goes where the registry says, relative or elsewhere; the login stays at home, and TLS is not left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_elsewhere_carry_bytes_and_no_login() {
    let fake = Fake::start().await;
    let store = TestStore::new();
    let made = image(&store.blobs, &[50_000]);
    fake.guard(|r| {
        r.header("authorization").is_none().then(|| Reply::new(401).header("www-authenticate", "Basic"))
    });
    fake.state().relative_uploads = true;
    push(&with_password(&fake.host(), quick()), &name_at(&fake), &made, &store).await.unwrap();
    assert!(fake.has("app", &made));

    let (storage, took) = noting(Reply::new(201)).await;
    let to = format!("http://{}/evil?x=1", storage.host());
    fake.state().blobs.clear();
    fake.plan(move |r, _| {
        let reply = Reply::new(202).header("location", to.clone());
        if r.method == "POST" { Fault::Instead(reply) } else { Fault::None }
    });
    push(&with_password(&fake.host(), quick()), &name_at(&fake), &made, &store).await.unwrap();
    {
        let took = took.lock().unwrap();
        assert_eq!(took.len(), 2, "layer and configuration");
        assert!(
            took.iter().all(|r| r.method == "PUT"
                && r.header("authorization").is_none()
                && r.param("x") == Some("1"))
        );
        assert!(took.iter().any(|r| r.body == made.layers[0]));
    }
    let (fake, config, _authority) = trusted().await;
    let to = format!("http://{}/evil", storage.host());
    fake.plan(move |r, _| {
        let reply = Reply::new(202).header("location", to.clone());
        if r.method == "POST" { Fault::Instead(reply) } else { Fault::None }
    });
    let error = push(&Client::new(config), &name_at(&fake), &made, &store).await.unwrap_err();
    assert!(error.to_string().contains("an address without TLS"), "{error}");
    assert_eq!(took.lock().unwrap().len(), 2);
}

/// R12: resets in the middle of a body, TLS that is not answered, a token server that is reset.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resets_and_silent_handshakes_are_outlived() {
    let (fake, made, name) = scene(&[300_000]).await;
    let count = AtomicUsize::new(0);
    fake.plan(move |r, _| match r.path.contains("/blobs/") && count.fetch_add(1, Ordering::Relaxed) < 3 {
        true => Fault::With(Trouble::ResetAfter(90_000)),
        false => Fault::None,
    });
    assert_has(&pull(&Client::new(quick()), &name).await.unwrap().blobs, &made);

    let authority = Authority::new();
    let fake = Fake::start_tls(authority.acceptor(&[b"http/1.1"], false), 2).await;
    fake.hold("app", "1", &made);
    let host = HostConfig { ca_certificates: vec![authority.pem()], ..HostConfig::default() };
    let timeouts = Timeouts { connect: Duration::from_millis(300), ..Timeouts::default() };
    let config = ClientConfig { hosts: [(fake.host(), host)].into(), timeouts, ..quick() };
    assert_has(&pull(&Client::new(config), &name_at(&fake)).await.unwrap().blobs, &made);

    let (fake, made, name) = scene(&[10]).await;
    let asked = AtomicUsize::new(0);
    let tokens = Server::start(Arc::new(move |_: Request| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::new(200).body("{\"token\":\"good\"}").trouble(Trouble::ResetAfter(0)),
        1 => Reply::new(200).body("{\"token\":\"good\"}").trouble(Trouble::ResetAfter(5)),
        _ => Reply::new(200).body(r#"{"token":"good"}"#),
    }))
    .await;
    let realm = format!("http://{}/token", tokens.host());
    fake.guard(move |r| (r.header("authorization") != Some("Bearer good")).then(|| bearer(&realm)));
    let client = with_password(&fake.host(), quick());
    assert_eq!(client.resolve(&name, None).await.unwrap().descriptor, made.root);
}

/// R13: a token that expires before the second chunk, the end of the blob, or the manifest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_expire_at_any_point_of_a_push() {
    for (method, part, nth) in [
        ("PATCH", "/uploads/", 0),
        ("PATCH", "/uploads/", 2),
        ("PUT", "/uploads/", 0),
        ("POST", "/uploads/", 1),
        ("PUT", "/manifests/", 0),
        ("HEAD", "/blobs/", 1),
    ] {
        let fake = Fake::start().await;
        let issued = AtomicUsize::new(0);
        let tokens = Server::start(Arc::new(move |_: Request| {
            let n = issued.fetch_add(1, Ordering::Relaxed);
            Reply::new(200).body(format!(r#"{{"token":"t{n}"}}"#))
        }))
        .await;
        let realm = format!("http://{}/token", tokens.host());
        let seen = Mutex::new(0);
        fake.guard(move |r| {
            let mut seen = seen.lock().unwrap();
            let is_it = r.method == method && r.path.contains(part) && r.header("authorization").is_some();
            *seen += usize::from(is_it);
            let expired = is_it && *seen == nth + 1;
            (expired || r.header("authorization").is_none()).then(|| bearer(&realm))
        });
        let store = TestStore::new();
        let made = image(&store.blobs, &[500_000]);
        let client = with_password(&fake.host(), ClientConfig { chunk_bytes: 100_000, ..quick() });
        let pushed = push(&client, &name_at(&fake), &made, &store).await;
        let shown = format!("{method} {part} {nth}");
        pushed.unwrap_or_else(|e| panic!("{shown}: {e}"));
        assert!(fake.has("app", &made), "{shown}");
        let sent = (made.layers[0].len() + made.config_bytes.len()) as u64;
        assert_eq!(fake.state().received, sent, "{shown}: nothing was taken twice");
    }
}

/// R15: floods of HTTP/2 frames end in an error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_frames_end_in_an_error() {
    let frame = |kind: u8, flags: u8, stream: u32, body: &[u8]| {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), body].concat()
    };
    let authority = Authority::new();
    for (what, flood) in [
        ("resets", frame(3, 0, 1, &[0, 0, 0, 8])),
        ("pings", frame(6, 0, 0, &[7; 8])),
        ("settings", frame(4, 0, 0, &[0, 3, 0, 0, 0, 100])),
        ("empty data", frame(0, 0, 1, &[])),
        ("continuations", frame(9, 0, 1, &[0x40, 1, b'a', 1, b'b'])),
        ("window updates", frame(8, 0, 0, &[0, 0, 0, 1])),
    ] {
        let acceptor = authority.acceptor(&[b"h2"], false);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (settings, headers) = (frame(4, 0, 0, &[]), frame(1, 0, 1, &[0x88]));
        let begins_with_headers = what == "continuations";
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, flood) = (acceptor.clone(), flood.repeat(1_000));
                let (settings, headers) = (settings.clone(), headers.clone());
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let _ = stream.read_u8().await;
                    let _ = stream.write_all(&settings).await;
                    // The request is there before its answer is.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    if begins_with_headers {
                        let _ = stream.write_all(&headers).await;
                    }
                    while stream.write_all(&flood).await.is_ok() {}
                });
            }
        });
        let own = HostConfig { ca_certificates: vec![authority.pem()], ..HostConfig::default() };
        let config = ClientConfig { hosts: [(host.clone(), own)].into(), ..impatient() };
        let name: Reference = format!("{host}/app:1").parse().unwrap();
        let error = Client::new(config).resolve(&name, None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{what}: {error}");
        server.abort();
    }
}

/// R16: TLS 1.0, and a certificate that only its owner signed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_tls_and_self_signed_certificates_are_refused() {
    let authority = Authority::new();
    authority.issue("IP:127.0.0.1", false);
    let (cert, key) = (authority.path("cert"), authority.path("key"));
    let (own_cert, own_key) = (authority.path("own.pem"), authority.path("own.key"));
    run(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=127.0.0.1",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            &own_key,
            "-out",
            &own_cert,
        ],
    );
    let old = ["-tls1", "-cipher", "ALL:@SECLEVEL=0"];
    for (cert, key, more, is_old) in [(&cert, &key, &old[..], true), (&own_cert, &own_key, &[][..], false)] {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Command::new("openssl")
            .args(["s_server", "-quiet", "-accept", &format!("127.0.0.1:{port}"), "-cert", cert, "-key", key])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("install openssl");
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let host = format!("127.0.0.1:{port}");
        if is_old {
            // Somebody who still speaks it is served: the refusal is ours.
            let seen = Command::new("openssl")
                .args(["s_client", "-connect", &host])
                .args(old)
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
            assert!(seen.contains("Protocol  : TLSv1\n"), "{seen}");
        }
        let own = HostConfig { ca_certificates: vec![authority.pem()], ..HostConfig::default() };
        let config = ClientConfig { hosts: [(host.clone(), own)].into(), ..quick() };
        let name: Reference = format!("{host}/app:1").parse().unwrap();
        let error = Client::new(config).resolve(&name, None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
        server.kill().unwrap();
        server.wait().unwrap();
    }
}

/// A server that wants a certificate of ours: said at once where there is none or the wrong one, and served with the
/// right one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_certificates_are_missed_at_once() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let pem = |(cert, key): (String, String)| [cert, key].concat().into_bytes();
    let own = pem(authority.issue("DNS:me", false));
    let other = pem(stranger.issue("DNS:me", false));
    let fake = Fake::start_tls(authority.acceptor(&[b"h2", b"http/1.1"], true), 0).await;
    // Without h2 the server of the test would not understand.
    let fake_h1 = Fake::start_tls(authority.acceptor(&[b"http/1.1"], true), 0).await;
    let store = TestStore::new();
    let made = image(&store.blobs, &[100]);
    for (identity, why) in
        [(None, "there is none for it"), (Some(other), "refuses the client certificate"), (Some(own), "")]
    {
        for fake in [&fake, &fake_h1] {
            let host = HostConfig {
                ca_certificates: vec![authority.pem()],
                identity: identity.clone(),
                ..HostConfig::default()
            };
            let config = ClientConfig { hosts: [(fake.host(), host)].into(), ..ClientConfig::default() };
            if why.is_empty() {
                if std::ptr::eq(fake, &fake_h1) {
                    push(&Client::new(config), &name_at(fake), &made, &store).await.unwrap();
                    assert!(fake.has("app", &made));
                }
                continue;
            }
            let begun = tokio::time::Instant::now();
            let error = Client::new(config).resolve(&name_at(fake), None).await.unwrap_err();
            assert!(matches!(error, RegistryError::ClientCertificate { .. }), "{error}");
            assert!(error.to_string().contains(why) && error.to_string().contains("certs.d"), "{error}");
            assert!(begun.elapsed() < Duration::from_secs(10), "the usual tries take longer");
        }
    }
}
