//! Where a build's files may come from.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::support::{Lab, Outcome};

/// Builds a tar of `dir` that comes on standard input.
fn build_piped(lab: &Lab, dir: &Path, args: &[&str]) -> Outcome {
    let tar = lab.path("context.tar");
    let packed = Command::new("tar").arg("-C").arg(dir).arg("-cf").arg(&tar).arg(".").status().unwrap();
    assert!(packed.success());
    let mut command = lab.command(&[&["build"], args, &["-"]].concat());
    command.stdin(File::open(tar).unwrap()).output().unwrap().into()
}

#[test]
fn a_tar_on_standard_input_builds_what_its_directory_builds() {
    let lab = Lab::with_busybox();
    let files =
        [("Dockerfile", "FROM busybox\nCOPY . /c/\n"), (".dockerignore", "no\n"), ("yes", "1"), ("no", "2")];
    let context = lab.context("ctx", &files);
    let direct = lab.build(&context, &["-q"]).success();
    assert_eq!(build_piped(&lab, &context, &["-q", "-t", "x"]).success(), direct);
    assert_eq!(lab.shell("x", "ls /c"), "Dockerfile\nyes");
    assert!(lab.unfinished().is_empty());
}

#[test]
fn a_dockerfile_on_standard_input_has_an_empty_context() {
    let lab = Lab::with_busybox();
    lab.forge_with_input(&["build", "-t", "x", "-"], "FROM busybox\nCOPY . /c/\nRUN ls -A /c > /seen\n")
        .success();
    assert_eq!(lab.shell("x", "cat /seen"), "");
}

#[test]
fn a_packed_context_cannot_point_at_a_file_of_the_machine() {
    let lab = Lab::with_busybox();
    let secret = lab.file("secret", "FROM busybox\n");
    let context = lab.context("ctx", &[]);
    symlink(secret, context.join("Dockerfile")).unwrap();
    let report = build_piped(&lab, &context, &["-q"]).report(3);
    assert!(report.starts_with("error: failed to read dockerfile"), "{report}");
}

#[test]
fn a_named_directory_is_a_source_a_base_and_a_stage() {
    let lab = Lab::with_busybox();
    let other = lab.context("other", &[("file", "from the directory")]);
    let named = format!("other={}", other.display());
    let text = "FROM busybox AS other\nRUN false\nFROM busybox\nCOPY --from=other /file /a\n";
    lab.build_text(text, &["-t", "x", "--build-context", &named]).success();
    assert_eq!(lab.shell("x", "cat /a"), "from the directory");
    lab.build_text("FROM other\n", &["--build-context", &named, "-o", "out"]).success();
    assert_eq!(fs::read_to_string(lab.path("out/file")).unwrap(), "from the directory");
}

#[test]
fn an_image_takes_another_ones_name() {
    let lab = Lab::with_busybox();
    lab.build_text("FROM busybox\nRUN echo one > /who\n", &["-t", "one"]).success();
    lab.build_text(
        "FROM busybox\nRUN echo two > /who\n",
        &["-o", "type=oci,dest=layout/,tar=false", "-t", "two:v2"],
    )
    .success();
    let text = "FROM never.example/base\nCOPY --from=never.example/two /who /too\n";
    let layout = format!("never.example/two=oci-layout://{}:v2", lab.at("layout"));
    let args =
        ["-t", "x", "--build-context", "never.example/base=docker-image://one", "--build-context", &layout];
    lab.build_text(text, &args).success();
    assert_eq!(lab.shell("x", "cat /who /too"), "one\ntwo");
}

#[test]
fn reserved_names_and_unknown_sources_are_refused() {
    let lab = Lab::new();
    for bad in ["context=.", "scratch=.", "x", "x=ftp://host/file"] {
        lab.build_text("FROM scratch\n", &["--build-context", bad]).report(2);
    }
}
