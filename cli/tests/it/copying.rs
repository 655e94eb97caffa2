//! `forge copy` and `forge inspect`: images from place to place, beside skopeo and umoci.

use std::fs;
use std::path::Path;

use crate::support::{Lab, Registry, json, tool};

/// An index of two platforms and its digest, in the store as `app:1`.
fn index(lab: &Lab) -> String {
    let text = "FROM scratch\nARG TARGETARCH\nCOPY Dockerfile /file\nLABEL arch=$TARGETARCH\n";
    lab.build_text(text, &["-t", "app:1", "--platform", "linux/amd64,linux/arm64"]).success()
}

fn raw(name: &str) -> String {
    tool("skopeo", &["inspect", "--raw", "--tls-verify=false", name])
}

#[test]
fn whole_indexes_go_anywhere_and_come_back_the_same() {
    let (lab, one, two) = (Lab::new(), Registry::open(), Registry::open());
    let digest = index(&lab);
    let stored = lab.forge(&["inspect", "--raw", "app:1"]).success();
    let names = [format!("docker://{}/a:1", one.host), format!("docker://{}/b:1", two.host)];
    let (layout, archive) =
        (format!("oci:{}:v1", lab.at("layout")), format!("oci-archive:{}:v1", lab.at("a.tar")));
    // Store, registry, registry, layout, archive, registry, store: each only from the one before.
    let way = ["store:app:1", &names[0], &names[1], &layout, &archive, &names[0], "back:1"];
    let mut other = None;
    for pair in way.windows(2) {
        let fresh = Lab::new();
        let at =
            if pair[0].starts_with("store:") || pair[1] == "back:1" { &lab } else { other.insert(fresh) };
        assert_eq!(at.forge(&["copy", "-q", pair[0], pair[1]]).success(), digest, "{pair:?}");
    }
    for name in [&names[0], &names[1], &layout, &archive] {
        assert_eq!(raw(name), stored, "{name}");
    }
    assert_eq!(lab.forge(&["inspect", "--raw", "back:1"]).success(), stored);
    assert_eq!(Lab::new().forge(&["inspect", "--raw", &names[1]]).success(), stored);
    // One of its images.
    let image = lab.forge(&["copy", "-q", "--platform=linux/arm64", &names[0], "arm:1"]).success();
    assert_eq!(lab.config("arm:1")["architecture"], "arm64");
    assert!(stored.contains(&image));
    // skopeo takes all of what forge wrote, and umoci reads the layout.
    let to = format!("dir:{}", lab.at("dir"));
    tool("skopeo", &["copy", "--quiet", "--all", &layout, &to]);
    fs::create_dir(lab.path("two")).unwrap();
    lab.forge(&["copy", "-q", "arm:1", &format!("oci:{}:arm", lab.at("layout"))]).success();
    let tags = tool("umoci", &["ls", "--layout", &lab.at("layout")]);
    assert!(tags.lines().eq(["arm", "v1"]), "{tags}");
}

#[test]
fn blobs_of_the_same_registry_are_mounted_and_never_fetched() {
    let (lab, registry) = (Lab::with_busybox(), Registry::open());
    let (from, to) =
        (format!("{}/one/app:1", registry.host), format!("docker://{}/two/app:1", registry.host));
    lab.forge(&["tag", "busybox", &from]).success();
    let digest = lab.forge(&["push", "-q", &from]).success();
    let other = Lab::new();
    assert_eq!(other.forge(&["copy", "-q", &format!("docker://{from}"), &to]).success(), digest);
    let blobs = fs::read_dir(other.path("store/blobs/sha256")).unwrap().count();
    assert_eq!(blobs, 1, "the manifest is all that came here");
    assert_eq!(json(&tool("skopeo", &["inspect", "--tls-verify=false", &to]))["Digest"], digest);
}

#[test]
fn archives_of_docker_are_read_and_written_beside_skopeo() {
    let lab = Lab::with_busybox();
    lab.build_text("FROM busybox\nRUN echo x > /x\nCMD cat /x\n", &["-t", "app:1"]).success();
    let (ours, theirs) = (lab.at("ours.tar"), lab.at("theirs.tar"));
    lab.forge(&["copy", "-q", "app:1", &format!("docker-archive:{ours}:app:1")]).success();
    tool(
        "skopeo",
        &["copy", "--quiet", &format!("docker-archive:{ours}"), &format!("docker-archive:{theirs}:new:2")],
    );
    for (file, name) in [(&ours, "app:1"), (&theirs, "new:2"), (&theirs, "")] {
        let source = format!("docker-archive:{file}:{name}");
        lab.forge(&["copy", "-q", source.trim_end_matches(':'), "back:1"]).success();
        assert_eq!(lab.forge(&["run", "--network=none", "back:1"]).success(), "x");
    }
    let report = lab.forge(&["copy", "-q", &format!("docker-archive:{theirs}:none:1"), "z"]).report(6);
    assert!(report.contains("no such image"), "{report}");
    // From a pipe, packed.
    tool("gzip", &["-kf", &theirs]);
    let mut child = lab.command(&["copy", "-q", "docker-archive:-", "piped:1"]);
    let packed = fs::File::open(format!("{theirs}.gz")).unwrap();
    assert!(child.stdin(packed).output().unwrap().status.success());
}

