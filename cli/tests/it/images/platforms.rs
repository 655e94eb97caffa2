//! Several platforms in one build.

use std::fs;

use serde_json::{Value, json as value};

use super::{document, index};
use crate::support::{Lab, Registry, json, tool};

const TEXT: &str = "FROM --platform=$BUILDPLATFORM busybox AS tool\nRUN echo common > /common\n\
                    FROM scratch\nARG TARGETARCH\nARG TARGETVARIANT\nCOPY --from=tool /common /\n\
                    COPY files/$TARGETARCH$TARGETVARIANT /arch\n";
const PLATFORMS: &str = "linux/arm64,linux/amd64,linux/arm/v7";

fn context(lab: &Lab) -> std::path::PathBuf {
    let files =
        [("Dockerfile", TEXT), ("files/arm64", "arm64"), ("files/amd64", "amd64"), ("files/armv7", "v7")];
    lab.context("ctx", &files)
}

/// What the store has under that digest, which has a name there.
fn tagged(lab: &Lab, digest: &str) -> Value {
    assert!(lab.forge(&["images", "-q"]).success().lines().any(|line| line == digest));
    let blob = lab.path("store/blobs/sha256").join(digest.strip_prefix("sha256:").unwrap());
    json(&fs::read_to_string(blob).unwrap())
}

fn architectures(index: &Value) -> Vec<String> {
    let entries = index["manifests"].as_array().unwrap().iter();
    entries
        .map(|entry| {
            let part = |name: &str| entry["platform"][name].as_str().unwrap_or_default();
            format!("{}{}", part("architecture"), part("variant"))
        })
        .collect()
}

#[test]
fn quiet_builds_print_the_digest_of_the_index_alone() {
    let lab = Lab::new();
    let text = "FROM scratch\nLABEL a=b\n";
    let args =
        ["-q", "--platform", PLATFORMS, "-t", "multi:1", "-o", "type=oci,dest=out/", "-o", "type=image"];
    let outcome = lab.build_text(text, &args);
    assert_eq!(outcome.stderr, "");
    let digest = outcome.success();
    assert_eq!(index(&lab, "out")["manifests"][0]["digest"], digest);
    assert_eq!(document(&lab, "out", &value!(digest))["manifests"].as_array().unwrap().len(), 3);
    assert_eq!(tagged(&lab, &digest)["manifests"].as_array().unwrap().len(), 3);
}

