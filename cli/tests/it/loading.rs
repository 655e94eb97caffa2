//! `--load`: into Docker, podman and containerd, each asked afterwards what it has.

use std::fs;
use std::path::PathBuf;

use crate::support::{Counted, Dockerd, Lab, json, tool, tool_with};

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
    // containerd may collect what it listed a moment ago; then forge sends everything, and says so.
    let partial = (2..5).map(|n: u32| {
        fs::write(context.join("top"), n.to_string()).unwrap();
        load(&["-t", "second:1"])
    });
    let third =
        partial.into_iter().find(|loaded| !loaded.stderr.contains("since:")).expect("no load was partial");
    assert!(bytes(&third) < 2_000, "{third}");
    let digest = third.success();
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
fn what_cannot_be_loaded_into_is_said() {
    let mut lab = Lab::with_busybox();
    lab.env.push(("DOCKER_HOST".into(), "unix:///nowhere/docker.sock".into()));
    let report = lab.build_text("FROM busybox\n", &["-t", "a", "--load"]).report(9);
    assert!(report.contains("unix:///nowhere/docker.sock does not answer"), "{report}");
    lab.env.pop();
    lab.env.push(("DOCKER_HOST".into(), "ssh://host".into()));
    let report = lab.build_text("FROM busybox\n", &["-t", "a", "--load"]).report(2);
    assert!(report.contains("ssh://host"), "{report}");
    lab.build_text("FROM busybox\n", &["-t", "a", "--load=lxc"]).failure(2);
    let two = ["-t", "a", "--platform", "linux/amd64,linux/arm64", "--load"];
    let report = lab.build_text("FROM scratch\nCOPY Dockerfile /\n", &two).report(2);
    assert!(report.contains("one platform"), "{report}");
}
