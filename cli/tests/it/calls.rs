//! `--check` and `--call`: a Dockerfile looked at, and nothing of it built.

use crate::support::{Lab, json};

const CHECKED: &str = "FROM scratch AS Final\nmaintainer me\nCMD echo hi\n";

const DESCRIBED: &str = "# VERSION says what is built\nARG VERSION=1\n# base is where all begins\nFROM scratch AS base\n\
    FROM base AS tools\nARG VERSION\nARG EXTRA=$VERSION-x\n\
    RUN --mount=type=secret,id=token,required=true --mount=type=ssh --mount=type=cache,id=pkg,target=/p true\n\
    # app is what runs\nFROM --platform=linux/arm64 tools AS app\n";

/// Nothing was built: no image, no layer.
fn built_nothing(lab: &Lab) {
    assert_eq!(lab.forge(&["images", "-q"]).success(), "");
    let layers = std::fs::read_dir(lab.path("store/layers")).map_or(0, Iterator::count);
    assert_eq!(layers, 0);
}

#[test]
fn checks_are_told_and_end_with_one() {
    let lab = Lab::new();
    for args in [["--check", "--progress=plain"], ["--call=check", "--progress=plain"], ["--call=lint", "-q"]]
    {
        let outcome = lab.build_text(CHECKED, &args);
        assert_eq!(outcome.code, 1, "{outcome}");
        let first = outcome.stdout.lines().next().unwrap();
        assert_eq!(first, "Check complete, 4 warnings have been found!", "{outcome}");
        let rules: Vec<&str> =
            outcome.stdout.lines().filter_map(|line| line.strip_prefix("WARNING: ")).collect();
        let url = "https://docs.docker.com/go/dockerfile/rule";
        assert_eq!(
            rules,
            [
                format!("StageNameCasing - {url}/stage-name-casing/"),
                format!("ConsistentInstructionCasing - {url}/consistent-instruction-casing/"),
                format!("MaintainerDeprecated - {url}/maintainer-deprecated/"),
                format!("JSONArgsRecommended - {url}/json-args-recommended/"),
            ]
        );
        assert!(outcome.stdout.contains("Dockerfile:3\n"), "{outcome}");
        assert!(outcome.stdout.contains("   3 | >>> CMD echo hi\n"), "{outcome}");
    }
    let clean = lab.build_text("FROM scratch\nLABEL a=b\n", &["--check", "-q"]);
    assert_eq!(clean.success(), "Check complete, no warnings found.");
    built_nothing(&lab);
}

