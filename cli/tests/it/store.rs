//! The store's own commands: images, inspect, tag, rmi, info.

use crate::support::{Lab, json};

#[test]
fn images_are_listed_by_their_familiar_names() {
    let lab = Lab::with_busybox();
    let digest = lab.build_text("FROM busybox\nENV A=1\n", &["-q", "-t", "reg.example:5000/a/b:1"]).success();
    let listed = lab.forge(&["images"]).success();
    let rows: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["REPOSITORY", "TAG", "DIGEST", "CREATED", "SIZE"]);
    assert_eq!(rows[1][..2], ["busybox", "latest"]);
    assert_eq!(rows[2][..3], ["reg.example:5000/a/b", "1", &digest[..19]]);
    let lines = lab.forge(&["images", "--json"]).success();
    let second = json(lines.lines().nth(1).unwrap());
    assert_eq!(second["Repository"], "reg.example:5000/a/b");
    assert_eq!(second["Digest"], digest);
}

#[test]
fn a_tag_is_another_name_for_the_same_image() {
    let lab = Lab::with_busybox();
    lab.forge(&["tag", "busybox", "other:1"]).success();
    let digest = |name: &str| json(&lab.forge(&["inspect", name]).success())[0]["Digest"].clone();
    assert_eq!(digest("other:1"), digest("docker.io/library/busybox:latest"));
    lab.forge(&["rmi", "busybox"]).success();
    assert_eq!(lab.forge(&["run", "--network=none", "other:1", "echo", "still"]).success(), "still");
}

#[test]
fn a_removed_name_is_gone_and_an_unknown_one_is_an_error() {
    let lab = Lab::with_busybox();
    lab.forge(&["tag", "busybox", "b"]).success();
    // What is there is removed even if another name is not.
    let outcome = lab.forge(&["rmi", "nothing", "b"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (4, "Untagged: b:latest\n"), "{outcome}");
    assert!(outcome.stderr.contains("no such image: nothing"), "{outcome}");
    let report = lab.forge(&["inspect", "b"]).report(4);
    assert!(report.contains("no such image: b") && report.contains("help: `forge images`"), "{report}");
    lab.forge(&["tag", "b", "c"]).report(4);
    lab.forge(&["push", "b"]).report(4);
}

#[test]
fn an_image_is_shown_as_it_is_stored() {
    let lab = Lab::with_busybox();
    let digest = lab.build_text("FROM busybox\nLABEL a=b\nRUN true\n", &["-q", "-t", "a"]).success();
    let shown = &json(&lab.forge(&["inspect", "a"]).success())[0];
    assert_eq!(shown["Digest"], digest);
    assert_eq!(shown["Name"], "docker.io/library/a:latest");
    assert_eq!(shown["Config"]["Labels"]["a"], "b");
    assert_eq!(shown["RootFS"]["Layers"].as_array().unwrap().len(), 2);
    let manifest = json(&lab.forge(&["inspect", "--raw", "a"]).success());
    assert_eq!(shown["Manifest"], manifest);
    assert_eq!(manifest["config"]["digest"], shown["Id"]);
    assert_eq!(lab.config("a")["rootfs"]["diff_ids"], shown["RootFS"]["Layers"]);
}

#[test]
fn names_that_are_none_are_refused() {
    let lab = Lab::new();
    for name in ["UPPER", "a:b:c", "a@sha256:12", "-x/"] {
        let outcome = lab.forge(&["inspect", "--", name]);
        assert!(outcome.stderr.contains("invalid reference format"), "{outcome}");
        assert_eq!(outcome.code, 2, "{outcome}");
    }
}

#[test]
fn the_store_is_where_root_or_the_environment_says() {
    let lab = Lab::new();
    let info = lab.forge(&["info"]).success();
    assert!(info.contains(&format!("store        {}\n", lab.at("store"))), "{info}");
    assert!(info.contains("  line of a Dockerfile                         1 MiB\n"), "{info}");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_forge"));
    command.arg("info").env_clear().env("FORGE_ROOT", lab.path("elsewhere"));
    let info = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(info.contains(&format!("store        {}\n", lab.at("elsewhere"))), "{info}");
}
