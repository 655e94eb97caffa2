//! Compression, media types, annotations, names: what `-o` says of an image.

use std::fs;

use serde_json::json as value;

use super::{blob, image, index};
use crate::support::{Lab, Registry, json, tool, try_tool};

const TEXT: &str =
    "FROM busybox\nRUN mkdir /d && echo deep > /d/f && ln /d/f /hard && echo x > /x\nRUN rm /x\n";

#[test]
fn each_output_has_its_own_compression() {
    let lab = Lab::with_busybox();
    let kinds = [
        ("gzip", "application/vnd.oci.image.layer.v1.tar+gzip"),
        ("zstd", "application/vnd.oci.image.layer.v1.tar+zstd"),
        ("uncompressed", "application/vnd.oci.image.layer.v1.tar"),
        ("estargz", "application/vnd.oci.image.layer.v1.tar+gzip"),
    ];
    let outputs =
        kinds.map(|(kind, _)| format!("type=oci,tar=false,dest={kind},compression={kind},force-compression"));
    let mut args = vec!["-t", "a:1"];
    outputs.iter().for_each(|output| args.extend(["-o", output]));
    lab.build_text(TEXT, &args).success();
    let plain = image(&lab, "gzip").1["rootfs"]["diff_ids"].clone();
    for (kind, media_type) in kinds {
        let (manifest, config) = image(&lab, kind);
        let layers = manifest["layers"].as_array().unwrap();
        assert_eq!(layers.len(), 3);
        for (layer, diff_id) in layers.iter().zip(config["rootfs"]["diff_ids"].as_array().unwrap()) {
            assert_eq!(layer["mediaType"], media_type, "{kind}");
            let decompress = match kind {
                "zstd" => "zstd -dc",
                "uncompressed" => "cat",
                _ => "gzip -dc",
            };
            let path = blob(&lab, kind, &layer["digest"]);
            let sum = tool("sh", &["-c", &format!("{decompress} \"$1\" | sha256sum"), "sh", &path]);
            assert_eq!(format!("sha256:{}", sum.split(' ').next().unwrap()), *diff_id);
            let annotation = &layer["annotations"]["containerd.io/snapshot/stargz/toc.digest"];
            match kind {
                "estargz" => {
                    let reader =
                        concat!(env!("CARGO_MANIFEST_DIR"), "/../store/tests/judges/read_estargz.py");
                    assert_eq!(*annotation, tool("python3", &[reader, &path]).trim());
                    assert!(layer["annotations"]["io.containers.estargz.uncompressed-size"].is_string());
                }
                _ => assert!(annotation.is_null()),
            }
        }
        assert_eq!(config["rootfs"]["diff_ids"] == plain, kind != "estargz");
        tool("skopeo", &["inspect", &format!("oci:{}:1", lab.at(kind))]);
        if kind == "zstd" {
            // umoci does not know it; skopeo unpacks nothing, but reads all of it.
            let copy = format!("dir:{}", lab.at("zstd-copy"));
            tool("skopeo", &["copy", "--quiet", &format!("oci:{}:1", lab.at(kind)), &copy]);
            continue;
        }
        let bundle = format!("{kind}-bundle");
        tool("umoci", &["unpack", "--image", &lab.at(&format!("{kind}:1")), &lab.at(&bundle)]);
        let read = |file: &str| fs::read_to_string(lab.path(&bundle).join("rootfs").join(file));
        assert_eq!((read("hard").unwrap().as_str(), read("x").is_err()), ("deep\n", true));
    }
}

#[test]
fn layers_of_the_base_are_packed_anew_only_if_that_is_asked_for() {
    let lab = Lab::with_busybox();
    let trees = || fs::read_dir(lab.path("store/layers")).unwrap().count();
    let before = trees();
    let args = [
        "-o",
        "type=oci,dest=kept/,compression=zstd",
        "-o",
        "type=oci,dest=forced/,compression=zstd,force-compression=true,compression-level=1",
    ];
    lab.build_text("FROM busybox\nENV A=1\n", &args).success();
    let kind = |layout: &str| image(&lab, layout).0["layers"][0]["mediaType"].as_str().unwrap().to_owned();
    assert!(kind("kept").ends_with("tar+gzip") && kind("forced").ends_with("tar+zstd"));
    assert_eq!(image(&lab, "kept").1["rootfs"], image(&lab, "forced").1["rootfs"]);
    assert_eq!(trees(), before, "nothing was unpacked for it");
}

