//! Images to and from registries: Debian's docker-registry, and servers that misbehave.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;

use crate::support::{Lab, Registry, json, tool};

/// Puts a base image into the registry, by skopeo; gives its full name.
fn pushed_base(lab: &Lab, registry: &Registry) -> String {
    let maker = Lab::with_busybox();
    maker.build_text("FROM busybox\n", &["-t", "b:1", "-o", "type=oci,dest=base.tar"]).success();
    let name = format!("{}/team/base:1", registry.host);
    let from = format!("oci-archive:{}", maker.at("base.tar"));
    tool("skopeo", &["copy", "--quiet", "--dest-tls-verify=false", &from, &format!("docker://{name}")]);
    assert!(lab.forge(&["images", "-q"]).success().is_empty());
    name
}

#[test]
fn a_base_that_skopeo_pushed_is_pulled_built_upon_and_pushed() {
    let (lab, registry) = (Lab::new(), Registry::open());
    let base = pushed_base(&lab, &registry);
    let name = format!("{}/team/app:2", registry.host);
    let text = format!("FROM {base}\nRUN echo made > /made\nCMD cat /made\n");
    let built = lab.build_text(&text, &["-t", &name, "--push"]);
    assert!(built.stderr.contains(&format!("[internal] load metadata for {base}\n")), "{built}");
    assert!(built.stderr.contains(&format!("pushing manifest for {name}@sha256:")), "{built}");
    let digest = built.success();
    let inspected = json(&tool("skopeo", &["inspect", "--tls-verify=false", &format!("docker://{name}")]));
    assert_eq!(inspected["Digest"], digest);

    // Another store pulls the same, and runs it.
    let other = Lab::new();
    assert_eq!(other.forge(&["pull", "-q", &name]).success(), digest);
    assert_eq!(other.forge(&["run", "--network=none", &name]).success(), "made");

    // Pushed under another name it is still the same.
    let second = format!("{}/other/app:3", registry.host);
    lab.forge(&["tag", &name, &second]).success();
    assert_eq!(lab.forge(&["push", &second]).success(), digest);
    let inspected = json(&tool("skopeo", &["inspect", "--tls-verify=false", &format!("docker://{second}")]));
    assert_eq!(inspected["Digest"], digest);
}

#[test]
fn a_base_can_be_named_by_its_digest_alone() {
    let (lab, registry) = (Lab::new(), Registry::open());
    let base = pushed_base(&lab, &registry);
    let inspected = json(&tool("skopeo", &["inspect", "--tls-verify=false", &format!("docker://{base}")]));
    let by_digest = format!("{}/team/base@{}", registry.host, inspected["Digest"].as_str().unwrap());
    lab.build_text(&format!("FROM {by_digest}\nRUN true\n"), &[]).success();
    let wrong = format!("{}/team/base@sha256:{}", registry.host, "0".repeat(64));
    let report = lab.build_text(&format!("FROM {wrong}\nRUN true\n"), &[]).report(4);
    assert!(report.contains("Dockerfile:1:6\n"), "{report}");
}

#[test]
fn a_base_of_the_store_is_not_asked_for_unless_pull_is_said() {
    let (lab, registry) = (Lab::new(), Registry::open());
    let base = pushed_base(&lab, &registry);
    lab.forge(&["pull", "-q", &base]).success();
    let text = format!("FROM {base}\nENV A=1\n");
    assert!(!lab.build_text(&text, &[]).stderr.contains("load metadata"));
    assert!(lab.build_text(&text, &["--pull"]).stderr.contains("load metadata"));
    drop(registry);
    lab.build_text(&text, &[]).success();
    let report = lab.build_text(&text, &["--pull"]).report(5);
    assert!(report.contains("Connection refused"), "{report}");
}

#[test]
fn credentials_are_kept_where_docker_keeps_them() {
    let (lab, registry) = (Lab::with_busybox(), Registry::with_password());
    let name = format!("{}/private/x:1", registry.host);
    lab.forge(&["tag", "busybox", &name]).success();
    let report = lab.forge(&["push", "-q", &name]).report(5);
    assert!(report.contains(&registry.host) && report.contains("login"), "{report}");

    let login = ["login", "-u", "forge", "--password-stdin", &registry.host];
    let report = lab.forge_with_input(&login, "wrong\n").report(5);
    assert!(report.contains(&registry.host), "{report}");
    assert!(!lab.path("home/.docker/config.json").exists(), "a wrong password is not kept");

    assert_eq!(lab.forge_with_input(&login, "s3cret\n").success(), "Login Succeeded");
    let kept = json(&fs::read_to_string(lab.path("home/.docker/config.json")).unwrap());
    assert_eq!(kept["auths"][&registry.host]["auth"], "Zm9yZ2U6czNjcmV0");
    let digest = lab.forge(&["push", "-q", &name]).success();
    let inspected = tool(
        "skopeo",
        &["inspect", "--tls-verify=false", "--creds=forge:s3cret", &format!("docker://{name}")],
    );
    assert_eq!(json(&inspected)["Digest"], digest);

    assert!(lab.forge(&["logout", &registry.host]).success().starts_with("Removed"));
    lab.forge(&["push", "-q", &name]).report(5);
}

