//! Registries as podman's, containerd's and Docker's own files set them up.

use std::fs;

use crate::support::{Authority, Lab, Proxy, Registry, json, tool, tool_with};

/// Puts an image into a registry, by skopeo; gives its digest.
fn pushed(host: &str, path: &str, more: &[&str]) -> String {
    let maker = Lab::with_busybox();
    maker.build_text("FROM busybox\n", &["-t", "b:1", "-o", "type=oci,dest=base.tar"]).success();
    let (from, to) = (format!("oci-archive:{}", maker.at("base.tar")), format!("docker://{host}/{path}"));
    tool("skopeo", &[&["copy", "--quiet"], more, &[&from, &to]].concat());
    digest(&to, more)
}

fn digest(name: &str, more: &[&str]) -> String {
    let more: Vec<String> = more.iter().map(|flag| flag.replace("--dest-", "--")).collect();
    let args: Vec<&str> =
        ["inspect"].into_iter().chain(more.iter().map(String::as_str)).chain([name]).collect();
    json(&tool("skopeo", &args))["Digest"].as_str().unwrap().to_owned()
}

const PLAIN: &[&str] = &["--dest-tls-verify=false"];

/// A lab whose `registries.conf` is this.
fn lab_with(conf: &str) -> Lab {
    let lab = Lab::new();
    lab.file("home/.config/containers/registries.conf", conf);
    lab
}

#[test]
fn a_prefix_is_served_from_its_location_as_podman_reads_it() {
    let registry = Registry::open();
    let digest = pushed(&registry.host, "inner/app:1", PLAIN);
    let conf = format!(
        "[[registry]]\nprefix = 'example.test/team'\nlocation = '{}/inner'\ninsecure = true\n",
        registry.host
    );
    let lab = lab_with(&conf);
    assert_eq!(lab.forge(&["pull", "-q", "example.test/team/app:1"]).success(), digest);
    // What podman's family makes of the same file.
    let seen = tool_with(
        &[("HOME", &lab.at("home"))],
        "skopeo",
        &["inspect", "--no-tags", "docker://example.test/team/app:1"],
    );
    assert_eq!(json(&seen)["Digest"], digest);
    // It is pushed there, too.
    lab.forge(&["tag", "example.test/team/app:1", "example.test/team/sub/new:2"]).success();
    lab.forge(&["push", "-q", "example.test/team/sub/new:2"]).success();
    assert_eq!(self::digest(&format!("docker://{}/inner/sub/new:2", registry.host), PLAIN), digest);
}

#[test]
fn mirrors_are_asked_in_order_and_the_registry_last() {
    let (registry, mirror) = (Registry::open(), Registry::open());
    let old = pushed(&registry.host, "app:1", PLAIN);
    let nobody = "127.0.0.1:1";
    let conf = format!(
        "[[registry]]\nlocation = '{}'\n[[registry.mirror]]\nlocation = '{nobody}'\n\
         [[registry.mirror]]\nlocation = '{}/hub'\n",
        registry.host, mirror.host
    );
    let lab = lab_with(&conf);
    let name = format!("{}/app:1", registry.host);
    // The mirrors lack it: the registry has the last word.
    assert_eq!(lab.forge(&["pull", "-q", &name]).success(), old);
    let both = [format!("docker://{name}"), format!("docker://{}/hub/app:1", mirror.host)];
    let flags = ["copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"];
    tool("skopeo", &[&flags[..], &[&both[0], &both[1]]].concat());
    drop(registry);
    let other = lab_with(&conf);
    assert_eq!(other.forge(&["pull", "-q", &name]).success(), old);
    // A mirror that may only serve digests does not say what a tag means.
    let careful = lab_with(&conf.replace("/hub'", "/hub'\npull-from-mirror = 'digest-only'"));
    careful.forge(&["pull", "-q", &name]).report(5);
    let by_digest = format!("{}@{old}", name.trim_end_matches(":1"));
    assert_eq!(careful.forge(&["pull", "-q", &by_digest]).success(), old);
}