#[test]
fn checks_are_told_in_json() {
    let lab = Lab::new();
    let outcome = lab.build_text(CHECKED, &["--call=check,format=json", "-q"]);
    assert_eq!(outcome.code, 1, "{outcome}");
    let told = json(&outcome.stdout);
    let warnings = told["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 4);
    assert_eq!(warnings[0]["ruleName"], "StageNameCasing");
    assert_eq!(warnings[0]["detail"], "Stage name 'Final' should be lowercase");
    assert_eq!(warnings[3]["location"]["ranges"][0]["start"]["line"], 3);
    assert_eq!(told["sources"][0]["language"], "Dockerfile");
    let clean = lab.build_text("FROM scratch\n", &["--call=check,format=json", "-q"]);
    assert_eq!(json(&clean.success())["warnings"], serde_json::json!([]));
    // A file that cannot be built is told where JSON is expected, too.
    let broken = lab.build_text("FROM scratch\nRUM x\n", &["--call=check,format=json", "-q"]);
    assert_eq!((broken.code, broken.stderr.as_str()), (3, ""));
    let message = json(&broken.stdout)["buildError"]["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("error: unknown instruction: RUM (did you mean RUN?)"), "{message}");
    let broken = lab.build_text("FROM scratch\nRUM x\n", &["--check", "-q"]).report(3);
    assert!(broken.contains("Dockerfile:2:1"), "{broken}");
}

#[test]
fn checks_can_be_skipped_and_can_be_errors() {
    let lab = Lab::new();
    let check = |text: &str, args: &[&str]| lab.build_text(text, &[&["--check", "-q"], args].concat());
    let skipped = |rules: &str| format!("# check=skip={rules}\n{CHECKED}");
    assert!(check(&skipped("all"), &[]).success().ends_with("no warnings found."));
    let some = check(&skipped("StageNameCasing,MaintainerDeprecated"), &[]);
    assert_eq!(some.code, 1);
    assert!(some.stdout.starts_with("Check complete, 2 warnings"), "{some}");
    let arg = ["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=all"];
    check(CHECKED, &arg).success();
    // One instruction's own comment.
    let own = "FROM scratch\n# check=skip=JSONArgsRecommended\nCMD echo hi\n";
    assert!(check(own, &[]).success().ends_with("no warnings found."));
    let report = check("# check=skip=x;nope=1\nFROM scratch\n", &[]).report(3);
    assert!(report.starts_with("error: invalid check option"), "{report}");
    // As errors they end a build before anything of it is done.
    let error = format!("# check=error=true\n{CHECKED}");
    let report = lab.build_text(&error, &["-t", "x", "--progress=plain"]).report(3);
    assert!(
        report.starts_with(
            "error: lint violation found for rules: ConsistentInstructionCasing, JSONArgsRecommended, \
             MaintainerDeprecated, StageNameCasing"
        ),
        "{report}"
    );
    built_nothing(&lab);
    // Otherwise a build ends with them, and succeeds.
    let built = lab.build_text(CHECKED, &["--progress=plain"]);
    assert!(built.stderr.contains(" 4 warnings found:\n - StageNameCasing: "), "{built}");
    built.success();
}

#[test]
fn targets_are_listed() {
    let lab = Lab::new();
    let text = lab.build_text(DESCRIBED, &["--call=targets", "-q"]).success();
    assert_eq!(
        text,
        "TARGET         DESCRIPTION\nbase           is where all begins\ntools\napp (default)  is what runs"
    );
    let told = json(&lab.build_text(DESCRIBED, &["--call=targets,format=json", "-q"]).success());
    let targets = told["targets"].as_array().unwrap();
    let names: Vec<&str> = targets.iter().map(|target| target["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["base", "tools", "app"]);
    assert_eq!(targets[2]["default"], true);
    assert_eq!(targets[2]["base"], "tools");
    assert_eq!(targets[2]["platform"], "linux/arm64");
    assert_eq!(targets[0]["description"], "is where all begins");
    built_nothing(&lab);
}

#[test]
fn an_outline_says_what_a_target_takes() {
    let lab = Lab::new();
    let args = ["-q", "--target", "tools", "--build-arg", "VERSION=2"];
    let text = lab.build_text(DESCRIBED, &[&args[..], &["--call=outline"]].concat()).success();
    for line in ["TARGET: tools", "VERSION     2", "EXTRA       2-x", "token    true", "default"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let json_args = [&args[..], &["--call", "outline,format=json"]].concat();
    let told = json(&lab.build_text(DESCRIBED, &json_args).success());
    assert_eq!(told["name"], "tools");
    assert_eq!(told["args"][0]["name"], "VERSION");
    assert_eq!(told["args"][0]["value"], "2");
    assert_eq!(told["args"][0]["description"], "says what is built");
    assert_eq!(told["secrets"][0]["name"], "token");
    assert_eq!(told["secrets"][0]["required"], true);
    assert_eq!(told["ssh"][0]["name"], "default");
    assert_eq!(told["cache"][0]["ID"], "pkg");
    let report = lab.build_text(DESCRIBED, &["-q", "--call=outline", "--target=tool"]).report(3);
    assert!(report.starts_with("error: target stage \"tool\" could not be found"), "{report}");
    built_nothing(&lab);
}

#[test]
fn methods_that_there_are_not_are_refused() {
    let lab = Lab::new();
    for bad in ["nothing", "check,format=xml", "subrequests"] {
        let report = lab.build_text("FROM scratch\n", &[&format!("--call={bad}")]).report(2);
        assert!(report.starts_with("error: --call: there is no"), "{report}");
    }
    lab.build_text("FROM scratch\n", &["--check", "--call=check"]).failure(2);
    assert_eq!(lab.build_text("FROM scratch\nLABEL a=b\n", &["--call=build", "-q", "-t", "x"]).code, 0);
}
