//! Images that nobody looks into are not unpacked, and not even fetched where the registry has them already.

use std::fs;

use crate::support::{Lab, Registry, json, tool};

/// A base image in a registry; gives its name and its layer's digest.
fn base(registry: &Registry) -> (String, String) {
    let lab = Lab::with_busybox();
    let name = format!("{}/base/image:1", registry.host);
    lab.build_text("FROM busybox\nENV BASE=1\n", &["-t", &name, "--push"]).success();
    let manifest = json(&lab.forge(&["inspect", "--raw", &name]).success());
    (name, manifest["layers"][0]["digest"].as_str().unwrap().to_owned())
}

fn trees(lab: &Lab) -> usize {
    fs::read_dir(lab.path("store/layers")).unwrap().count()
}

#[test]
fn a_base_that_no_step_reads_is_never_unpacked() {
    let registry = Registry::open();
    let (name, layer) = base(&registry);
    let lab = Lab::new();
    let text = format!("FROM {name}\nENV A=1\nLABEL b=c\nCMD [\"true\"]\nEXPOSE 80\n");
    // Named in the store, its layers are not even fetched; a layout holds them, packed as they are.
    lab.build_text(&text, &["-t", "a"]).success();
    let fetched = |layer: &str| {
        let get = format!("GET /v2/base/image/blobs/{layer}");
        registry.requests().iter().filter(|(request, _)| *request == get).count()
    };
    let before = fetched(&layer);
    lab.build_text(&text, &["-t", "a", "-o", "type=oci,dest=out/"]).success();
    assert_eq!(trees(&lab), 0);
    assert!(before <= 1 && fetched(&layer) == 1, "{before}, then {}", fetched(&layer));
    assert!(lab.path("out/blobs/sha256").join(&layer[7..]).exists(), "the layout has the layer all the same");

    // COPY --link looks at nothing below: its own tree at most, and none where it is packed at once.
    let lab = Lab::new();
    let context = lab.context("ctx", &[("f", "linked\n")]);
    lab.file("ctx/Dockerfile", &format!("FROM {name}\nCOPY --link f /f\nENV A=1\n"));
    lab.build(&context, &["-t", "a"]).success();
    assert!(trees(&lab) <= 1);
    assert_eq!(lab.shell("a", "cat /f; echo $BASE"), "linked\n1");
}

#[test]
fn what_a_registry_has_already_is_mounted_there_and_not_fetched() {
    let registry = Registry::open();
    let (name, layer) = base(&registry);
    let lab = Lab::new();
    let pushed = format!("{}/other/app:1", registry.host);
    let output = format!("type=registry,name={pushed},store=false");
    let digest = lab.build_text(&format!("FROM {name}\nENV A=1\n"), &["-o", &output]).success();
    assert_eq!(trees(&lab), 0);
    // The registry's own log: the layer was mounted from where it was, and nobody asked for its bytes.
    let requests = registry.requests();
    let asked: Vec<_> = requests.iter().filter(|(request, _)| request.contains(&layer[7..])).collect();
    let is_mount = |request: &str| {
        request.starts_with("POST /v2/other/app/blobs/uploads/?") && request.contains("mount=")
    };
    assert!(asked.iter().any(|(request, status)| is_mount(request) && *status == 201), "{asked:#?}");
    assert!(!asked.iter().any(|(request, _)| request.starts_with("GET ")), "{asked:#?}");
    assert!(!lab.path("store/blobs/sha256").join(&layer[7..]).exists(), "the base's layer was not fetched");
    let remote = format!("docker://{pushed}");
    let inspected = json(&tool("skopeo", &["inspect", "--tls-verify=false", &remote]));
    assert_eq!((&inspected["Digest"], &inspected["Layers"][0]), (&digest.into(), &layer.into()));
    let copy = format!("dir:{}", lab.at("copy"));
    tool("skopeo", &["copy", "--quiet", "--src-tls-verify=false", &remote, &copy]);
}
