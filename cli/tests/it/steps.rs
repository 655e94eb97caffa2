//! What RUN steps are given, and what is said of them.

use std::fs;
use std::path::Path;

use crate::support::Lab;

/// Every file below a directory.
fn files(dir: &Path, found: &mut Vec<Vec<u8>>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files(&entry.path(), found);
        } else if kind.is_file() {
            found.push(fs::read(entry.path()).unwrap());
        }
    }
}

#[test]
fn a_secret_reaches_its_step_and_nothing_else() {
    let lab = Lab::with_busybox();
    lab.file("token", "cardinal-swordfish");
    let text = "FROM busybox\n\
        RUN --mount=type=secret,id=token test $(wc -c < /run/secrets/token) -eq 18\n\
        RUN --mount=type=secret,id=token,env=TOKEN test ${#TOKEN} -eq 18\n\
        RUN --mount=type=secret,id=other test ! -e /run/secrets/other\n\
        RUN test ! -e /run/secrets\n";
    lab.build_text(text, &["-t", "x", "--secret", "id=token,src=token", "-o", "type=oci,dest=x.tar"])
        .success();
    let mut all = vec![fs::read(lab.path("x.tar")).unwrap()];
    files(&lab.path("store"), &mut all);
    let leaked = all.iter().any(|bytes| bytes.windows(18).any(|part| part == b"cardinal-swordfish"));
    assert!(!leaked, "the secret is in the store or in the image");
    let other = lab.file("token", "another-value-here");
    let again = lab.build_text(text, &["--secret", &format!("id=token,src={}", other.display())]);
    assert_eq!(again.steps().1, [""; 0], "a secret's value is part of a key: {again}");
}

#[test]
fn a_required_secret_that_nobody_gave_fails_the_step() {
    let lab = Lab::with_busybox();
    let report =
        lab.build_text("FROM busybox\nRUN --mount=type=secret,id=token,required true\n", &[]).report(3);
    assert!(report.starts_with("error: secret token: not found"), "{report}");
}

#[test]
fn a_cache_is_kept_between_steps_and_builds_and_leaves_nothing_in_the_image() {
    let lab = Lab::with_busybox();
    let text = |n: u32| {
        format!(
            "FROM busybox\nARG N={n}\nRUN --mount=type=cache,target=/cache echo $N >> /cache/seen && cp /cache/seen /seen\n"
        )
    };
    lab.build_text(&text(1), &[]).success();
    lab.build_text(&text(2), &["-t", "x"]).success();
    assert_eq!(lab.shell("x", "cat /seen; test ! -e /cache"), "1\n2");
}

#[test]
fn the_graph_is_shown_and_nothing_is_built() {
    let lab = Lab::with_busybox();
    let text = "FROM busybox\nRUN true\n";
    let print = || super::support::json(&lab.build_text(text, &["--print", "json"]).success());
    let run = |graph: &serde_json::Value| graph["vertices"].as_array().unwrap().last().unwrap().clone();
    let before = run(&print());
    assert_eq!((before["op"].as_str(), before["cached"].as_bool()), (Some("run"), Some(false)));
    lab.build_text(text, &[]).success();
    let after = run(&print());
    assert_eq!((after["key"].clone(), after["cached"].as_bool()), (before["key"].clone(), Some(true)));
    assert!(lab.build_text(text, &["--print", "dot"]).success().starts_with("digraph build {"));
}
