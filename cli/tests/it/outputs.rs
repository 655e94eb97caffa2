//! What a build writes beside the image: files for scripts, files of the rootfs.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Stdio;

use crate::support::{Lab, json, tool};

#[test]
fn the_iidfile_has_the_configuration_digest_without_a_newline() {
    let lab = Lab::with_busybox();
    lab.build_text("FROM busybox\nENV A=1\n", &["-t", "a", "--iidfile", "iid"]).success();
    let inspected = json(&lab.forge(&["inspect", "a"]).success());
    assert_eq!(fs::read_to_string(lab.path("iid")).unwrap(), inspected[0]["Id"].as_str().unwrap());
    assert_ne!(inspected[0]["Id"], inspected[0]["Digest"]);
}

#[test]
fn the_metadata_file_has_the_keys_of_buildx() {
    let lab = Lab::with_busybox();
    let args = ["-t", "a", "-t", "reg.example/b:1", "--metadata-file", "meta.json"];
    let digest = lab.build_text("FROM busybox\nENV A=1\n", &args).success();
    let metadata = json(&fs::read_to_string(lab.path("meta.json")).unwrap());
    let inspected = json(&lab.forge(&["inspect", "a"]).success());
    assert_eq!(metadata["containerimage.digest"], digest);
    assert_eq!(metadata["containerimage.config.digest"], inspected[0]["Id"]);
    assert_eq!(metadata["image.name"], "docker.io/library/a:latest,reg.example/b:1");
    let descriptor = &metadata["containerimage.descriptor"];
    assert_eq!(descriptor["digest"], digest);
    assert_eq!(descriptor["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    let raw = lab.forge(&["inspect", "--raw", "a"]).success();
    assert_eq!(descriptor["size"], raw.len());
}

const FILES: &str = "FROM scratch AS files\nCOPY --chmod=750 a /d/a\nCOPY --chown=12:34 b /b\nFROM files\n";

#[test]
fn files_come_out_as_a_directory_that_belongs_to_the_caller() {
    let lab = Lab::new();
    let context = lab.context("ctx", &[("Dockerfile", FILES), ("a", "A"), ("b", "B")]);
    // A directory alone and the long form are the same; without an image there is no digest to print.
    assert_eq!(lab.build(&context, &["-o", "out"]).success(), "");
    assert_eq!(lab.build(&context, &["-o", "type=local,dest=long"]).success(), "");
    for dir in ["out", "long"] {
        assert_eq!(fs::read_to_string(lab.path(dir).join("d/a")).unwrap(), "A");
        let a = lab.path(dir).join("d/a").metadata().unwrap();
        let b = lab.path(dir).join("b").metadata().unwrap();
        assert_eq!(a.permissions().mode() & 0o7777, 0o750);
        assert_eq!((b.uid(), b.gid()), (0, 0));
    }
    assert_eq!(lab.forge(&["images", "-q"]).success(), "", "no image was asked for");
}

#[test]
fn files_come_out_as_a_tar_with_their_owners() {
    let lab = Lab::new();
    let context = lab.context("ctx", &[("Dockerfile", FILES), ("a", "A"), ("b", "B")]);
    lab.build(&context, &["-o", "type=tar,dest=out.tar"]).success();
    let listed = tool("tar", &["--numeric-owner", "-tvf", &lab.at("out.tar")]);
    let rows: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    let short: Vec<_> = rows.iter().map(|row| (row[0], row[1], *row.last().unwrap())).collect();
    let want = [("-rw-r--r--", "12/34", "b"), ("drwxr-x---", "0/0", "d/"), ("-rwxr-x---", "0/0", "d/a")];
    assert_eq!(short, want, "{listed}");

    let mut command = lab.command(&["build", "-o", "-", context.to_str().unwrap()]);
    let output = command.stdout(Stdio::piped()).output().unwrap();
    assert_eq!(output.stdout, fs::read(lab.path("out.tar")).unwrap(), "`-o -` writes the same to stdout");
}

#[test]
fn outputs_can_be_several_at_once() {
    let lab = Lab::with_busybox();
    let args =
        ["-t", "both", "-o", "type=image", "-o", "type=oci,dest=img.tar", "-o", "type=tar,dest=fs.tar"];
    let digest = lab.build_text("FROM busybox\nRUN echo hi > /hi\n", &args).success();
    assert_eq!(lab.forge(&["images", "-q"]).success().lines().filter(|line| **line == digest).count(), 1);
    let index = tool("tar", &["-xOf", &lab.at("img.tar"), "index.json"]);
    assert_eq!(json(&index)["manifests"][0]["digest"], digest);
    assert_eq!(tool("tar", &["-xOf", &lab.at("fs.tar"), "hi"]), "hi\n");
}

#[test]
fn an_output_that_is_not_known_is_refused_before_anything_is_built() {
    let lab = Lab::with_busybox();
    let report = lab.build_text("FROM busybox\nRUN false\n", &["-o", "type=zip,dest=x"]).report(2);
    assert!(report.contains("there is no type=zip"), "{report}");
}