/// A tar of these files, by GNU tar.
fn tar(lab: &Lab, files: &[(&str, &str)]) -> String {
    let dir = lab.context("parts", files);
    let file = lab.at("made.tar");
    tool("tar", &["-cf", &file, "-C", dir.to_str().unwrap(), "."]);
    fs::remove_dir_all(dir).unwrap();
    file
}

#[test]
fn archives_that_lie_are_refused_and_leave_nothing() {
    let lab = Lab::new();
    let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{hex}","size":0}}]}}"#
    );
    let blob = format!("blobs/sha256/{hex}");
    let copy = |scheme: &str, file: &str| lab.forge(&["copy", "-q", &format!("{scheme}:{file}"), "x:1"]);
    let config = r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:0000000000000000000000000000000000000000000000000000000000000000"]}}"#;
    let saved = |layer: &str| format!(r#"[{{"Config":"c.json","RepoTags":["a:1"],"Layers":["{layer}"]}}]"#);
    for (scheme, files, why) in [
        ("oci-archive", &[("index.json", index.as_str()), (blob.as_str(), "not empty")][..], "hash"),
        ("oci-archive", &[("index.json", index.as_str())], "lacks its blob"),
        ("oci-archive", &[("index.json", "{")], "index.json"),
        ("oci-archive", &[("other", "x")], "no such image"),
        ("docker-archive", &[("manifest.json", &saved("../../etc/shadow")), ("c.json", config)], "not in it"),
        (
            "docker-archive",
            &[("manifest.json", &saved("l.tar")), ("c.json", config), ("l.tar", "x")],
            "DiffID",
        ),
        ("docker-archive", &[("manifest.json", &saved("l.tar"))], "not in it"),
    ] {
        let outcome = copy(scheme, &tar(&lab, files));
        assert!([4, 6].contains(&outcome.code), "{why}: {outcome}");
        assert!(outcome.stderr.contains(why), "{why}: {outcome}");
        assert_eq!(lab.unfinished(), Vec::<std::path::PathBuf>::new());
    }
    // A layout whose blob is a link to somewhere else.
    let dir =
        lab.context("layout", &[("index.json", &index), ("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#)]);
    fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    std::os::unix::fs::symlink("/etc/shadow", dir.join(&blob)).unwrap();
    lab.forge(&["copy", "-q", &format!("oci:{}", dir.display()), "x:1"]).failure(9);
    assert_eq!(lab.forge(&["images", "-q"]).success(), "");
    assert!(!Path::new(&lab.at("nowhere")).exists());
    lab.forge(&["copy", "-q", "oci-archive:/nowhere.tar", "x:1"]).report(4);
    lab.forge(&["copy", "-q", "none:1", "x:1"]).report(4);
    lab.forge(&["copy", "-q", "dir:/tmp", "x:1"]).report(2);
}

#[test]
fn inspect_takes_the_templates_of_dockers_users() {
    let lab = Lab::with_busybox();
    let text = "FROM busybox\nENV A=1 B=2\nLABEL k.x=v\nCMD [\"sh\", \"-c\", \"true\"]\nEXPOSE 80\n";
    let digest = lab.build_text(text, &["-t", "app:1", "--iidfile", "id"]).success();
    let id = fs::read_to_string(lab.path("id")).unwrap();
    let show = |template: &str| lab.forge(&["inspect", "--format", template, "app:1"]).success();
    assert_eq!(show("{{.Id}}"), id);
    assert_eq!(show("{{.Config.Cmd}}"), "[sh -c true]");
    assert_eq!(show("{{json .Config.Labels}}"), r#"{"k.x":"v"}"#);
    assert_eq!(show("{{index .Config.Labels \"k.x\"}}"), "v");
    assert!(show("{{range .Config.Env}}{{println .}}{{end}}").contains("A=1\nB=2"));
    assert_eq!(show("{{index .RepoDigests 0}} {{index .RepoTags 0}}"), format!("app@{digest} app:1"));
    assert_eq!(json(&show("{{json .}}"))["Id"], id);
    assert_eq!(show("{{.Config.Entrypoint}}{{.Config.User}}"), "[]");
    let report = lab.forge(&["inspect", "-f", "{{.Config.Nope}}", "app:1"]).report(2);
    assert!(report.contains("no field Nope"), "{report}");
    assert_eq!(json(&lab.forge(&["inspect", "app:1", "busybox"]).success()).as_array().unwrap().len(), 2);
    lab.forge(&["inspect", &format!("app@{digest}")]).success();
}
