//! What goes wrong in Dockerfiles and contexts: one message with its place, a next step, the documented exit code.

use std::fs;

use crate::support::Lab;

/// The report for a Dockerfile beside which nothing else is in the context.
#[track_caller]
fn report(dockerfile: &str, code: i32) -> String {
    let lab = Lab::with_busybox();
    let report = lab.build_text(dockerfile, &[]).report(code);
    assert!(lab.unfinished().is_empty());
    report.replace(&lab.at("ctx/"), "")
}

#[test]
fn a_context_without_dockerfile() {
    let lab = Lab::new();
    let report = lab.build(&lab.context("ctx", &[]), &[]).report(3);
    assert!(report.starts_with("error: failed to read dockerfile: open "), "{report}");
    assert!(report.contains("ctx/Dockerfile: No such file or directory"), "{report}");
    assert!(report.ends_with(
        "\n  = help: name the Dockerfile with -f FILE, or give the directory that holds it as the context\n"
    ));
    let report = lab.build(&lab.path("nowhere"), &[]).report(3);
    assert!(report.contains("nowhere\" not found"), "{report}");
}

#[test]
fn an_empty_dockerfile() {
    let want = "error: the Dockerfile cannot be empty
 --> Dockerfile:1:1
  |
1 |
  | ^
  |
  = help: begin with FROM and a base image
";
    assert_eq!(report("", 3), want);
}

#[test]
fn an_unknown_instruction_and_every_other_mistake_at_once() {
    let want = "error: unknown instruction: RNU (did you mean RUN?)
 --> Dockerfile:2:1
  |
2 | RNU true
  | ^^^
  |
  = help: is this the rest of the line above, which lacks its continuation mark?
error: EXPOSE requires at least one argument
 --> Dockerfile:3:1
  |
3 | EXPOSE
  | ^^^^^^
  |
  = help: write it on the same line
";
    assert_eq!(report("FROM busybox\nRNU true\nEXPOSE\n", 3), want);
}

#[test]
fn a_source_of_copy_that_is_not_there() {
    let want = "error: \"/nothing\": not found
 --> Dockerfile:3:6
  |
3 | COPY nothing /there
  |      ^^^^^^^
  |
  = help: sources are looked up in the build context, not in the Dockerfile's directory or the host
";
    // It is seen before anything runs.
    assert_eq!(report("FROM busybox\nRUN false\nCOPY nothing /there\n", 3), want);
}

#[test]
fn a_source_of_copy_that_the_ignore_file_hides() {
    let lab = Lab::with_busybox();
    let files =
        [("Dockerfile", "FROM busybox\nADD secret /\n"), (".dockerignore", "secr*\n"), ("secret", "x")];
    let report = lab.build(&lab.context("ctx", &files), &[]).report(3);
    assert!(report.starts_with("error: \"/secret\": not found\n"), "{report}");
    assert!(report.contains("Dockerfile:2:5\n"), "{report}");
    assert!(report.contains("the ignore file (.dockerignore) excludes it"), "{report}");
}

#[test]
fn a_source_that_another_stage_does_not_have() {
    let text = report("FROM busybox AS a\nFROM busybox\nCOPY --from=a /nothing /\n", 3);
    assert!(text.starts_with("error: \"/nothing\": not found\n --> Dockerfile:3:"), "{text}");
}

#[test]
fn a_run_step_that_fails() {
    let text = report("FROM busybox\nRUN echo before; echo trouble >&2; exit 3\n", 1);
    let lab = Lab::with_busybox();
    let outcome = lab.build_text("FROM busybox\nRUN echo before; exit 3\n", &[]);
    let want = "error: process \"/bin/sh -c echo before; echo trouble >&2; exit 3\" did not complete successfully: exit code: 3
 --> Dockerfile:2:1
  |
2 | RUN echo before; echo trouble >&2; exit 3
  | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
";
    assert_eq!(text, want);
    let above = "------\n > [2/2] RUN echo before; exit 3:\nbefore\n------\nerror: ";
    assert!(outcome.stderr.contains(above), "{outcome}");
    assert!(outcome.stderr.contains("#3 ERROR: process "), "{outcome}");
}

#[test]
fn a_long_output_is_repeated_in_part() {
    let lab = Lab::with_busybox();
    let text = lab.build_text("FROM busybox\nRUN seq 1000; false\n", &[]).failure(1);
    let repeated: Vec<_> = text.split("------\n").nth(1).unwrap().lines().skip(1).collect();
    let want: Vec<String> = (981..=1000).map(|number| number.to_string()).collect();
    assert_eq!(repeated, want);
}

