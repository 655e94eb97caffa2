//! What is not done twice.

use std::fs;
use std::time::{Duration, SystemTime};

use crate::support::Lab;

const THREE: &str = "FROM busybox\nRUN date +%N > /first\nCOPY a /a\nRUN date +%N > /last\n";
const RUN_FIRST: &str = "[2/4] RUN date +%N > /first";
const COPY_A: &str = "[3/4] COPY a /a";
const RUN_LAST: &str = "[4/4] RUN date +%N > /last";

#[test]
fn a_second_build_runs_nothing_and_gives_the_same_image() {
    let lab = Lab::with_busybox();
    let context = lab.context("ctx", &[("Dockerfile", THREE), ("a", "A")]);
    let first = lab.build(&context, &["-t", "x"]);
    assert_eq!(first.steps().0, [""; 0], "{first}");
    let second = lab.build(&context, &["-t", "x"]);
    assert_eq!(second.steps().0.len(), 4, "{second}");
    assert_eq!(second.steps().1, [""; 0], "{second}");
    assert_eq!(first.success(), second.success());
}

#[test]
fn a_changed_file_runs_again_what_follows_it_and_nothing_else() {
    let lab = Lab::with_busybox();
    let context = lab.context("ctx", &[("Dockerfile", THREE), ("a", "A"), ("unused", "1")]);
    let first = lab.build(&context, &["-q"]).success();
    lab.file("ctx/unused", "2");
    // A new time alone is no change.
    let file = fs::File::open(lab.path("ctx/a")).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000)).unwrap();
    assert_eq!(lab.build(&context, &["-q"]).success(), first);
    lab.file("ctx/a", "B");
    let third = lab.build(&context, &[]);
    assert_eq!(third.steps().0[1..], [RUN_FIRST], "{third}");
    assert_eq!(third.steps().1, [COPY_A, RUN_LAST], "{third}");
}

#[test]
fn a_step_with_the_result_of_before_leaves_what_follows_cached() {
    let lab = Lab::with_busybox();
    let files = |comment: &str| {
        format!("FROM busybox\nCOPY a /a\nRUN true {comment} && cut -c1 /a > /b\nRUN date +%N > /last\n")
    };
    let context = lab.context("ctx", &[("Dockerfile", &files("one")), ("a", "A")]);
    lab.build(&context, &[]).success();
    lab.file("ctx/Dockerfile", &files("two"));
    let second = lab.build(&context, &[]);
    assert_eq!(second.steps().1, ["[3/4] RUN true two && cut -c1 /a > /b"], "{second}");
}

#[test]
fn no_cache_runs_everything_and_a_filter_one_stage() {
    let lab = Lab::with_busybox();
    let text = "FROM busybox AS one\nRUN date +%N > /1\nFROM busybox AS two\nRUN date +%N > /2\n\
                FROM busybox\nCOPY --from=one /1 /\nCOPY --from=two /2 /\n";
    lab.build_text(text, &[]).success();
    let filtered = lab.build_text(text, &["--no-cache-filter", "two"]);
    let (cached, done) = filtered.steps();
    assert!(cached.contains(&"[one 2/2] RUN date +%N > /1".to_owned()), "{filtered}");
    assert!(done.contains(&"[two 2/2] RUN date +%N > /2".to_owned()), "{filtered}");
    let (cached, done) = lab.build_text(text, &["--no-cache"]).steps();
    assert!(!cached.iter().any(|step| step.contains("RUN")), "{cached:?}");
    assert_eq!(done.iter().filter(|step| step.contains("RUN")).count(), 2, "{done:?}");
}

#[test]
fn a_build_argument_counts_where_it_is_used() {
    let lab = Lab::with_busybox();
    let text = "FROM busybox\nRUN date +%N > /1\nARG v\nRUN echo $v > /2\n";
    lab.build_text(text, &["--build-arg", "v=1"]).success();
    let (cached, done) = lab.build_text(text, &["--build-arg", "v=2"]).steps();
    assert!(cached.contains(&"[2/3] RUN date +%N > /1".to_owned()), "{cached:?}");
    assert_eq!(done, ["[3/3] RUN echo 2 > /2"]);
}

#[test]
fn the_cache_outlives_the_images_name() {
    let lab = Lab::with_busybox();
    let first = lab.build_text("FROM busybox\nRUN date +%N > /1\n", &["-t", "x"]).success();
    lab.forge(&["rmi", "x"]).success();
    assert_eq!(lab.build_text("FROM busybox\nRUN date +%N > /1\n", &[]).success(), first);
}

/// Two stores that never met agree on every byte: nothing of the machine or the clock is in a layer.
#[test]
fn the_same_input_gives_the_same_bytes_in_another_store() {
    let manifest = || {
        let mut lab = Lab::new();
        lab.env.push(("SOURCE_DATE_EPOCH".into(), "1700000000".into()));
        let files =
            [("Dockerfile", "FROM scratch\nCOPY --chown=5:6 . /d/\nWORKDIR /w\nENV A=1\n"), ("b/c", "C")];
        let context = lab.context("ctx", &files);
        // Times of files go into layers, so both contexts get the same.
        crate::support::tool(
            "sh",
            &["-c", &format!("find {} -exec touch -d @1600000000 {{}} +", lab.at("ctx"))],
        );
        // Directories that a build makes are as old as the build, unless their times are rewritten.
        lab.build(&context, &["-o", "type=image,name=x,rewrite-timestamp=true"]).success();
        lab.forge(&["inspect", "--raw", "x"]).success()
    };
    assert_eq!(manifest(), manifest());
}
