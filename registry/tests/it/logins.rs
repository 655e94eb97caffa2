//! Tokens and passwords: fetched, renewed, and never given to the wrong host.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use forge_registry::{
    Client, ClientConfig, Credential, Credentials, ErrorKind, PushOptions, Reference, Secret, progress,
};

use crate::support::fake::{Fake, Fault};
use crate::support::http::{Reply, Request, Server, Trouble};
use crate::support::image::{TestImage, image};
use crate::support::{TestStore, quick};

const PASSWORD: &str = "hunter2-s3cret";

fn with_password(host: &str) -> ClientConfig {
    let credentials = Credentials::default().with(host, Credential::basic("me", PASSWORD));
    ClientConfig { credentials, ..quick() }
}

fn bearer(realm: &str) -> Reply {
    Reply::new(401).header("www-authenticate", format!("Bearer realm=\"{realm}\",service=\"svc\""))
}

async fn scene() -> (Fake, TestImage, Reference) {
    let fake = Fake::start().await;
    let made = image(&TestStore::new().blobs, &[150_000]);
    fake.hold("app", "1", &made);
    let reference = format!("{}/app:1", fake.host()).parse().unwrap();
    (fake, made, reference)
}

/// A token server whose n-th token is `tn`.
async fn token_server() -> (Server, Arc<Mutex<Vec<Request>>>) {
    let asked: Arc<Mutex<Vec<Request>>> = Arc::default();
    let log = asked.clone();
    let server = Server::start(Arc::new(move |request: Request| {
        let mut log = log.lock().unwrap();
        log.push(request);
        Reply::new(200).body(format!(r#"{{"access_token":"t{}","expires_in":300}}"#, log.len()))
    }));
    (server.await, asked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_tokens_are_renewed_and_the_push_goes_on() {
    let (fake, ..) = scene().await;
    let (tokens, asked) = token_server().await;
    let realm = format!("http://{}/token", tokens.host());
    // Each token is good for four requests.
    let used = Mutex::new(std::collections::HashMap::new());
    fake.guard(move |r| {
        let mut used = used.lock().unwrap();
        let Some(token) = r.header("authorization") else { return Some(bearer(&realm)) };
        let count = used.entry(token.to_owned()).or_insert(0);
        *count += 1;
        (*count > 4).then(|| bearer(&realm))
    });
    let store = TestStore::new();
    let made = image(&store.blobs, &[1_000_000]);
    let target: Reference = format!("{}/pushed:1", fake.host()).parse().unwrap();
    let client = Client::new(ClientConfig { chunk_bytes: 100_000, ..with_password(&fake.host()) });
    let none = PushOptions::default();
    client.push(&target, &made.root, &store.blobs, &none, &progress::silent()).await.unwrap();
    assert!(fake.has("pushed", &made));
    let sent = (made.layers[0].len() + made.config_bytes.len()) as u64;
    assert_eq!(fake.state().received, sent, "no chunk was taken twice");
    assert_eq!(fake.state().sessions, 2, "one for each blob");
    let asked = asked.lock().unwrap();
    assert!(asked.len() >= 4, "{} tokens", asked.len());
    assert!(asked.iter().all(|r| r.param("scope") == Some("repository:pushed:pull,push")));
    assert!(asked.iter().all(|r| r.param("service") == Some("svc") && r.param("account") == Some("me")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_share_one_token() {
    let (fake, made, reference) = scene().await;
    let (tokens, asked) = token_server().await;
    let realm = format!("http://{}/token", tokens.host());
    fake.guard(move |r| r.header("authorization").is_none().then(|| bearer(&realm)));
    let client = Client::new(with_password(&fake.host()));
    let resolves = (0..8).map(|_| client.resolve(&reference, None));
    for resolved in futures_util::future::join_all(resolves).await {
        assert_eq!(resolved.unwrap().descriptor, made.root);
    }
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identity_tokens_are_changed_for_access_tokens() {
    let (fake, made, reference) = scene().await;
    let (tokens, asked) = token_server().await;
    let realm = format!("http://{}/token", tokens.host());
    fake.guard(move |r| (r.header("authorization") != Some("Bearer t1")).then(|| bearer(&realm)));
    let credentials =
        Credentials::default().with(fake.host(), Credential::Identity(Secret::new("re fresh&")));
    let client = Client::new(ClientConfig { credentials, ..quick() });
    assert_eq!(client.resolve(&reference, None).await.unwrap().descriptor, made.root);
    let asked = asked.lock().unwrap();
    let body = String::from_utf8(asked[0].body.clone()).unwrap();
    assert_eq!(asked[0].method, "POST");
    for part in [
        "grant_type=refresh_token",
        "refresh_token=re+fresh%26",
        "service=svc",
        "scope=repository%3Aapp%3Apull",
    ] {
        assert!(body.contains(part), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registry_tokens_are_sent_as_they_are() {
    let (fake, made, reference) = scene().await;
    fake.guard(|r| {
        (r.header("authorization") != Some("Bearer own")).then(|| bearer("http://127.0.0.1:1/never"))
    });
    let login = |token: &str| {
        let credentials = Credentials::default().with(fake.host(), Credential::Bearer(Secret::new(token)));
        Client::new(ClientConfig { credentials, ..quick() })
    };
    assert_eq!(login("own").resolve(&reference, None).await.unwrap().descriptor, made.root);
    assert_eq!(login("old").resolve(&reference, None).await.unwrap_err().kind(), ErrorKind::Unauthorized);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn realms_that_lead_astray_are_refused() {
    for realm in [
        "http://10.0.0.1/token",
        "https://192.168.0.1/token",
        "http://169.254.169.254/latest/meta-data",
        "http://[fd00::1]/token",
        "http://0.0.0.0/token",
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "http://me:pw@127.0.0.1/token",
        "not a url",
        "//127.0.0.1/token",
        "http://",
    ] {
        let (fake, _, reference) = scene().await;
        fake.guard(move |_| Some(bearer(realm)));
        let error = Client::new(with_password(&fake.host())).resolve(&reference, None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{realm}: {error}");
        assert!(error.to_string().contains("token server"), "{realm}: {error}");
        assert_eq!(fake.state().log.len(), 1, "{realm}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_challenges_end_in_an_error() {
    let (fake, _, reference) = scene().await;
    let junk: String = (0..5_000).map(|n| format!("X{n} a=\"b\\\"{n},")).collect();
    fake.guard(move |_| Some(Reply::new(401).header("www-authenticate", junk.clone())));
    let error = Client::new(with_password(&fake.host())).resolve(&reference, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn token_servers_are_not_followed_elsewhere() {
    let (fake, _, reference) = scene().await;
    let (thief, stolen) = token_server().await;
    let to = format!("http://{}/token", thief.host());
    let tokens =
        Server::start(Arc::new(move |_: Request| Reply::new(302).header("location", to.clone()))).await;
    let realm = format!("http://{}/token", tokens.host());
    fake.guard(move |_| Some(bearer(&realm)));
    let error = Client::new(with_password(&fake.host())).resolve(&reference, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert!(stolen.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trouble_at_the_token_server_is_outlived() {
    for first in [
        Reply::new(500),
        Reply::new(429),
        Reply::default().trouble(Trouble::Hangup),
        Reply::new(200).body("{}").trouble(Trouble::CutAfter(1)),
    ] {
        let (fake, made, reference) = scene().await;
        let asked = AtomicUsize::new(0);
        let tokens = Server::start(Arc::new(move |_: Request| match asked.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => first.clone(),
            _ => Reply::new(200).body(r#"{"token":"good"}"#),
        }));
        let tokens = tokens.await;
        let realm = format!("http://{}/token", tokens.host());
        fake.guard(move |r| (r.header("authorization") != Some("Bearer good")).then(|| bearer(&realm)));
        let client = Client::new(with_password(&fake.host()));
        assert_eq!(client.resolve(&reference, None).await.unwrap().descriptor, made.root);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_token_servers_are_checked() {
    for body in ["", "{}", "[]", r#"{"token":""}"#, r#"{"token":"a\nb"}"#, r#"{"token":1}"#] {
        let (fake, _, reference) = scene().await;
        let tokens = Server::start(Arc::new(move |_: Request| Reply::new(200).body(body))).await;
        let realm = format!("http://{}/token", tokens.host());
        fake.guard(move |_| Some(bearer(&realm)));
        let error = Client::new(quick()).resolve(&reference, None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{body}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_do_not_cross_redirects() {
    let (fake, made, reference) = scene().await;
    let storage = Fake::start().await;
    storage.hold("app", "1", &made);
    let to = format!("http://{}", storage.host());
    fake.guard(|r| {
        r.header("authorization").is_none().then(|| Reply::new(401).header("www-authenticate", "Basic"))
    });
    let there = to.clone();
    fake.plan(move |r, _| {
        let reply = Reply::new(307).header("location", format!("{there}{}?signature=abc", r.path));
        if r.path.contains("/blobs/") { Fault::Instead(reply) } else { Fault::None }
    });
    let store = TestStore::new();
    let client = Client::new(with_password(&fake.host()));
    let silent = progress::silent();
    client.fetch_blobs(reference.repository(), &made.manifest.layers, &store.blobs, &silent).await.unwrap();
    assert!(storage.state().log.iter().all(|r| r.header("authorization").is_none()));
    // The other host asks for a login: it gets none, not even a question to its token server.
    let (thief, stolen) = token_server().await;
    let realm = format!("http://{}/token", thief.host());
    storage.guard(move |_| Some(bearer(&realm)));
    let error = client
        .fetch_blobs(
            reference.repository(),
            std::slice::from_ref(&made.manifest.config),
            &store.blobs,
            &silent,
        )
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.to_string().contains(&storage.host()), "{error}");
    assert!(stolen.lock().unwrap().is_empty());
    assert!(storage.state().log.iter().all(|r| r.header("authorization").is_none()));
    // Away and back again: still without.
    let (home, away) = (format!("http://{}", fake.host()), to);
    fake.plan(move |r, _| match r.param("back") {
        Some(_) => Fault::Instead(Reply::new(200)),
        None => Fault::Instead(Reply::new(307).header("location", format!("{away}{}", r.path))),
    });
    storage.guard(move |r| Some(Reply::new(307).header("location", format!("{home}{}?back=1", r.path))));
    let error = client
        .fetch_blobs(
            reference.repository(),
            std::slice::from_ref(&made.manifest.config),
            &store.blobs,
            &silent,
        )
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(
        fake.state()
            .log
            .iter()
            .filter(|r| r.param("back").is_some())
            .all(|r| r.header("authorization").is_none())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redirects_that_lead_astray_are_refused() {
    let (fake, made, reference) = scene().await;
    let silent = progress::silent();
    let (store, client) = (TestStore::new(), Client::new(quick()));
    let layer = &made.manifest.layers[0];
    for to in [
        "http://10.0.0.1/x",
        "http://169.254.169.254/x",
        "file:///etc/passwd",
        "http://[::ffff:10.0.0.1]/",
        "http://u@127.0.0.1/",
    ] {
        fake.plan(move |_, _| Fault::Instead(Reply::new(307).header("location", to)));
        let error =
            client.fetch_blob(reference.repository(), layer, &store.blobs, &silent).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{to}: {error}");
        assert!(error.to_string().contains("redirects to an address"), "{error}");
    }
    fake.state().log.clear();
    fake.plan(|r, _| Fault::Instead(Reply::new(307).header("location", r.path.clone())));
    let error = client.fetch_blob(reference.repository(), layer, &store.blobs, &silent).await.unwrap_err();
    assert!(error.to_string().contains("more than 10 times"), "{error}");
    assert_eq!(fake.state().log.len(), 11);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_shows_a_secret() {
    let secret_basic = "bWU6aHVudGVyMi1zM2NyZXQ=";
    let (tokens, _) = token_server().await;
    let realm = format!("http://{}/token", tokens.host());
    // A registry that says what it heard.
    let echo = move |r: &Request, status: u16| {
        let heard = r.header("authorization").unwrap_or("nothing");
        let text = format!(r#"{{"errors":[{{"code":"X","message":"heard {heard}"}}]}}"#);
        Reply::new(status).header("www-authenticate", format!("Bearer realm=\"{realm}\", Basic")).body(text)
    };
    for status in [401, 403, 404, 429, 500, 418] {
        let (fake, _, reference) = scene().await;
        let echo = echo.clone();
        fake.guard(move |r| Some(echo(r, if r.header("authorization").is_some() { status } else { 401 })));
        let error = Client::new(with_password(&fake.host())).tags(reference.repository()).await.unwrap_err();
        for text in [error.to_string(), format!("{error:?}")] {
            assert!(!text.contains(secret_basic) && !text.contains(PASSWORD), "{text}");
            assert!(!["heard Bearer t", "heard Basic b"].iter().any(|token| text.contains(token)), "{text}");
        }
    }
    let config = with_password("h");
    let shown = format!("{config:?} {:?}", Credential::Identity(Secret::new(PASSWORD)));
    assert!(!shown.contains(PASSWORD), "{shown}");
}