#[test]
fn an_index_lists_images_in_the_order_of_the_request() {
    let (lab, registry) = (Lab::with_busybox(), Registry::open());
    let name = format!("{}/multi/app:1", registry.host);
    let args = [
        "--platform",
        PLATFORMS,
        "-t",
        &name,
        "--push",
        "-o",
        "type=image",
        "-o",
        "type=oci,dest=out/",
        "-o",
        "type=oci,dest=out.tar",
        "--iidfile",
        "iid",
        "--metadata-file",
        "meta.json",
    ];
    let built = lab.build(&context(&lab), &args);
    assert_eq!(built.stderr.matches("RUN echo common > /common\n").count(), 1, "made once: {built}");
    let digest = built.success();
    let order = ["arm64", "amd64", "armv7"];

    let top = index(&lab, "out");
    assert_eq!(top["manifests"][0]["digest"], digest);
    assert_eq!(top["manifests"][0]["mediaType"], "application/vnd.oci.image.index.v1+json");
    let listed = document(&lab, "out", &top["manifests"][0]["digest"]);
    assert_eq!(architectures(&listed), order);
    for (entry, arch) in listed["manifests"].as_array().unwrap().iter().zip(order) {
        let manifest = document(&lab, "out", &entry["digest"]);
        let config = document(&lab, "out", &manifest["config"]["digest"]);
        assert!(arch.starts_with(config["architecture"].as_str().unwrap()));
    }
    // In the store, in the registry and in an archive it is the same index.
    assert_eq!(tagged(&lab, &digest), listed);
    let remote = tool("skopeo", &["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]);
    assert_eq!(json(&remote), listed);
    let archived = tool("tar", &["-xOf", &lab.at("out.tar"), "index.json"]);
    assert_eq!(json(&archived)["manifests"][0]["digest"], digest);
    for arch in ["arm64", "amd64"] {
        let choice = format!("--override-arch={arch}");
        let args = [&choice, "inspect", "--tls-verify=false", &format!("docker://{name}")];
        assert_eq!(json(&tool("skopeo", &args))["Architecture"], arch);
    }

    assert_eq!(fs::read_to_string(lab.path("iid")).unwrap(), digest);
    let metadata = json(&fs::read_to_string(lab.path("meta.json")).unwrap());
    assert_eq!(metadata["containerimage.digest"], digest);
    assert_eq!(metadata["containerimage.descriptor"]["mediaType"], top["manifests"][0]["mediaType"]);
    assert!(metadata.get("containerimage.config.digest").is_none(), "an index has no configuration");

    // Another store pulls its own platform's image out of the index.
    let other = Lab::new();
    other.forge(&["pull", "-q", &name]).success();
    other.build_text(&format!("FROM {name}\n"), &["-o", "files"]).success();
    let host = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    assert_eq!(fs::read_to_string(other.path("files/arch")).unwrap(), host);
}

#[test]
fn files_of_several_platforms_lie_side_by_side() {
    let lab = Lab::with_busybox();
    let context = context(&lab);
    lab.build(&context, &["--platform", PLATFORMS, "-o", "out", "-o", "type=tar,dest=out.tar"]).success();
    for (dir, arch) in [("linux_arm64", "arm64"), ("linux_amd64", "amd64"), ("linux_arm_v7", "v7")] {
        assert_eq!(fs::read_to_string(lab.path("out").join(dir).join("arch")).unwrap(), arch);
        assert_eq!(tool("tar", &["-xOf", &lab.at("out.tar"), &format!("{dir}/arch")]), arch);
    }
    let mixed = ["--platform", PLATFORMS, "-o", "type=local,dest=mixed,platform-split=false"];
    let report = lab.build(&context, &mixed).report(2);
    assert!(report.contains("arch is there for more than one platform"), "{report}");

    // Files of different names may share a directory.
    let text = "FROM scratch\nARG TARGETARCH\nCOPY files/$TARGETARCH /bin/app-$TARGETARCH\n";
    lab.file("ctx/Dockerfile", text);
    let platforms = ["--platform", "linux/amd64", "--platform", "linux/arm64"];
    let outputs =
        ["-o", "type=local,dest=mixed,platform-split=0", "-o", "type=tar,dest=m.tar,platform-split=0"];
    lab.build(&context, &[platforms, [outputs[0], outputs[1], outputs[2], outputs[3]]].concat()).success();
    let listed = tool("tar", &["-tf", &lab.at("m.tar")]);
    assert_eq!(listed.lines().collect::<Vec<_>>(), ["bin/", "bin/app-amd64", "bin/app-arm64"]);
    assert!(lab.path("mixed/bin/app-arm64").exists() && lab.path("mixed/bin/app-amd64").exists());
    // One platform has no directory of its own unless it is asked for.
    lab.build(&context, &["--platform", "linux/arm64", "-o", "one"]).success();
    lab.build(&context, &["--platform", "arm64", "-o", "type=local,dest=own,platform-split=true"]).success();
    assert!(lab.path("one/bin/app-arm64").exists() && lab.path("own/linux_arm64/bin/app-arm64").exists());
}

#[test]
fn one_platform_has_an_index_only_if_it_is_forced() {
    let lab = Lab::new();
    let built = |args: &[&str]| {
        let text = "FROM scratch\nLABEL a=b\n";
        let digest = lab.build_text(text, &[&["-t", "a", "--platform", "local"], args].concat()).success();
        tagged(&lab, &digest)
    };
    assert_eq!(built(&[])["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    let forced = ["--build-arg", "BUILDKIT_MULTI_PLATFORM=1", "--annotation", "index:k=v"];
    let index = built(&forced);
    assert_eq!(index["mediaType"], "application/vnd.oci.image.index.v1+json");
    assert_eq!(index["annotations"], value!({ "k": "v" }));
    let several = ["--platform", "linux/amd64,linux/arm64", "-o", "type=docker,dest=x.tar"];
    let report = lab.build_text("FROM scratch\nLABEL a=b\n", &several).report(2);
    assert!(report.contains("type=docker holds an image for one platform"), "{report}");
}
