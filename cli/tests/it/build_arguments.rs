//! Build arguments that speak to the builder, and flags that scripts still pass.

use std::fs;

use crate::support::{GitDaemon, Lab, Web, tool};

#[test]
fn the_host_name_of_steps_can_be_chosen() {
    let lab = Lab::with_busybox();
    let text = "FROM busybox\nRUN hostname > /h; grep -c other /etc/hosts >> /h || true\n";
    lab.build_text(text, &["-q", "-t", "x"]).success();
    assert_eq!(lab.shell("x", "cat /h"), "buildkitsandbox\n0");
    let args = ["-q", "-t", "x", "--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=other"];
    lab.build_text(text, &args).success();
    assert_eq!(lab.shell("x", "cat /h"), "other\n1", "the step is another one");
    let bad = format!("BUILDKIT_SANDBOX_HOSTNAME={}", "x".repeat(65));
    lab.build_text(text, &["-q", "--build-arg", &bad]).report(3);
}

#[test]
fn caches_of_different_projects_can_be_kept_apart() {
    let lab = Lab::with_busybox();
    let text = "FROM busybox\nARG STEP\nRUN --mount=type=cache,target=/c touch /c/$STEP; ls /c > /seen\n";
    let build = |step: &str, namespace: &str| {
        let (step, namespace) = (format!("STEP={step}"), format!("BUILDKIT_CACHE_MOUNT_NS={namespace}"));
        lab.build_text(text, &["-q", "-t", "x", "--build-arg", &step, "--build-arg", &namespace]).success();
        lab.shell("x", "cat /seen")
    };
    assert_eq!(build("1", "a"), "1");
    assert_eq!(build("2", "a"), "1\n2");
    assert_eq!(build("3", "b"), "3");
    assert_eq!(build("4", ""), "4");
}

/// What an image says of its time.
fn created(lab: &Lab) -> String {
    lab.config("x")["created"].as_str().unwrap().to_owned()
}

#[test]
fn the_epoch_is_taken_from_what_has_a_time() {
    let lab = Lab::new();
    let daemon = GitDaemon::start();
    daemon.repository("r", |dir| fs::write(dir.join("Dockerfile"), "FROM scratch\nCOPY . /\n").unwrap());
    let git = daemon.url("r");
    let commit_time = "2020-01-02T03:04:05Z";
    let modified = "Sun, 06 Nov 1994 08:49:37 GMT".to_owned();
    let dated = Web::start(move |_| (200, vec![("Last-Modified", modified.clone())], b"file".to_vec()));
    let context =
        lab.context("old", &[("Dockerfile", "FROM scratch\nCOPY . /\n"), ("file", "of another time")]);
    let packed = lab.at("old.tar.gz");
    tool("tar", &["-C", context.to_str().unwrap(), "--mtime=@1000000000", "-czf", &packed, "."]);
    let bytes = fs::read(&packed).unwrap();
    let undated = Web::start(move |_| (200, vec![], bytes.clone()));

    let epoch = |value: &str, args: &[&str], context: &str| {
        let value = format!("SOURCE_DATE_EPOCH={value}");
        lab.forge(&[&["build", "-q", "-t", "x", "--build-arg", &value], args, &[context]].concat())
    };
    epoch("context", &[], &git).success();
    assert_eq!(created(&lab), commit_time);
    epoch("context", &[], &undated.url("/x")).success();
    assert_eq!(created(&lab), "2001-09-09T01:46:40Z", "the newest file of an archive");
    epoch("named", &["--build-context", &format!("named={git}")], &undated.url("/x")).success();
    assert_eq!(created(&lab), commit_time);
    epoch("named", &["--build-context", &format!("named={}", dated.url("/d"))], &git).success();
    assert_eq!(created(&lab), "1994-11-06T08:49:37Z");

    let stages = format!(
        "ARG URL={}\nFROM scratch AS page\nARG URL\nADD $URL /\nFROM scratch AS code\nADD {git} /\n\
         FROM scratch\nARG SOURCE_DATE_EPOCH\nLABEL at=$SOURCE_DATE_EPOCH\nCOPY --from=page . /\n",
        dated.url("/d")
    );
    let context = lab.context("stages", &[("Dockerfile", &stages)]);
    let context = context.to_str().unwrap();
    epoch("code", &[], context).success();
    assert_eq!(created(&lab), commit_time);
    assert_eq!(lab.config("x")["config"]["Labels"]["at"], "1577934245", "ARG gives the seconds");
    epoch("PAGE", &[], context).success();
    assert_eq!(created(&lab), "1994-11-06T08:49:37Z");

    for (value, want) in [
        ("not-a-timestamp", "invalid SOURCE_DATE_EPOCH: not-a-timestamp"),
        ("context", "invalid SOURCE_DATE_EPOCH: the build context has no time of its own"),
    ] {
        let report = epoch(value, &[], context).report(3);
        assert!(report.starts_with(&format!("error: {want}")), "{report}");
    }
}

#[test]
fn a_global_argument_may_give_the_epoch() {
    let lab = Lab::new();
    let text = "ARG SOURCE_DATE_EPOCH=1000000000\nFROM scratch\nCOPY Dockerfile /\n";
    lab.build_text(text, &["-q", "-t", "x"]).success();
    assert_eq!(created(&lab), "2001-09-09T01:46:40Z");
    lab.build_text(text, &["-q", "-t", "x", "--build-arg", "SOURCE_DATE_EPOCH=5"]).success();
    assert_eq!(created(&lab), "1970-01-01T00:00:05Z");
}

#[test]
fn arguments_may_come_from_a_file() {
    let lab = Lab::new();
    let text = "FROM scratch\nARG A\nARG B\nARG C=c\nLABEL a=$A b=$B c=$C\n";
    lab.file("args", "# a comment\n\nA=of the file\n B=x=y \n");
    let args = ["-q", "-t", "x", "--build-arg-file", "args", "--build-arg", "A=of the flag"];
    lab.build_text(text, &args).success();
    let labels = lab.config("x")["config"]["Labels"].clone();
    assert_eq!(labels, serde_json::json!({ "a": "of the flag", "b": "x=y", "c": "c" }));
    lab.file("args", "A=1\nnothing\n");
    let report = lab.build_text(text, &["-q", "--build-arg-file", "args"]).report(3);
    assert!(report.starts_with("error: cannot read the build arguments args: line 2"), "{report}");
    lab.build_text(text, &["-q", "--build-arg-file", "missing"]).report(3);
}

#[test]
fn flags_without_effect_are_accepted_and_named() {
    let lab = Lab::new();
    let outcome = lab.build_text(
        "FROM scratch\nLABEL a=b\n",
        &["--rm", "--force-rm=true", "--compress", "--progress=plain"],
    );
    assert!(outcome.stderr.contains("without effect: --rm --force-rm --compress"), "{outcome}");
    outcome.success();
    let quiet = lab.build_text("FROM scratch\nLABEL a=b\n", &["--rm=false", "-q"]);
    assert_eq!(quiet.stderr, "");
}
