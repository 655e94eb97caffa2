//! `--load`: into Docker, podman and containerd, each asked afterwards what it has.

use std::fs;
use std::path::PathBuf;

use crate::support::{Authority, Counted, Dockerd, Lab, json, tool, tool_with};

/// A context with a large layer below and a small one on top, which holds this text.
fn context(lab: &Lab, text: &str) -> PathBuf {
    let context = lab.context(
        "app",
        &[("Dockerfile", "FROM busybox\nCOPY large /large\nCOPY top /top\nCMD cat /top\n"), ("top", text)],
    );
    let mut seed = 1u64;
    let mut noise = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 56) as u8
    };
    let bytes: Vec<u8> = std::iter::repeat_with(&mut noise).take(2_000_000).collect();
    fs::write(context.join("large"), bytes).unwrap();
    context
}

#[test]
fn docker_gets_only_the_layers_that_it_lacks() {
    let (engine, mut lab) = (Dockerd::start(), Lab::with_busybox());
    let counted = Counted::before(engine.socket(), &lab.path("counted.sock"));
    lab.env.push(("DOCKER_HOST".into(), counted.host()));
    let context = context(&lab, "one");
    lab.build(&context, &["-t", "app:1", "--load"]).success();
    let first = counted.sent();
    assert!(first > 2_000_000, "everything is sent once: {first}");
    let id = lab.forge(&["inspect", "--format", "{{.Id}}", "app:1"]).success();
    let there = engine.get("/images/app:1/json");
    assert_eq!(there["Id"], id);
    assert_eq!(
        there["Config"]["Cmd"],
        json(&lab.forge(&["inspect", "-f", "{{json .Config.Cmd}}", "app:1"]).success())
    );

    // The same image again: questions, and no byte of a layer.
    let again = lab.build(&context, &["-t", "app:1", "-t", "other.test/app:2", "--load=docker"]);
    assert!(again.stderr.contains("docker has the image already"), "{again}");
    let second = counted.sent();
    assert!(second < 2_000, "{second} bytes for nothing");
    assert_eq!(engine.get("/images/other.test/app:2/json")["Id"], id);

    // Another top layer: that layer.
    fs::write(context.join("top"), "two").unwrap();
    let third = lab.build(&context, &["-t", "app:1", "-o", "type=docker"]);
    assert!(third.stderr.contains("loaded into docker"), "{third}");
    let sent = counted.sent();
    assert!(sent < 30_000, "{sent} bytes for a small layer");
    let there = engine.get("/images/app:1/json");
    assert_eq!(there["Id"], lab.forge(&["inspect", "-f", "{{.Id}}", "app:1"]).success());
    assert_eq!(there["RootFS"]["Layers"].as_array().unwrap().len(), 3);
    // Docker gives the files back as they are.
    let mut saved = std::process::Command::new("docker");
    let saved =
        saved.env("DOCKER_HOST", counted.host()).args(["save", "-o", &lab.at("saved.tar"), "app:1"]).output();
    assert!(saved.expect("install docker.io").status.success());
    let back = lab.forge(&["copy", "-q", &format!("docker-archive:{}:app:1", lab.at("saved.tar")), "back:1"]);
    back.success();
    assert_eq!(lab.forge(&["run", "--network=none", "back:1"]).success(), "two");
    let layers = "{{json .RootFS}}";
    assert_eq!(
        lab.forge(&["inspect", "-f", layers, "back:1"]).success(),
        lab.forge(&["inspect", "-f", layers, "app:1"]).success()
    );
}

