//! What forge says while it builds: the lines that scripts parse, and a digest alone on standard output.

use crate::support::{Lab, json};

const TWO_STEPS: &str = "FROM busybox\nRUN echo one; echo two >&2\nRUN printf end\n";

/// The progress of a build without its times, digests and empty lines.
fn lines(stderr: &str) -> Vec<String> {
    let known = |word: &str| match word.rsplit_once(':') {
        Some((before, hex)) if hex.len() == 64 && before.ends_with("sha256") => format!("{before}:…"),
        _ => word.to_owned(),
    };
    let is_time = |word: &str| word.trim_end_matches('s').parse::<f64>().is_ok() && word.contains('.');
    let line = |line: &str| {
        let words = line.split(' ').filter(|word| !is_time(word)).map(known);
        words.collect::<Vec<_>>().join(" ")
    };
    stderr.lines().filter(|text| !text.is_empty()).map(line).collect()
}

#[test]
fn plain_progress_has_the_lines_that_scripts_parse() {
    let lab = Lab::with_busybox();
    let first = lab.build_text(TWO_STEPS, &["--progress=plain", "-t", "two"]);
    let exported = [
        "#5 exporting to image",
        "#5 exporting layers",
        "#5 exporting manifest sha256:…",
        "#5 exporting config sha256:…",
        "#5 naming to docker.io/library/two:latest",
        "#5 DONE",
    ];
    let begun = ["#1 [internal] load build definition from Dockerfile", "#1 DONE"];
    let base = "#2 [1/3] FROM docker.io/library/busybox:latest@sha256:…";
    let (run, printf) = ("#3 [2/3] RUN echo one; echo two >&2", "#4 [3/3] RUN printf end");
    let middle = [base, "#2 DONE", run, "#3 one", "#3 two", "#3 DONE", printf, "#4 end", "#4 DONE"];
    assert_eq!(lines(&first.stderr), [&begun[..], &middle, &exported].concat(), "{first}");

    let second = lab.build_text(TWO_STEPS, &["--progress=plain", "-t", "two"]);
    let middle = [base, "#2 CACHED", run, "#3 CACHED", printf, "#4 CACHED"];
    assert_eq!(lines(&second.stderr), [&begun[..], &middle, &exported].concat(), "{second}");
}

#[test]
fn both_streams_come_in_the_order_of_their_lines_and_unclipped() {
    let lab = Lab::with_busybox();
    let script =
        "for i in $(seq 2000); do echo out $i; echo err $i >&2; done; yes 0123456789 | head -c 3000000";
    let text = lab.build_text(&format!("FROM busybox\nRUN {script}\n"), &["--progress=plain"]).stderr;
    let said: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("#3 ")?.split_once(' ')).map(|x| x.1).collect();
    let ordered: Vec<&str> =
        said.iter().copied().filter(|line| line.starts_with("out ") || line.starts_with("err ")).collect();
    let wanted: Vec<String> = (1..=2000).flat_map(|i| [format!("out {i}"), format!("err {i}")]).collect();
    assert_eq!(ordered, wanted);
    let long: usize = said.iter().filter(|line| line.starts_with('0')).map(|line| line.len() + 1).sum();
    assert!((3_000_000..=3_000_001).contains(&long), "{long}");
}

#[test]
fn times_are_seconds_with_the_digits_that_scripts_expect() {
    let lab = Lab::with_busybox();
    let text = lab.build_text("FROM busybox\nRUN echo hello\n", &["--progress=plain"]).stderr;
    let digits = |text: &str, after: usize| {
        let (whole, part) = text.split_once('.').unwrap();
        !whole.is_empty()
            && part.len() == after
            && (whole.to_owned() + part).bytes().all(|b| b.is_ascii_digit())
    };
    let hello = text.lines().filter_map(|line| line.strip_suffix(" hello")).next_back().unwrap();
    assert!(digits(hello.strip_prefix("#3 ").unwrap(), 3), "{text}");
    let done = text.lines().find_map(|line| line.strip_prefix("#3 DONE ")).unwrap();
    assert!(digits(done.strip_suffix('s').unwrap(), 1), "{text}");
}

#[test]
fn standard_output_has_the_digest_and_nothing_else() {
    let lab = Lab::with_busybox();
    for args in [&["--progress=plain"][..], &["--progress=rawjson"], &["-q"], &[]] {
        let outcome = lab.build_text(TWO_STEPS, args);
        let quiet = args == ["-q"];
        assert_eq!(outcome.stderr.is_empty(), quiet, "{args:?} {outcome}");
        let digest = outcome.stdout.strip_suffix('\n').unwrap().to_owned();
        let hex = digest.strip_prefix("sha256:").unwrap();
        assert!(hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()), "{digest}");
    }
}

#[test]
fn rawjson_is_one_object_per_line_with_the_output_in_base64() {
    let lab = Lab::with_busybox();
    let text = lab.build_text(TWO_STEPS, &["--progress=rawjson"]).stderr;
    let events: Vec<_> = text.lines().map(json).collect();
    let logs: Vec<_> = events.iter().filter_map(|event| event["logs"].as_array()).flatten().collect();
    let data: Vec<_> = logs.iter().filter_map(|log| log["data"].as_str()).collect();
    assert!(data.contains(&"ZW5k"), "the log has `end`: {data:?}");
    let names = events.iter().filter_map(|event| event["vertexes"].as_array()).flatten();
    let names: Vec<_> = names.filter_map(|vertex| vertex["name"].as_str()).collect();
    assert!(names.contains(&"[3/3] RUN printf end"), "{names:?}");
}

#[test]
fn warnings_stand_at_the_end_with_rule_and_line() {
    let lab = Lab::with_busybox();
    let outcome = lab.build_text("FROM busybox\nENV a b\nMAINTAINER me\n", &[]);
    let tail: Vec<_> = outcome.stderr.lines().skip_while(|line| !line.contains("warnings found")).collect();
    assert_eq!(tail.len(), 3, "{outcome}");
    assert!(tail[1].starts_with(" - LegacyKeyValueFormat: ") && tail[1].ends_with("(line 2)"), "{tail:?}");
    assert!(tail[2].starts_with(" - MaintainerDeprecated: ") && tail[2].ends_with("(line 3)"), "{tail:?}");
    assert!(!lab.build_text("FROM busybox\nENV a b\n", &["-q"]).stderr.contains("warning"));
}