#[test]
fn blocked_registries_and_mistakes_are_told_with_file_and_line() {
    let lab = lab_with("\n[[registry]]\nprefix = 'bad.test'\nblocked = true\n");
    let file = lab.at("home/.config/containers/registries.conf");
    let report = lab.forge(&["pull", "bad.test/x"]).report(5);
    assert!(report.contains(&format!("bad.test/x is blocked by {file}:2")), "{report}");
    let report = lab.build_text("FROM bad.test/x\n", &[]).report(5);
    assert!(report.contains("is blocked by") && report.contains("Dockerfile:1:6"), "{report}");
    fs::write(&file, "[[registry]]\nlocation = 'a.test'\nbloked = true\n").unwrap();
    let report = lab.forge(&["pull", "bad.test/x"]).report(3);
    assert!(report.contains(&format!("{file}:3: unknown field `bloked`")), "{report}");
    // A variable goes before, and drop-ins come after.
    let mut lab = lab;
    lab.file("drop/containers/registries.conf.d/1.conf", "[[registry]]\nlocation='c.test'\nblocked=true\n");
    lab.env.push(("XDG_CONFIG_HOME".into(), lab.at("drop")));
    let named = lab
        .file("named.conf", "[[registry]]\nlocation='c.test'\n[[registry]]\nlocation='d.test'\nblocked=true");
    lab.env.push(("CONTAINERS_REGISTRIES_CONF".into(), named.display().to_string()));
    assert!(lab.forge(&["pull", "c.test/x"]).report(5).contains("1.conf:1"));
    assert!(lab.forge(&["pull", "d.test/x"]).report(5).contains("named.conf:3"));
    fs::remove_file(&named).unwrap();
    assert!(lab.forge(&["pull", "d.test/x"]).report(3).contains("named.conf: No such file"));
}