#[test]
fn docker_is_reached_by_tls_by_ssh_and_by_its_contexts() {
    let (authority, mut lab) = (Authority::new(), Lab::with_busybox());
    let (engine, tcp) = Dockerd::with_tls(&authority);
    let own = lab.env.clone();
    let load = |lab: &Lab, tag: &str| lab.build_text("FROM busybox\n", &["-t", tag, "--load"]);
    let is_there = |tag: &str| engine.get(&format!("/images/{tag}/json")).get("Id").is_some();
    for (from, to) in [("ca.crt", "ca.pem"), ("client.crt", "cert.pem"), ("client.key", "key.pem")] {
        lab.file(&format!("certs/{to}"), &fs::read_to_string(authority.path(from)).unwrap());
    }

    let verify = ("DOCKER_TLS_VERIFY".to_owned(), "1".to_owned());
    lab.env.extend([("DOCKER_HOST".into(), tcp.clone()), verify]);
    let report = load(&lab, "a:1").report(3);
    assert!(report.contains("no ca.pem") && report.contains("DOCKER_CERT_PATH"), "{report}");
    lab.env.push(("DOCKER_CERT_PATH".into(), lab.at("certs")));
    load(&lab, "a:1").success();
    assert!(is_there("a:1"));
    // Without a certificate of ours, Docker does not answer; with another authority, it is not believed.
    fs::create_dir(lab.path("less")).unwrap();
    fs::copy(lab.path("certs/ca.pem"), lab.path("less/ca.pem")).unwrap();
    lab.env.last_mut().unwrap().1 = lab.at("less");
    load(&lab, "b:1").report(9);
    fs::copy(Authority::new().path("ca.crt"), lab.path("less/ca.pem")).unwrap();
    let report = load(&lab, "b:1").report(9);
    assert!(report.contains("certificate"), "{report}");

    // ssh: what it is called with is carried out here, by Docker's own client.
    lab.env.clone_from(&own);
    let bin = lab.path("bin");
    let script = format!(
        "#!/bin/sh\necho \"$*\" >> {}\nwhile [ \"$1\" != -- ]; do shift; done\nshift 2\nexport DOCKER_HOST=unix://{}\nexec \"$@\"\n",
        lab.at("ssh.log"),
        engine.socket().display()
    );
    let ssh = lab.file("bin/ssh", &script);
    fs::set_permissions(&ssh, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", bin.display());
    lab.env.extend([("PATH".to_owned(), path), ("DOCKER_HOST".into(), "ssh://me@far.test:2222".into())]);
    load(&lab, "c:1").success();
    assert!(is_there("c:1"));
    let called = fs::read_to_string(lab.path("ssh.log")).unwrap();
    let want = "-o ConnectTimeout=30 -T -l me -p 2222 -- far.test docker system dial-stdio";
    assert!(called.lines().all(|line| line == want), "{called}");
    fs::write(&ssh, "#!/bin/sh\necho 'far.test: no route' >&2\nexit 255\n").unwrap();
    let report = load(&lab, "d:1").report(9);
    assert!(report.contains("far.test: no route"), "{report}");

    // A context, made by Docker's own client.
    lab.env.clone_from(&own);
    let home = lab.at("home");
    let docker = |args: &[&str]| tool_with(&[("HOME", home.as_str())], "docker", args);
    let pem = |name: &str| lab.at(&format!("certs/{name}.pem"));
    let endpoint = format!("host={tcp},ca={},cert={},key={}", pem("ca"), pem("cert"), pem("key"));
    docker(&["context", "create", "far", "--docker", &endpoint]);
    lab.env.push(("DOCKER_CONTEXT".into(), "far".into()));
    load(&lab, "e:1").success();
    assert!(is_there("e:1"));
    lab.env.clone_from(&own);
    docker(&["context", "use", "far"]);
    load(&lab, "f:1").success();
    assert!(is_there("f:1"));
    lab.env.push(("DOCKER_CONTEXT".into(), "none".into()));
    let report = load(&lab, "g:1").report(3);
    assert!(report.contains("Docker context `none`") && report.contains("meta.json"), "{report}");
}

#[test]
fn containerd_gets_only_the_blobs_that_it_lacks() {
    let (engine, mut lab) = (Dockerd::start(), Lab::with_busybox());
    lab.env.push(("CONTAINERD_ADDRESS".into(), engine.containerd()));
    lab.env.push(("CONTAINERD_NAMESPACE".into(), "here".into()));
    let context = context(&lab, "one");
    let load = |more: &[&str]| lab.build(&context, &[&["-t", "app:1", "--load=containerd"], more].concat());
    let bytes = |outcome: &crate::support::Outcome| -> u64 {
        let (_, rest) =
            outcome.stderr.split_once("loaded into containerd, ").unwrap_or_else(|| panic!("{outcome}"));
        rest.split(' ').next().unwrap().parse().unwrap()
    };
    let first = load(&[]);
    assert!(bytes(&first) > 2_000_000, "{first}");
    let digest = first.success();
    let address = engine.containerd();
    let ctr = |args: &[&str]| tool("ctr", &[&["--address", &address, "--namespace", "here"], args].concat());
    let listed = ctr(&["images", "ls"]);
    assert!(listed.contains("docker.io/library/app:1") && listed.contains(&digest), "{listed}");
    assert!(ctr(&["images", "check"]).contains("complete"), "{}", ctr(&["images", "check"]));
    let again = load(&[]);
    assert!(again.stderr.contains("containerd has the image already"), "{again}");
    // Each takes the names from the one before, which containerd collects while the next comes.
    let mut digest = String::new();
    for n in 2..9 {
        fs::write(context.join("top"), n.to_string()).unwrap();
        let partial = load(&["-t", "second:1"]);
        assert!(bytes(&partial) < 2_000 && !partial.stderr.contains("since:"), "{partial}");
        digest = partial.success();
    }
    assert!(!ctr(&["images", "ls", "-q"]).contains("forge.invalid"), "no name is left over");
    for name in ["docker.io/library/app:1", "docker.io/library/second:1"] {
        assert!(ctr(&["images", "ls"]).lines().any(|line| line.contains(name) && line.contains(&digest)));
    }
}

/// Podman with a storage of its own.
fn own_storage(lab: &mut Lab) -> String {
    let (graph, run) = (lab.at("graph"), lab.at("run"));
    let conf = format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{graph}\"\nrunroot = \"{run}\"\n");
    let file = lab.file("storage.conf", &conf).display().to_string();
    lab.env.push(("CONTAINERS_STORAGE_CONF".into(), file.clone()));
    file
}

