//! `forge verify`: built again, and compared.

use crate::support::Lab;

#[test]
fn an_image_that_comes_out_the_same_is_verified() {
    let lab = Lab::with_busybox();
    let context = lab
        .context("ctx", &[("Dockerfile", "FROM busybox\nARG V\nCOPY f /f\nRUN echo $V > /v\n"), ("f", "1")]);
    let args = ["--reproducible", "--build-arg", "V", "-t", "a:1", "-o", "type=image,compression=zstd"];
    let mut with_env = lab.command(&[&["build"], &args[..], &[context.to_str().unwrap()]].concat());
    let built = with_env.env("V", "from the environment").output().unwrap();
    let digest = String::from_utf8(built.stdout).unwrap();
    // The base may have another image by now: what counts is the one that it was.
    lab.build_text("FROM scratch\nLABEL other=base\n", &["-t", "busybox"]).success();
    lab.context("ctx", &[("Dockerfile", "FROM busybox\nARG V\nCOPY f /f\nRUN echo $V > /v\n")]);
    let verified = lab.forge(&["verify", "a:1"]);
    assert!(
        verified.stderr.contains("RUN echo from the environment > /v\n")
            && !verified.stderr.contains("CACHED"),
        "{verified}"
    );
    assert_eq!(verified.success(), digest.trim());
    assert_eq!(lab.unfinished(), Vec::<std::path::PathBuf>::new());

    // Now the context is another.
    lab.file("ctx/f", "changed");
    let report = lab.forge(&["verify", "a:1"]).report(11);
    let want = "layer 2 of 3 (COPY f /f # buildkit):\n  f: its content differs (1 bytes, and now 7)\n";
    assert!(report.contains(want), "{report}");
}

#[test]
fn what_differs_is_named() {
    let lab = Lab::with_busybox();
    let text = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /id && echo same > /same\n";
    lab.build_text(text, &["--reproducible", "-t", "random"]).success();
    let report = lab.forge(&["verify", "random"]).report(11);
    assert!(report.contains("layer 2 of 2 (RUN /bin/sh -c cat /proc"), "{report}");
    assert!(report.contains("\n  id: its content differs (37 bytes, and now 37)"), "{report}");
    assert!(!report.contains("same:"), "{report}");

    lab.build_text("FROM busybox\nRUN echo 1 > /x\n", &["-t", "dated"]).success();
    let report = lab.forge(&["verify", "dated"]).report(11);
    assert!(
        report.contains("/created: ") && report.contains("help: build it with --reproducible"),
        "{report}"
    );
}

#[test]
fn an_image_without_a_record_is_not_verified() {
    let lab = Lab::new();
    assert!(
        lab.forge(&["verify", "none"]).report(4).contains("there is no image docker.io/library/none:latest")
    );
    lab.forge(&["copy", "-q", &format!("oci:{}", lab.at("lay")), "copied"]).failure(4);
    let text = "FROM scratch\nLABEL a=b\n";
    let context = lab.context("ctx", &[("f", "")]);
    for (name, args) in [("piped", &["-"][..]), ("file", &["-f", "-", context.to_str().unwrap()])] {
        lab.forge_with_input(&[&["build", "-t", name], args].concat(), text).success();
        let report = lab.forge(&["verify", name]).report(4);
        assert!(report.contains("was built from standard input") && report.contains("help: "), "{report}");
    }
    lab.forge(&["copy", "-q", "piped", &format!("oci:{}:x", lab.at("lay"))]).success();
    let other = Lab::new();
    other.forge(&["copy", "-q", &format!("oci:{}:x", lab.at("lay")), "copied"]).success();
    assert!(other.forge(&["verify", "copied"]).report(4).contains("it is not recorded how"));
}