#[test]
fn a_program_that_is_not_in_the_image() {
    let text = report("FROM busybox\nRUN [\"/no/such\", \"program\"]\n", 1);
    assert!(text.starts_with("error: exec /no/such: no such file"), "{text}");
    assert!(
        text.contains(" --> Dockerfile:2:1\n") && text.contains("help: is the program in the image"),
        "{text}"
    );
}

#[test]
fn a_user_that_is_not_in_the_image() {
    let want = "error: unable to find user zork: no matching entries in passwd file
 --> Dockerfile:3:1
  |
3 | RUN id
  | ^^^^^^
  |
  = help: create the user in an earlier RUN step, or give a number
";
    assert_eq!(report("FROM busybox\nUSER zork\nRUN id\n", 3), want);
}

#[test]
fn an_owner_that_is_not_in_the_image() {
    for (flag, message) in [
        ("zork", "unable to find user zork: no matching entries in passwd file"),
        ("app:zork", "unable to find group zork: no matching entries in group file"),
    ] {
        let text = report(&format!("FROM busybox\nCOPY --chown={flag} Dockerfile /\n"), 3);
        assert!(text.starts_with(&format!("error: {message}\n --> Dockerfile:2:1\n")), "{text}");
        assert!(text.contains("help: create the user in an earlier RUN step"), "{text}");
    }
}

#[test]
fn a_stage_that_is_not_there() {
    let lab = Lab::with_busybox();
    let report = lab.build_text("FROM busybox AS a\n", &["--target", "b"]).report(3);
    assert!(report.contains("target stage \"b\" could not be found"), "{report}");
}

#[test]
fn a_working_directory_that_is_a_file() {
    let text = report("FROM busybox\nRUN touch /f\nWORKDIR /f/sub\n", 3);
    assert!(text.contains(" --> Dockerfile:3:1\n"), "{text}");
}

#[test]
fn host_network_without_leave() {
    let text = report("FROM busybox\nRUN --network=host true\n", 3);
    assert!(text.contains("Dockerfile:2:") && text.contains("--allow network.host"), "{text}");
}

#[test]
fn an_ignore_file_that_leads_out_of_the_context() {
    let lab = Lab::with_busybox();
    let context = lab.context("ctx", &[("Dockerfile", "FROM busybox\nCOPY . /\n")]);
    std::os::unix::fs::symlink("/etc/passwd", context.join(".dockerignore")).unwrap();
    let report = lab.build(&context, &[]).report(3);
    assert!(report.contains("is a link out of the context"), "{report}");
}

#[test]
fn words_that_are_wrong() {
    let lab = Lab::with_busybox();
    let context = lab.context("ctx", &[("Dockerfile", "FROM busybox\n")]);
    for args in [
        &["--platform", "a/b/c/d"][..],
        &["--push"],
        &["-t", "UPPER"],
        &["-t", "a@sha256:0123"],
        &["--build-context", "x"],
        &["--allow", "everything"],
        &["--no-such-flag"],
    ] {
        let outcome = lab.build(&context, args);
        assert_eq!(outcome.code, 2, "{args:?} {outcome}");
        assert!(outcome.stderr.starts_with("error: "), "{args:?} {outcome}");
    }
}

#[test]
fn a_store_that_cannot_be_written() {
    let mut lab = Lab::new();
    fs::write(lab.path("store"), "a file").unwrap();
    let report = lab.forge(&["images"]).report(9);
    assert!(report.contains(&lab.at("store")), "{report}");
    fs::remove_file(lab.path("store")).unwrap();
    lab.wrapper = vec!["env".into()];
    assert_eq!(lab.forge(&["images", "-q"]).success(), "");
}

#[test]
fn a_blob_of_the_store_that_was_changed() {
    let lab = Lab::with_busybox();
    let manifest = crate::support::json(&lab.forge(&["inspect", "--raw", "busybox"]).success());
    let config = manifest["config"]["digest"].as_str().unwrap().replace("sha256:", "");
    let blob = lab.path("store/blobs/sha256").join(config);
    let text = fs::read_to_string(&blob).unwrap().replace("linux", "xunil");
    fs::remove_file(&blob).unwrap();
    fs::write(&blob, text).unwrap();
    let report = lab.build_text("FROM busybox\nRUN true\n", &[]).report(6);
    assert!(report.contains("sha256:"), "{report}");
}

#[test]
fn a_name_that_no_file_can_have_is_told_with_its_line() {
    let lab = Lab::new();
    for line in ["COPY Dockerfile /N", "WORKDIR /d/N", "COPY <<N /d/\nx\nN"] {
        let text = format!("FROM scratch\n{}\n", line.replace('N', &"n".repeat(300)));
        let report = lab.build_text(&text, &["-t", "a"]).report(3);
        assert!(report.contains("300 bytes") && report.contains("Dockerfile:2"), "{line}: {report}");
    }
}