#[test]
fn podman_pulls_from_the_stores_own_blobs() {
    let mut lab = Lab::with_busybox();
    let storage = own_storage(&mut lab);
    let podman = |args: &[&str]| tool_with(&[("CONTAINERS_STORAGE_CONF", &storage)], "podman", args);
    let context = context(&lab, "one");
    lab.build(&context, &["-t", "app:1", "-t", "x.test/app:2", "--load=podman"]).success();
    let id = lab.forge(&["inspect", "-f", "{{.Id}}", "app:1"]).success();
    let names = json(&podman(&["image", "inspect", "--format", "{{json .RepoTags}}", &id[7..]]));
    let mut names: Vec<&str> = names.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["docker.io/library/app:1", "x.test/app:2"]);
    let again = lab.build(&context, &["-t", "app:1", "--load=podman"]);
    assert!(again.stderr.contains("podman has the image already"), "{again}");
    // By the name that skopeo gives it, and without a build.
    lab.forge(&["copy", "-q", "app:1", "containers-storage:third:1"]).success();
    podman(&["image", "exists", "docker.io/library/third:1"]);
}

#[test]
fn podman_reads_no_layer_that_it_has() {
    let mut lab = Lab::with_busybox();
    own_storage(&mut lab);
    let context = context(&lab, "one");
    lab.build(&context, &["-t", "app:1"]).success();
    let layers = json(&lab.forge(&["inspect", "-f", "{{json .Manifest.layers}}", "app:1"]).success());
    let large = layers.as_array().unwrap().iter().max_by_key(|layer| layer["size"].as_u64()).unwrap();
    let hex = large["digest"].as_str().unwrap().trim_start_matches("sha256:");
    // podman under strace, which notes what is read of that layer's file.
    let script = format!(
        "#!/bin/sh\nexec strace -f -qq -A -o {} -e trace=read,pread64,copy_file_range,sendfile -P {} /usr/bin/podman \"$@\"\n",
        lab.at("reads"),
        lab.at(&format!("store/blobs/sha256/{hex}")),
    );
    let podman = lab.file("bin/podman", &script);
    fs::set_permissions(&podman, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    lab.env.push(("PATH".into(), format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", lab.at("bin"))));
    let read = || -> u64 {
        let log = fs::read_to_string(lab.path("reads")).unwrap_or_default();
        let _ = fs::remove_file(lab.path("reads"));
        log.lines().filter_map(|line| line.rsplit_once("= ")?.1.trim().parse::<u64>().ok()).sum()
    };
    lab.build(&context, &["-t", "app:1", "--load=podman"]).success();
    let first = read();
    assert!(first >= large["size"].as_u64().unwrap(), "{first} bytes of a layer that podman lacks");
    fs::write(context.join("top"), "two").unwrap();
    lab.build(&context, &["-t", "app:1", "--load=podman"]).success();
    assert_eq!(read(), 0, "bytes of a layer that podman has");
}

#[test]
fn what_cannot_be_loaded_into_is_said() {
    let mut lab = Lab::with_busybox();
    lab.env.push(("DOCKER_HOST".into(), "unix:///nowhere/docker.sock".into()));
    let report = lab.build_text("FROM busybox\n", &["-t", "a", "--load"]).report(9);
    assert!(report.contains("unix:///nowhere/docker.sock does not answer"), "{report}");
    lab.env.pop();
    lab.env.push(("DOCKER_HOST".into(), "npipe:////./pipe/docker".into()));
    let report = lab.build_text("FROM busybox\n", &["-t", "a", "--load"]).report(2);
    assert!(report.contains("npipe:"), "{report}");
    lab.build_text("FROM busybox\n", &["-t", "a", "--load=lxc"]).failure(2);
    let two = ["-t", "a", "--platform", "linux/amd64,linux/arm64", "--load"];
    let report = lab.build_text("FROM scratch\nCOPY Dockerfile /\n", &two).report(2);
    assert!(report.contains("one platform"), "{report}");
}
