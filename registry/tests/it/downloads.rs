//! Files at URLs: fetched, revalidated, redirected, and refused where they should be.

use std::sync::{Arc, Mutex};

use forge_registry::{Client, Download, ErrorKind, RegistryError, Secret, Wanted};
use forge_store::Digest;

use crate::support::http::{Reply, Request, Server, Trouble};
use crate::support::{TestStore, client, impatient};

/// A server that answers by path, and what it was asked.
struct Scene {
    server: Server,
    asked: Arc<Mutex<Vec<Request>>>,
    store: TestStore,
}

impl Scene {
    async fn new(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        let handler = move |request: Request| {
            let reply = answer(&request);
            log.lock().unwrap().push(request);
            reply
        };
        Self { server: Server::start(Arc::new(handler)).await, asked, store: TestStore::new() }
    }

    fn wanted(&self, path: &str) -> Wanted {
        Wanted { url: format!("http://{}{path}", self.server.host()), ..Wanted::default() }
    }

    async fn fetch_by(&self, client: &Client, wanted: &Wanted) -> Result<Download, RegistryError> {
        client.download(wanted, &self.store.blobs, &|_, _| ()).await
    }

    async fn fetch(&self, wanted: &Wanted) -> Result<Download, RegistryError> {
        self.fetch_by(&client(), wanted).await
    }

    fn last(&self) -> Request {
        self.asked.lock().unwrap().last().unwrap().clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_comes_into_the_store_and_is_revalidated() {
    let scene = Scene::new(|request| match request.header("if-none-match") {
        Some("\"v1\"") => Reply::new(304),
        _ => Reply::new(200)
            .header("ETag", "\"v1\"")
            .header("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")
            .body("hello"),
    })
    .await;
    let wanted = scene.wanted("/x?y=z#fragment");
    let Download::Fetched(fetched) = scene.fetch(&wanted).await.unwrap() else { panic!("not fetched") };
    assert_eq!((fetched.digest, fetched.size), (Digest::of(b"hello"), 5));
    assert_eq!(scene.store.blobs.read(&fetched.digest, 10).unwrap().unwrap(), b"hello");
    assert_eq!(fetched.last_modified.as_deref(), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    assert_eq!(fetched.mtime, Some(784_111_777));
    assert_eq!(scene.last().param("y"), Some("z"));
    let again = Wanted { etag: fetched.etag, ..wanted };
    assert_eq!(scene.fetch(&again).await.unwrap(), Download::Unchanged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redirects_are_followed_ten_times_and_not_into_the_wild() {
    let scene = Scene::new(|request| {
        let to = request.param("to").unwrap_or_default();
        match request.path.as_str() {
            "/there" => Reply::new(200).body("there"),
            "/loop" => Reply::new(302).header("Location", "/loop"),
            _ => Reply::new(307).header("Location", to),
        }
    })
    .await;
    let to = |target: &str| scene.wanted(&format!("/go?to={target}"));
    assert!(matches!(scene.fetch(&to("/there")).await.unwrap(), Download::Fetched(_)));
    let asked = scene.asked.lock().unwrap().len();
    for bad in [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fe80::1]/x",
        "http://10.0.0.1/x",
        "file:///etc/passwd",
        "http://u:p@127.0.0.1/x",
        "http://[",
    ] {
        let error = scene.fetch(&to(bad)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{bad}: {error}");
    }
    let error = scene.fetch(&scene.wanted("/loop")).await.unwrap_err();
    assert!(error.to_string().contains("more than 10 times"), "{error}");
    assert_eq!(scene.asked.lock().unwrap().len(), asked + 6 + 11, "what is refused is not tried again");
    assert_eq!(scene.store.blobs.list().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_go_to_the_urls_own_host_and_into_no_message() {
    let other = Scene::new(|_| Reply::new(200).body("other")).await;
    let elsewhere = format!("http://{}/x", other.server.host());
    let scene = Scene::new(move |request| match request.path.as_str() {
        "/secret" => Reply::new(403),
        _ => Reply::new(302).header("Location", elsewhere.clone()),
    })
    .await;
    let with_password = |path: &str| Wanted {
        url: format!("http://me:p%40ss@{}{path}", scene.server.host()),
        ..Wanted::default()
    };
    scene.fetch(&with_password("/go")).await.unwrap();
    assert_eq!(scene.last().header("authorization"), Some("Basic bWU6cEBzcw=="));
    assert_eq!(other.last().header("authorization"), None);
    let error = scene.fetch(&with_password("/secret")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(!error.to_string().contains("p%40ss") && error.to_string().contains("xxxxx@"), "{error}");
    let token = Wanted { authorization: Some(Secret::new("Bearer t")), ..scene.wanted("/go") };
    scene.fetch(&token).await.unwrap();
    assert_eq!(scene.last().header("authorization"), Some("Bearer t"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_and_endless_bodies_leave_nothing() {
    for (trouble, kind) in [
        (Trouble::CutAfter(3), ErrorKind::Unreachable),
        (Trouble::StallAfter(3), ErrorKind::Unreachable),
        (Trouble::Hangup, ErrorKind::Unreachable),
        (Trouble::Endless, ErrorKind::Protocol),
    ] {
        let scene = Scene::new(move |_| Reply::new(200).body("hello").trouble(trouble)).await;
        let wanted = Wanted { most_bytes: Some(1 << 20), ..scene.wanted("/x") };
        let error = scene.fetch_by(&Client::new(impatient()), &wanted).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{trouble:?}: {error}");
        assert!(scene.store.is_empty(), "{trouble:?}");
    }
    let scene = Scene::new(|_| Reply::new(200).header("Content-Encoding", "gzip").body("x")).await;
    assert_eq!(scene.fetch(&scene.wanted("/x")).await.unwrap_err().kind(), ErrorKind::Protocol);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_that_pass_are_tried_again_and_others_are_not() {
    let count = Arc::new(Mutex::new(0));
    let counter = count.clone();
    let scene = Scene::new(move |request| {
        *counter.lock().unwrap() += 1;
        match (request.path.as_str(), *counter.lock().unwrap()) {
            ("/gone", _) => Reply::new(404),
            (_, n) if n < 3 => Reply::new(503),
            _ => Reply::new(200).body("at last"),
        }
    })
    .await;
    assert!(scene.fetch(&scene.wanted("/flaky")).await.is_ok());
    assert_eq!(*count.lock().unwrap(), 3);
    assert_eq!(scene.fetch(&scene.wanted("/gone")).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(*count.lock().unwrap(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn some_addresses_are_never_asked() {
    let store = TestStore::new();
    for url in [
        "http://169.254.169.254/latest",
        "http://[fe80::1]/x",
        "http://0.0.0.0/x",
        "http://[::ffff:169.254.169.254]/",
        "ftp://h/x",
        "file:///etc/passwd",
        "x",
    ] {
        let wanted = Wanted { url: url.into(), ..Wanted::default() };
        let error = client().download(&wanted, &store.blobs, &|_, _| ()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{url}: {error}");
    }
}
