//! Credentials files and helpers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use forge_registry::{AuthFile, Credential, Credentials, Helpers, Secret};
use tempfile::TempDir;

/// Docker's file format, with what else stands in such files.
const FILE: &str = r#"{
    "auths": {
        "https://index.docker.io/v1/": {"auth": "aHViOnB3OndpdGg6Y29sb25z"},
        "quay.io": {"auth": "cXVheTpwdw=="},
        "quay.io/team": {"auth": "dGVhbTpwdw"},
        "http://old.tld/v2/": {"username": "old", "password": "pw"},
        "id.tld": {"auth": "dTpw", "identitytoken": "refresh"},
        "reg.tld": {"registrytoken": "access"},
        "helper.tld": {},
        "bad.tld": {"auth": "%%%"},
        "worse.tld": {"auth": "bm9jb2xvbg=="},
        "nul.tld": {"auth": "dTpwAAA="}
    },
    "HttpHeaders": {"X": "y"}
}"#;

fn file(text: &str) -> Credentials {
    Credentials::default().with_file(AuthFile::parse(Path::new("/x/config.json"), text.as_bytes()).unwrap())
}

#[tokio::test]
async fn entries_are_found_as_docker_and_podman_find_them() {
    let credentials = file(FILE);
    for (registry, path, want) in [
        ("docker.io", "library/debian", Some(Credential::basic("hub", "pw:with:colons"))),
        ("quay.io", "other/x", Some(Credential::basic("quay", "pw"))),
        ("quay.io", "team/x", Some(Credential::basic("team", "pw"))),
        ("quay.io", "teamwork/x", Some(Credential::basic("quay", "pw"))),
        ("quay.io:443", "x", None),
        ("quay.io.evil.com", "x", None),
        ("old.tld", "x", Some(Credential::basic("old", "pw"))),
        ("id.tld", "x", Some(Credential::Identity(Secret::new("refresh")))),
        ("reg.tld", "x", Some(Credential::Bearer(Secret::new("access")))),
        ("helper.tld", "x", None),
        ("unknown.tld", "x", None),
        ("nul.tld", "x", Some(Credential::basic("u", "p"))),
    ] {
        assert_eq!(credentials.lookup(registry, path).await.unwrap(), want, "{registry}/{path}");
    }
    for bad in ["bad.tld", "worse.tld"] {
        let error = credentials.lookup(bad, "x").await.unwrap_err().to_string();
        assert!(error.contains(bad) && error.contains("/x/config.json") && !error.contains("bm9"), "{error}");
    }
    let explicit = credentials.with("quay.io", Credential::basic("me", "mine"));
    assert_eq!(explicit.lookup("quay.io", "team/x").await.unwrap(), Some(Credential::basic("me", "mine")));
}

#[test]
fn files_that_are_none_say_where_and_not_what() {
    for text in ["{\"auths\":{\"x\":{\"auth\":\"c2VjcmV0\"}", "[]", "secret"] {
        let error = AuthFile::parse(Path::new("/x/config.json"), text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("/x/config.json") && error.contains("line 1"), "{error}");
        assert!(!error.contains("c2Vj") && !error.contains("secret"), "{error}");
    }
    assert!(AuthFile::parse(Path::new("/x"), b" \n").is_ok());
    assert!(AuthFile::read(Path::new("/nonexistent/config.json")).unwrap().is_none());
}

#[tokio::test]
async fn logins_are_kept_and_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/config.json");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    AuthFile::store(&path, "docker.io", &Credential::basic("me", "pw")).unwrap();
    assert_eq!(mode(&path), 0o600);
    fs::write(&path, FILE).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(AuthFile::read(&path).unwrap().unwrap().is_exposed());
    AuthFile::store(&path, "docker.io", &Credential::basic("me", "pw")).unwrap();
    AuthFile::store(&path, "host:5000", &Credential::Identity(Secret::new("t"))).unwrap();
    assert_eq!(mode(&path), 0o600);
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.contains("\"HttpHeaders\"") && text.contains("bWU6cHc=") && text.contains("\"quay.io\""),
        "{text}"
    );
    assert_eq!(text.matches("index.docker.io").count(), 1);
    let read = AuthFile::read(&path).unwrap().unwrap();
    assert!(!read.is_exposed());
    let credentials = Credentials::default().with_file(read);
    assert_eq!(credentials.lookup("docker.io", "x").await.unwrap(), Some(Credential::basic("me", "pw")));
    assert!(AuthFile::erase(&path, "docker.io").unwrap());
    assert!(!AuthFile::erase(&path, "docker.io").unwrap());
    assert!(!AuthFile::erase(&dir.path().join("none"), "docker.io").unwrap());
    assert!(!fs::read_to_string(&path).unwrap().contains("index.docker.io"));
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn a_link_to_the_file_stays_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let (real, link) = (dir.path().join("real.json"), dir.path().join("config.json"));
    fs::write(&real, "{}").unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    AuthFile::store(&link, "h.tld", &Credential::basic("a", "b")).unwrap();
    assert!(link.is_symlink());
    assert!(fs::read_to_string(&real).unwrap().contains("h.tld"));
}

