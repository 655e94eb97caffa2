//! Why a step ran: in progress, in the metadata file, and afterwards.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::support::{GitDaemon, Lab, Outcome, Web, json, tool};

/// The reasons that a build gave, in order.
fn reasons(outcome: &Outcome) -> Vec<String> {
    assert_eq!(outcome.code, 0, "{outcome}");
    let reason = |line: &str| Some(line.split_once(" cache miss: ")?.1.to_owned());
    outcome.stderr.lines().filter_map(reason).collect()
}

/// Digests in a text, written as `sha256:…`.
fn without_digests(text: &str) -> String {
    let words: Vec<String> = text
        .split(' ')
        .map(|word| match word.split_once("sha256:") {
            Some((before, hex)) => {
                format!("{before}sha256:…{}", hex.trim_start_matches(|c: char| c.is_ascii_hexdigit()))
            }
            None => word.to_owned(),
        })
        .collect();
    words.join(" ")
}

/// What forge draws on a terminal: `script` of util-linux gives it one.
fn on_a_terminal(lab: &Lab, args: &[&str]) -> String {
    let command = lab.command(args);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted: Vec<String> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    tool("script", &["--quiet", "--return", "--command", &quoted.join(" "), "/dev/null"])
}

#[test]
fn files_arguments_and_bases_that_changed_are_named() {
    let lab = Lab::with_busybox();
    let text = "FROM busybox\nARG VERSION=1.0\nRUN echo $VERSION > /v\nCOPY . .\n";
    let files = [("Dockerfile", text), ("src/a.rs", "one"), ("run.sh", "#!/bin/sh"), ("same", "same")];
    let context = lab.context("ctx", &files);
    let metadata = lab.at("metadata.json");
    let args = ["-t", "x", "--metadata-file", &metadata];
    assert_eq!(reasons(&lab.build(&context, &args)), [""; 0], "there was no build before");
    lab.file("ctx/src/a.rs", "two");
    fs::set_permissions(context.join("run.sh"), PermissionsExt::from_mode(0o755)).unwrap();
    lab.file("ctx/more", "new");
    let copied = "COPY . .: 3 files changed: src/a.rs (content), run.sh (mode 644→755), +1 new";
    assert_eq!(reasons(&lab.build(&context, &args)), [copied]);
    let steps = json(&fs::read_to_string(&metadata).unwrap())["forge.steps"].clone();
    let step = |label: &str| {
        let mut all = steps.as_array().unwrap().iter();
        all.find(|step| step["name"].as_str().unwrap().ends_with(label))
            .unwrap_or_else(|| panic!("{steps:#}"))
            .clone()
    };
    assert_eq!(
        step("[3/3] COPY . ."),
        serde_json::json!({ "name": "[3/3] COPY . .", "cached": false, "reason": copied })
    );
    assert_eq!((&step("> /v")["cached"], &step("> /v")["reason"]), (&Value::Bool(true), &Value::Null));
    let moved = lab.build(&context, &[&args[..], &["--build-arg", "VERSION=1.1"]].concat());
    let run = "RUN: build-arg VERSION 1.0→1.1";
    assert_eq!(reasons(&moved), [run, "COPY . .: follows [2/3] RUN echo 1.1 > /v"]);
    for name in ["x", "last"] {
        let explained = lab.forge(&["explain", name]).success();
        assert!(
            explained.contains(&format!("RAN     [2/3] RUN echo 1.1 > /v\n        {run}\n")),
            "{explained}"
        );
    }
    // On a terminal it stays below the step's line.
    lab.file("ctx/more", "newer");
    let drawn = on_a_terminal(&lab, &["build", "--build-arg", "VERSION=1.1", &lab.at("ctx")]);
    assert!(drawn.contains("↳ COPY . .: 1 file changed: more (content)"), "{drawn}");
    let base = |word: &str| {
        let text = format!("FROM busybox\nRUN echo {word} > /m\n");
        lab.build(&lab.context("base", &[("Dockerfile", &text)]), &["-q", "-t", "busybox"]).success();
    };
    base("one");
    let args = ["--build-arg", "VERSION=1.1"];
    lab.build(&context, &args).success();
    base("two");
    let all: Vec<String> =
        reasons(&lab.build(&context, &args)).iter().map(|reason| without_digests(reason)).collect();
    assert_eq!(all[0], "FROM busybox: tag moved sha256:… → sha256:…", "{all:?}");
    assert!(all[1].starts_with("RUN: follows [1/3] FROM docker.io/library/busybox:latest@"), "{all:?}");
}

/// A Dockerfile and flags.
type Build<'a> = (&'a str, &'a [&'a str]);

/// What the second of two builds says.
fn second(lab: &Lab, first: Build<'_>, then: Build<'_>) -> Vec<String> {
    lab.build_text(first.0, first.1).success();
    reasons(&lab.build_text(then.0, then.1))
}