#[test]
fn mistakes_of_the_users_are_no_registrys() {
    let (lab, registry) = (Lab::with_busybox(), Registry::open());
    let name = format!("{}/x:1", registry.host);
    lab.forge(&["tag", "busybox", &name]).success();
    let config = lab.file("home/.docker/config.json", "{\n\"auths\": [\n");
    let report = lab.forge(&["push", &name]).report(3);
    assert!(report.contains("config.json: it is not JSON (line 3"), "{report}");
    // A mistake in one of these files is told in a build, too.
    let report = lab.build_text(&format!("FROM {}/y\n", registry.host), &[]).report(3);
    assert!(report.contains("config.json"), "{report}");
    fs::write(&config, "{\"auths\":{\"h.test\":{\"auth\":\"dTpw\"}}}").unwrap();
    fs::set_permissions(&config, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let pushed = lab.forge(&["push", "-q", &name]);
    assert!(
        pushed.stderr.contains("others may read the logins in") && pushed.stderr.contains("chmod 600"),
        "{pushed}"
    );
    fs::set_permissions(&config, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let pushed = lab.forge(&["push", "-q", &name]);
    assert_eq!(pushed.stderr, "", "{pushed}");
    pushed.success();
    let report = lab.forge(&["push", "--registry-ca=/nowhere.pem", &name]).report(3);
    assert!(report.contains("/nowhere.pem"), "{report}");
    let guarded = Registry::with_password();
    fs::write(&config, "{\"credsStore\":\"../../bin/sh\"}").unwrap();
    let report = lab.forge(&["pull", &format!("{}/x", guarded.host)]).report(3);
    assert!(report.contains("no name of a credential helper"), "{report}");
}

#[test]
fn hosts_toml_names_mirrors_with_their_certificates() {
    let authority = Authority::new();
    let mirror = Registry::with_tls(&authority, true);
    let conf = format!(
        "server = 'https://127.0.0.1:1'\n[host.'https://127.0.0.1:2']\n[host.'https://{}/v2/hub']\n\
         capabilities = ['pull', 'resolve']\noverride_path = true\nca = '{}'\nclient = [['{}', '{}']]\n",
        mirror.host,
        authority.path("ca.crt"),
        authority.path("client.crt"),
        authority.path("client.key"),
    );
    let lab = Lab::new();
    lab.file("home/.config/containerd/certs.d/example.test/hosts.toml", &conf);
    let digest = {
        let certs = lab.path("certs");
        fs::create_dir(&certs).unwrap();
        for (from, to) in [("ca.crt", "ca.crt"), ("client.crt", "client.cert"), ("client.key", "client.key")]
        {
            fs::copy(authority.path(from), certs.join(to)).unwrap();
        }
        pushed(&mirror.host, "hub/app:1", &[&format!("--dest-cert-dir={}", certs.display())])
    };
    assert_eq!(lab.forge(&["pull", "-q", "example.test/app:1"]).success(), digest);
    lab.forge(&["pull", "-q", "other.test/app:1"]).report(5);
    lab.file(
        "home/.config/containerd/certs.d/example.test/hosts.toml",
        "\n[host.'https://x.test']\nca = 3\n",
    );
    let report = lab.forge(&["pull", "example.test/app:1"]).report(3);
    assert!(report.contains("certs.d/example.test/hosts.toml:3"), "{report}");
}

#[test]
fn certificate_directories_are_those_of_docker_and_podman() {
    let authority = Authority::new();
    let registry = Registry::with_tls(&authority, true);
    let lab = Lab::with_busybox();
    let name = format!("{}/x:1", registry.host);
    lab.forge(&["tag", "busybox", &name]).success();
    let dir = format!("home/.config/containers/certs.d/{}", registry.host);
    let copy = |from: &str, to: &str| {
        lab.file(&format!("{dir}/{to}"), &fs::read_to_string(authority.path(from)).unwrap());
    };
    // Literal loopback speaks plain http unless certificates say that TLS is meant.
    lab.forge(&["push", "-q", &name]).report(5);
    copy("ca.crt", "ca.crt");
    // Said at once, and not after the tries that a bad network gets.
    let report = lab.forge(&["push", "-q", &name]).report(5);
    assert!(report.contains("wants a client certificate") && report.contains("certs.d"), "{report}");
    copy("client.crt", "client.cert");
    let report = lab.forge(&["push", "-q", &name]).report(3);
    assert!(report.contains("client.key"), "{report}");
    copy("client.key", "client.key");
    let digest = lab.forge(&["push", "-q", &name]).success();
    let certs = format!("--cert-dir={}", lab.at(&dir));
    assert_eq!(self::digest(&format!("docker://{name}"), &[&certs]), digest);
}

#[test]
fn insecure_registries_speak_tls_that_proves_nothing_or_plain_http() {
    let authority = Authority::new();
    for registry in [Registry::with_tls(&authority, false), Registry::open()] {
        let lab = Lab::with_busybox();
        let name = format!("{}/x:1", registry.host);
        lab.forge(&["tag", "busybox", &name]).success();
        let digest = lab.forge(&["push", "-q", "--insecure-registry", &registry.host, &name]).success();
        let conf = format!("[[registry]]\nlocation = '{}'\ninsecure = true\n", registry.host);
        assert_eq!(lab_with(&conf).forge(&["pull", "-q", &name]).success(), digest);
    }
}

#[test]
fn proxies_are_asked_for_what_is_not_on_this_machine() {
    let authority = Authority::new();
    for (registry, variable) in
        [(Registry::with_tls(&authority, false), "HTTPS_PROXY"), (Registry::open(), "http_proxy")]
    {
        let proxy = Proxy::to(&registry.host);
        let mut lab = Lab::with_busybox();
        lab.env.push((variable.into(), proxy.url()));
        let mut flags = vec!["push", "-q", "registry.test/x:1"];
        let ca = format!("--registry-ca={}", authority.path("ca.crt"));
        if variable == "HTTPS_PROXY" {
            flags.push(&ca);
        } else {
            // Nobody by that name: plain http is spoken only by leave, and only by the proxy.
            lab.file(
                "home/.config/containerd/certs.d/registry.test/hosts.toml",
                "server = 'http://registry.test'\n",
            );
        }
        lab.forge(&["tag", "busybox", "registry.test/x:1"]).success();
        lab.forge(&flags).success();
        let asked = proxy.asked();
        let want = if variable == "HTTPS_PROXY" { "CONNECT registry.test:443" } else { "registry.test" };
        assert!(!asked.is_empty() && asked.iter().all(|host| host == want), "{asked:?}");
        // Loopback goes straight, and so does what NO_PROXY lists.
        lab.env.push(("NO_PROXY".into(), "registry.test".into()));
        let before = proxy.asked().len();
        lab.forge(&flags).report(5);
        lab.forge(&["tag", "busybox", &format!("{}/y", registry.host)]).success();
        lab.forge(&["push", "-q", "--insecure-registry", &registry.host, &format!("{}/y", registry.host)])
            .success();
        assert_eq!(proxy.asked().len(), before);
    }
}