#[test]
fn two_logins_at_once_both_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    std::thread::scope(|scope| {
        for n in 0..8 {
            let path = &path;
            scope.spawn(move || {
                AuthFile::store(path, &format!("h{n}.tld"), &Credential::basic("a", "b")).unwrap()
            });
        }
    });
    assert_eq!(AuthFile::read(&path).unwrap().unwrap().registries().len(), 8);
}

/// A directory with one credential helper, `docker-credential-test`, that is this shell script.
fn helper(script: &str) -> (TempDir, Helpers) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("docker-credential-test");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let helpers = Helpers {
        search: vec![dir.path().to_owned()],
        environment: vec![("PATH".into(), "/usr/bin:/bin".into()), ("DIR".into(), dir.path().into())],
        timeout: Duration::from_secs(20),
    };
    (dir, helpers)
}

#[tokio::test]
async fn helpers_are_asked_by_their_protocol() {
    let script = r#"read -r url; echo "$1 $url" >> "$DIR/log"
case "$url" in
  https://index.docker.io/v1/) echo '{"ServerURL":"x","Username":"hub","Secret":"pw"}';;
  token.tld) echo '{"ServerURL":"x","Username":"<token>","Secret":"refresh"}';;
  *) echo 'credentials not found in native keychain'; exit 1;;
esac"#;
    let (dir, helpers) = helper(script);
    let credentials =
        file(r#"{"credsStore":"test","auths":{"file.tld":{"auth":"dTpw"}}}"#).with_helpers(helpers);
    for (registry, want) in [
        ("docker.io", Some(Credential::basic("hub", "pw"))),
        ("token.tld", Some(Credential::Identity(Secret::new("refresh")))),
        ("none.tld", None),
        ("file.tld", Some(Credential::basic("u", "p"))),
    ] {
        assert_eq!(credentials.lookup(registry, "x").await.unwrap(), want, "{registry}");
    }
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(log.starts_with("get https://index.docker.io/v1/\nget token.tld\n"), "{log}");
}

#[tokio::test]
async fn helpers_keep_and_forget_logins() {
    let (dir, helpers) = helper(r#"read -r request; echo "$1 $request" >> "$DIR/log""#);
    helpers.store("test", "h.tld", &Credential::basic("me", "pw")).await.unwrap();
    helpers.store("test", "h.tld", &Credential::Identity(Secret::new("t"))).await.unwrap();
    helpers.erase("test", "docker.io").await.unwrap();
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    assert_eq!(
        log.lines().collect::<Vec<_>>(),
        [
            r#"store {"Secret":"pw","ServerURL":"h.tld","Username":"me"}"#,
            r#"store {"Secret":"t","ServerURL":"h.tld","Username":"<token>"}"#,
            "erase https://index.docker.io/v1/"
        ]
    );
    let (_dir, helpers) = helper("read -r request; echo \"cannot keep $request\"; exit 1");
    let error =
        helpers.store("test", "h.tld", &Credential::basic("me", "hunter2")).await.unwrap_err().to_string();
    assert!(error.contains("cannot keep") && !error.contains("hunter2"), "{error}");
}

#[tokio::test]
async fn helpers_that_misbehave_are_stopped() {
    for (script, why) in [
        ("yes | head -c 1000000000", "more than 65536 bytes"),
        ("echo no json", "not the JSON"),
        ("echo '{\"Username\":\"u\"}'", "not the JSON"),
        ("echo 'locked \u{1b}[2J'; exit 3", "locked"),
    ] {
        let (_dir, helpers) = helper(script);
        let error = helpers.get("test", "h.tld").await.unwrap_err().to_string();
        assert!(error.contains(why) && error.contains("docker-credential-test"), "{script}: {error}");
    }
    let (_dir, mut helpers) = helper("sleep 1000");
    helpers.timeout = Duration::from_millis(200);
    let begun = Instant::now();
    let error = helpers.get("test", "h.tld").await.unwrap_err().to_string();
    assert!(error.contains("did not answer") && begun.elapsed() < Duration::from_secs(10), "{error}");
}

#[tokio::test]
async fn helper_names_are_names() {
    let (dir, helpers) = helper("echo '{\"ServerURL\":\"\",\"Username\":\"u\",\"Secret\":\"p\"}'");
    fs::copy(dir.path().join("docker-credential-test"), dir.path().join("sh")).unwrap();
    for name in ["../../bin/sh", "x/../sh", "a b", "TEST", "te.st", "", "test\n", "te\0st", "tést"] {
        let error = helpers.get(name, "h.tld").await.unwrap_err().to_string();
        assert!(error.contains("no name of a credential helper"), "{name}: {error}");
    }
    let error = helpers.get("absent", "h.tld").await.unwrap_err().to_string();
    assert!(error.contains("docker-credential-absent is not installed"), "{error}");
}