#[test]
fn whatever_enters_a_step_is_named_when_it_changes() {
    let lab = Lab::with_busybox();
    let cases: [(Build<'_>, Build<'_>, &str); 9] = [
        (("ENV A=1\nRUN true one", &[]), ("ENV A=2\nRUN true one", &[]), "RUN: ENV A 1→2"),
        (("RUN true two", &[]), ("USER 1000\nRUN true two", &[]), "RUN: USER root→1000"),
        (("RUN true three", &[]), ("RUN --network=none true three", &[]), "RUN: network default→none"),
        (
            ("RUN --mount=type=tmpfs,target=/t true four", &[]),
            ("RUN --mount=type=tmpfs,target=/t,size=1m true four", &[]),
            "RUN: mount type=tmpfs,target=/t → type=tmpfs,target=/t,size=1048576",
        ),
        (
            ("RUN true five", &[]),
            ("RUN --mount=type=cache,target=/c true five", &[]),
            "RUN: mount type=cache,target=/c is new",
        ),
        (("RUN true six", &[]), ("RUN true six", &["--no-cache"]), "RUN: asked for by --no-cache"),
        (("RUN true seven", &[]), ("RUN false || true seven", &[]), "RUN: command changed"),
        (("WORKDIR /a\nRUN true eight", &[]), ("WORKDIR /b\nRUN true eight", &[]), "WORKDIR /b: path /a→/b"),
        (
            ("COPY Dockerfile /a\nRUN true nine", &[]),
            ("COPY --chown=1:2 Dockerfile /a\nRUN true nine", &[]),
            "COPY --chown=1:2 Dockerfile /a: --chown \"\"→1:2; 1 file changed: Dockerfile (content)",
        ),
    ];
    for (first, then, want) in cases {
        let [one, two] = [first.0, then.0].map(|text| format!("FROM busybox\n{text}\n"));
        let said = second(&lab, (&one, first.1), (&two, then.1));
        assert_eq!(said.first().map(String::as_str), Some(want), "{said:?}");
    }
    let text = "FROM busybox\nRUN true last\n";
    lab.build_text(text, &[]).success();
    let foreign = lab.build_text(text, &["--platform", "linux/386"]);
    assert_eq!(reasons(&foreign), ["RUN: platform linux/amd64→linux/386"], "{foreign}");
}

#[test]
fn ignore_files_urls_and_branches_that_changed_are_named() {
    let lab = Lab::with_busybox();
    let served = Arc::new(Mutex::new(b"one".to_vec()));
    let content = served.clone();
    let web = Web::start(move |_| (200, vec![], content.lock().unwrap().clone()));
    let daemon = GitDaemon::start();
    let repository = daemon.repository("r", |dir| fs::write(dir.join("f"), "1").unwrap());
    let (url, git) = (web.url("/file"), daemon.url("r"));
    let text = format!("FROM busybox\nCOPY d /d\nADD {url} /f\nADD {git}#main /r\n");
    let context = lab.context("ctx", &[("Dockerfile", &text), ("d/a", "a"), ("d/b", "b")]);
    lab.build(&context, &[]).success();
    lab.file("ctx/.dockerignore", "d/b\n");
    let said = reasons(&lab.build(&context, &[]));
    assert_eq!(said[0], "COPY d /d: 1 file changed: -1 gone; .dockerignore changed", "{said:?}");
    *served.lock().unwrap() = b"two".to_vec();
    let said = reasons(&lab.build(&context, &[]));
    assert_eq!(
        without_digests(&said[0]),
        format!("ADD {url}: content moved sha256:… → sha256:…"),
        "{said:?}"
    );
    assert_eq!(said[1], format!("ADD {url} /f: follows {url}"), "{said:?}");
    let old = repository.git(&["rev-parse", "HEAD"]);
    fs::write(repository.dir.join("f"), "2").unwrap();
    let new = repository.commit("two");
    let said = reasons(&lab.build(&context, &[]));
    assert_eq!(said[0], format!("ADD {git}#main: commit moved {} → {}", &old[..12], &new[..12]), "{said:?}");
}

#[test]
fn the_metadata_file_has_what_scripts_look_for() {
    let lab = Lab::with_busybox();
    let path = lab.at("m.json");
    let read = || json(&fs::read_to_string(&path).unwrap());
    let text = "FROM busybox\nMAINTAINER me\nRUN true\n";
    let digest = lab.build_text(text, &["-q", "-t", "x", "--metadata-file", &path]).success();
    let metadata = read();
    assert_eq!(metadata["containerimage.digest"], digest);
    assert_eq!(metadata["image.name"], "docker.io/library/x:latest");
    let reference = metadata["buildx.build.ref"].as_str().unwrap().to_owned();
    assert_eq!(reference.split('/').count(), 3, "{reference}");
    let warning = &metadata["buildx.build.warnings"][0];
    assert_eq!(
        (warning["level"].as_i64(), warning["range"][0]["start"]["line"].as_i64()),
        (Some(1), Some(2))
    );
    assert_eq!(warning["sourceInfo"]["language"], "Dockerfile");
    let names: Vec<&str> = metadata["forge.steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["name"].as_str().unwrap())
        .collect();
    assert!(names[0].starts_with("[1/2] FROM docker.io/library/busybox:latest@sha256:"), "{names:?}");
    assert_eq!(names[1..], ["[2/2] RUN true"]);
    // Files alone make no image, and are as well explained.
    lab.build_text(text, &["-q", "-o", &lab.at("out"), "--metadata-file", &path]).success();
    let metadata = read();
    assert!(metadata.get("containerimage.digest").is_none());
    assert_eq!(metadata["forge.steps"][1]["cached"], true);
    assert_ne!(metadata["buildx.build.ref"].as_str().unwrap(), reference);
}