#[test]
fn an_auth_file_of_others_is_read() {
    let (mut lab, registry) = (Lab::with_busybox(), Registry::with_password());
    let auth = format!(r#"{{"auths": {{"{}": {{"auth": "Zm9yZ2U6czNjcmV0"}}}}}}"#, registry.host);
    let file = lab.file("auth.json", &auth);
    lab.env.push(("REGISTRY_AUTH_FILE".into(), file.display().to_string()));
    let name = format!("{}/private/y:1", registry.host);
    lab.build_text("FROM busybox\nENV A=1\n", &["-t", &name, "--push"]).success();
}

/// The first address of this machine that is not loopback, if it has one.
fn own_address() -> Option<String> {
    tool("hostname", &["-I"]).split_whitespace().find(|address| address.contains('.')).map(str::to_owned)
}

#[test]
fn plain_http_is_for_loopback_or_by_leave() {
    let address = own_address().expect("this test needs a network interface beside loopback");
    let (lab, registry) = (Lab::with_busybox(), Registry::at(&address));
    let name = format!("{}/x:1", registry.host);
    lab.forge(&["tag", "busybox", &name]).success();
    let report = lab.forge(&["push", "-q", &name]).report(5);
    assert!(report.contains("--insecure-registry"), "{report}");
    lab.forge(&["push", "-q", "--insecure-registry", &registry.host, &name]).success();
}

#[test]
fn a_name_without_a_registry_is_docker_hubs() {
    let lab = Lab::new();
    // No network has this address, whatever the machine's own is: the message is what counts.
    let mut offline = lab;
    offline.wrapper = ["unshare", "--net"].map(String::from).into();
    let report = offline.build_text("FROM nobody-has-this\nRUN true\n", &[]).report(5);
    assert!(report.contains("docker.io/library/nobody-has-this:latest"), "{report}");
    assert!(report.contains("registry-1.docker.io"), "{report}");
    assert!(report.contains("Dockerfile:1:6\n"), "{report}");
}

#[test]
fn a_name_that_the_registry_does_not_have() {
    let (lab, registry) = (Lab::new(), Registry::open());
    let report = lab.build_text(&format!("FROM {}/no/such:1\n", registry.host), &[]).report(4);
    assert!(report.contains(&format!("{}/no/such:1", registry.host)), "{report}");
    assert!(report.contains("Dockerfile:1:6\n"), "{report}");
    lab.forge(&["pull", &format!("{}/no/such:1", registry.host)]).report(4);
    lab.forge(&["run", &format!("{}/no/such:1", registry.host)]).report(4);
}

#[test]
fn a_registry_that_is_not_there() {
    let lab = Lab::with_busybox();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let report = lab.build_text(&format!("FROM {free}/x\nRUN true\n"), &[]).report(5);
    assert!(report.contains(&format!("cannot reach {free}")), "{report}");
    assert!(report.contains("Connection refused") && report.contains("Dockerfile:1:6\n"), "{report}");
    lab.forge(&["tag", "busybox", &format!("{free}/x")]).success();
    lab.forge(&["push", &format!("{free}/x")]).report(5);
}

/// Flips a byte of a file.
fn corrupt(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_registry_that_lies_about_a_layer_is_not_believed() {
    let (lab, registry) = (Lab::new(), Registry::open());
    let base = pushed_base(&lab, &registry);
    let raw = tool("skopeo", &["inspect", "--raw", "--tls-verify=false", &format!("docker://{base}")]);
    let layer = json(&raw)["layers"][0]["digest"].as_str().unwrap().to_owned();
    corrupt(&registry.blob(&layer));
    let outcome = lab.build_text(&format!("FROM {base}\nRUN true\n"), &[]);
    let report = outcome.report(6);
    assert!(report.contains(&layer[..19]), "{report}");
    assert!(report.contains("Dockerfile:"), "{report}");
    let kept = lab.path("store/blobs/sha256").join(layer.strip_prefix("sha256:").unwrap());
    assert!(!kept.exists(), "nothing of it is kept");
    assert_eq!(lab.unfinished(), [""; 0].map(std::path::PathBuf::from));
}

#[test]
fn a_registry_that_lies_about_a_configuration_is_not_believed() {
    let (lab, registry) = (Lab::new(), Registry::open());
    let base = pushed_base(&lab, &registry);
    let raw = tool("skopeo", &["inspect", "--raw", "--tls-verify=false", &format!("docker://{base}")]);
    let config = json(&raw)["config"]["digest"].as_str().unwrap().to_owned();
    corrupt(&registry.blob(&config));
    lab.forge(&["pull", &base]).report(6);
    assert_eq!(lab.forge(&["images", "-q"]).success(), "");
}

/// A server that answers everything alike; it ends with the test's process.
fn answering(status: &str, content_type: &str, body: &str) -> String {
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    host
}

const DENIED: &str = r#"{"errors":[{"code":"DENIED","message":"the vault is closed on sundays"}]}"#;

#[test]
fn a_registry_that_refuses() {
    let lab = Lab::new();
    let host = answering("403 Forbidden", "application/json", DENIED);
    let report = lab.build_text(&format!("FROM {host}/x\n"), &[]).report(5);
    assert!(report.contains("denies manifest") && report.contains("`forge login"), "{report}");
    assert!(report.contains(&host) && report.contains("Dockerfile:1:6\n"), "{report}");
}

#[test]
fn a_server_that_is_no_registry() {
    let lab = Lab::new();
    let host = answering("200 OK", "text/html", "<html></html>");
    let outcome = lab.build_text(&format!("FROM {host}/x\n"), &[]);
    assert!([5, 6].contains(&outcome.code), "{outcome}");
    assert!(outcome.stderr.contains(&host), "{outcome}");
}
