//! Words of `-o` that only show in special cases: layers that may not be distributed, plain http, names by digest.

use super::rejected::{Made, digest, packed, tar};
use super::{image, index};
use crate::support::{Lab, Registry, json, tool};

const FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";

#[test]
fn layers_that_may_not_be_distributed_stay_marked_so_only_when_asked() {
    let lab = Lab::new();
    let layer = tar("f", b"foreign\n");
    let made = Made::new(&lab, "made");
    let mut blob = made.descriptor(FOREIGN, &packed("gzip", &layer));
    blob["urls"] = serde_json::json!(["https://elsewhere.example/layer"]);
    made.image(&[blob.clone()], &[digest(&layer)]);
    let outputs = [
        "type=oci,dest=plain/",
        "type=oci,dest=kept/,prefer-nondist-layers=true",
        "type=oci,dest=docker/,prefer-nondist-layers=true,oci-mediatypes=false",
    ];
    let mut args = vec!["-t".to_owned(), "a:1".into(), "--build-context".into(), made.context()];
    args.extend(outputs.iter().flat_map(|output| ["-o".to_owned(), (*output).to_owned()]));
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    lab.build_text("FROM b\nCOPY Dockerfile /d\n", &words).success();
    let layers = |layout: &str| image(&lab, layout).0["layers"].clone();
    let first = |layout: &str| (layers(layout)[0]["mediaType"].clone(), layers(layout)[0]["urls"].clone());
    // It travels with the image, so it says so, and names no other place.
    assert_eq!(
        first("plain"),
        ("application/vnd.oci.image.layer.v1.tar+gzip".into(), serde_json::Value::Null)
    );
    assert_eq!(first("kept"), (FOREIGN.into(), blob["urls"].clone()));
    let docker = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    assert_eq!(first("docker"), (docker.into(), blob["urls"].clone()));
    for layout in ["plain", "kept", "docker"] {
        let own = layers(layout)[1]["mediaType"].as_str().unwrap().to_owned();
        assert!(!own.contains("nondist") && !own.contains("foreign"), "{layout}: {own}");
    }
}

#[test]
fn an_output_pushes_by_plain_http_where_it_says_so() {
    let address = tool("hostname", &["-I"]);
    let address = address.split_whitespace().find(|address| address.contains('.'));
    let address = address.expect("this test needs a network interface beside loopback");
    let (lab, registry) = (Lab::with_busybox(), Registry::at(address));
    let output = |more: &str| format!("type=registry,name={}/x:1{more}", registry.host);
    let report = lab.build_text("FROM busybox\nENV A=1\n", &["-o", &output("")]).report(5);
    assert!(report.contains("--insecure-registry"), "{report}");
    let pushed =
        lab.build_text("FROM busybox\nENV A=1\n", &["-o", &output(",registry.insecure=true")]).success();
    assert_eq!(registry.digest("x", "1"), pushed);
    let report = lab.build_text("FROM busybox\n", &["-o", "type=image,registry.insecure=true"]).report(2);
    assert!(report.contains("says nothing without push=true"), "{report}");
}

#[test]
fn an_image_without_a_name_is_named_by_its_digest() {
    let lab = Lab::with_busybox();
    let names = |digest: &str| -> Vec<String> {
        let listed = lab.forge(&["images", "--json"]).success();
        let listed = listed.lines().map(json).filter(|line| line.to_string().contains(digest));
        listed.map(|line| line.to_string()).collect()
    };
    let build = |text: &str, args: &[&str]| lab.build_text(&format!("FROM busybox\n{text}"), args).success();
    let prefix = "dangling-name-prefix=x.test/dangling";
    let digest = build("ENV A=1\n", &["-o", &format!("type=image,{prefix}")]);
    assert!(names(&digest).iter().any(|line| line.contains("x.test/dangling")), "{:?}", names(&digest));
    lab.forge(&["inspect", &format!("x.test/dangling@{digest}")]).success();
    // Beside a name it is there too, unless only images without one are meant; BuildKit's spelling of that counts.
    let digest = build("ENV A=2\n", &["-t", "named:1", "-o", &format!("type=image,{prefix}")]);
    lab.forge(&["inspect", &format!("x.test/dangling@{digest}")]).success();
    for (value, word) in [(3, "danging-name-empty-only"), (4, "dangling-name-empty-only")] {
        let output = format!("type=image,{prefix},{word}=true");
        let digest = build(&format!("ENV A={value}\n"), &["-t", "named:1", "-o", &output]);
        lab.forge(&["inspect", &format!("x.test/dangling@{digest}")]).failure(4);
        let digest = build(&format!("ENV B={value}\n"), &["-o", &output]);
        lab.forge(&["inspect", &format!("x.test/dangling@{digest}")]).success();
    }
}

#[test]
fn images_that_share_a_tag_share_a_layout() {
    let lab = Lab::new();
    let build = |name: &str, value: &str| {
        let args = ["-q", "-t", name, "-o", "type=oci,dest=lay/"];
        lab.build_text(&format!("FROM scratch\nLABEL a={value}\n"), &args).success()
    };
    let (one, two) = (build("one/app:1", "one"), build("two/app:1", "two"));
    let entries = |lab: &Lab| -> Vec<(String, String)> {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let list = index(lab, "lay")["manifests"].as_array().unwrap().clone();
        list.iter()
            .map(|e| (text(&e["annotations"]["io.containerd.image.name"]), text(&e["digest"])))
            .collect()
    };
    let full = |name: &str| format!("docker.io/{name}/app:1");
    assert_eq!(entries(&lab), [(full("two"), two.clone()), (full("one"), one)]);
    // The same name again takes its own place, and no other's.
    let again = build("one/app:1", "again");
    assert_eq!(entries(&lab), [(full("one"), again.clone()), (full("two"), two)]);
    // Who asks by tag alone gets the newest.
    let seen = json(&tool("skopeo", &["inspect", &format!("oci:{}:1", lab.at("lay"))]));
    assert_eq!(seen["Digest"], again);
    // Who writes by tag alone means that tag.
    lab.build_text("FROM scratch\nLABEL a=tag\n", &["-q", "-t", "three:1"]).success();
    lab.forge(&["copy", "-q", "three:1", &format!("oci:{}:1", lab.at("lay"))]).success();
    assert_eq!(entries(&lab).len(), 1);
}

#[test]
fn builds_at_once_keep_each_others_entries_in_a_layout() {
    let lab = Lab::new();
    let started: Vec<_> = (0..8)
        .map(|n| {
            let context =
                lab.context(&format!("c{n}"), &[("Dockerfile", &format!("FROM scratch\nLABEL n={n}\n"))]);
            let name = format!("app:{n}");
            lab.start(&["build", "-q", "-t", &name, "-o", "type=oci,dest=lay/", context.to_str().unwrap()])
        })
        .collect();
    started.into_iter().for_each(|build| drop(build.finish().success()));
    assert_eq!(index(&lab, "lay")["manifests"].as_array().unwrap().len(), 8);
}