#[test]
fn docker_has_its_own_names_for_the_same_things() {
    let (lab, registry) = (Lab::with_busybox(), Registry::open());
    for (compression, layer) in [("gzip", "tar.gzip"), ("zstd", "tar.zstd"), ("uncompressed", "tar")] {
        let name = format!("{}/typed/{compression}:1", registry.host);
        let output = format!(
            "type=registry,name={name},oci-mediatypes=false,compression={compression},force-compression"
        );
        let digest = lab.build_text(TEXT, &["-o", &output]).success();
        let remote = format!("docker://{name}");
        let raw = json(&tool("skopeo", &["inspect", "--raw", "--tls-verify=false", &remote]));
        assert_eq!(raw["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
        assert_eq!(raw["config"]["mediaType"], "application/vnd.docker.container.image.v1+json");
        let want = format!("application/vnd.docker.image.rootfs.diff.{layer}");
        assert!(raw["layers"].as_array().unwrap().iter().all(|l| l["mediaType"] == want.as_str()), "{raw}");
        // Debian's skopeo is older than Docker's name for zstd.
        if compression != "zstd" {
            let copy = format!("dir:{}", lab.at(compression));
            tool("skopeo", &["copy", "--quiet", "--src-tls-verify=false", &remote, &copy]);
            assert_eq!(json(&tool("skopeo", &["inspect", &copy]))["Digest"], digest);
        }
        // And forge itself takes it back.
        let other = Lab::new();
        assert_eq!(other.forge(&["pull", "-q", &name]).success(), digest);
        assert_eq!(other.shell(&name, "cat /hard"), "deep");
    }
}

#[test]
fn annotations_go_where_they_are_sent() {
    let lab = Lab::with_busybox();
    let args = [
        "-t",
        "a:1",
        "--annotation",
        "both=flag",
        "--annotation",
        "manifest[linux/arm64],manifest:org.example.Key=a=b",
        "--annotation",
        "manifest-descriptor:desc=d",
        "-o",
        "type=oci,dest=out/,annotation.own=only here,annotation.both=output",
        "-o",
        "type=image",
    ];
    let platforms = ["--platform", "linux/arm64,linux/amd64"];
    let digest = lab.build_text("FROM scratch\nLABEL a=b\n", &[&platforms[..], &args].concat()).success();
    let top = index(&lab, "out");
    let listed = super::document(&lab, "out", &top["manifests"][0]["digest"]);
    for entry in listed["manifests"].as_array().unwrap() {
        assert_eq!(entry["annotations"], value!({ "desc": "d" }));
        let manifest = super::document(&lab, "out", &entry["digest"]);
        let want = value!({ "both": "output", "org.example.Key": "a=b", "own": "only here" });
        assert_eq!(manifest["annotations"], want);
    }
    // The image in the store has none of the other output's own.
    assert_ne!(top["manifests"][0]["digest"], digest);
    let refused = |args: &[&str]| lab.build_text("FROM scratch\nLABEL a=b\n", args).report(2);
    assert!(refused(&["--annotation", "index:k=v"]).contains("index annotations need an index"));
    assert!(
        refused(&["--annotation", "manifest[linux/s390x]:k=v"]).contains("nothing is built for linux/s390x")
    );
    assert!(refused(&["--annotation", "manifst:k=v"]).contains("(did you mean manifest?)"));
    assert!(refused(&["--annotation", "k=v", "-o", "type=image,oci-mediatypes=0"]).contains("no place for"));
}

#[test]
fn an_image_is_pushed_by_its_digest_alone() {
    let (lab, registry) = (Lab::with_busybox(), Registry::open());
    let name = format!("{}/by/digest", registry.host);
    let output = format!("type=image,name={name},push=true,push-by-digest=true,store=false");
    let digest = lab.build_text(TEXT, &["-o", &output]).success();
    let inspect = |what: &str| {
        try_tool("skopeo", &["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}{what}")])
    };
    assert!(inspect(&format!("@{digest}")).status.success());
    assert!(!inspect(":latest").status.success(), "it has no tag");
    assert!(lab.forge(&["inspect", &name]).code != 0, "the store was not to keep it");
}

#[test]
fn an_image_is_named_by_its_digest_too() {
    let lab = Lab::with_busybox();
    let args = ["-t", "a:1", "-o", "type=image,name-canonical=true,unpack=true"];
    let digest = lab.build_text(TEXT, &args).success();
    assert_eq!(lab.build_text(&format!("FROM a@{digest}\n"), &["-q"]).code, 0);
    let refused = lab.build_text(TEXT, &["-o", "type=image,rewrite-timestamp=true"]).report(2);
    assert!(refused.contains("no time to rewrite to"), "{refused}");
}

#[test]
fn a_directory_is_mirrored_only_with_leave() {
    let lab = Lab::new();
    let context = lab.context("ctx", &[("Dockerfile", "FROM scratch\nCOPY keep /d/keep\n"), ("keep", "k")]);
    for file in ["out/old", "out/d/other", "out/gone/deep/f"] {
        lab.file(file, "old");
    }
    let output = ["-o", "type=local,dest=out,mode=delete"];
    let refused = lab.build(&context, &output).report(2);
    assert!(refused.contains("allow it with --allow buildx.local.delete"), "{refused}");
    assert!(lab.path("out/old").exists());
    lab.build(&context, &["--allow", "buildx.local.delete", output[0], output[1]]).success();
    let left = tool("find", &[&lab.at("out"), "-mindepth", "1", "-printf", "%P\n"]);
    let mut left: Vec<&str> = left.lines().collect();
    left.sort_unstable();
    assert_eq!(left, ["d", "d/keep"]);
    // Without the word, what is there stays.
    lab.file("out/old", "old");
    lab.build(&context, &["-o", "out"]).success();
    assert!(lab.path("out/old").exists());
    let here = ["--allow", "buildx.local.delete", "-o", "type=local,dest=.,mode=delete"];
    assert!(lab.build(&context, &here).report(2).contains("would remove the context"));
}
