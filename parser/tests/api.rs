//! What the other rooms rely on: places, triggers, mounts, outlines, check options.

use forge_parser::ast::{Kind, MountKind, Sharing};
use forge_parser::{
    CheckConfig, CheckOptions, Chmod, Expander, LineIndex, Rule, Span, Warning, foreign_frontend,
    is_builtin_frontend, outline, parse, parse_trigger, parse_with_checks, targets, violation,
};

#[test]
fn spans_lead_back_to_the_text() {
    let text = "\u{FEFF}FROM alpine AS b\r\nCOPY --from=b \\\r\n  # c\r\n  a\\\r\nb /d/\r\nENV k=v \\\n  l=\"w x\"\n";
    let parsed = parse(text.as_bytes()).unwrap().dockerfile;
    let at = |span: Span| &text[span.range()];
    let stage = &parsed.stages[0];
    assert_eq!(at(stage.from.image.span), "alpine");
    assert_eq!(at(stage.from.name.as_ref().unwrap().span), "b");
    assert_eq!(stage.source, "FROM alpine AS b");
    let Kind::Copy(copy) = &stage.instructions[0].kind else { panic!("no COPY") };
    assert_eq!(at(copy.from.as_ref().unwrap().span), "b");
    assert_eq!(at(copy.sources[0].span), "a\\\r\nb", "a word that continues covers its continuation");
    assert_eq!(at(copy.dest.span), "/d/");
    assert_eq!(stage.instructions[0].source, "COPY --from=b   ab /d/");
    assert!(at(stage.instructions[0].span).ends_with("/d/"));
    let Kind::Env(pairs) = &stage.instructions[1].kind else { panic!("no ENV") };
    assert_eq!(at(pairs.pairs[1].0.span), "l");
    assert_eq!(at(pairs.pairs[1].1.span), "\"w x\"");
    let lines = LineIndex::new(text.as_bytes());
    assert_eq!(lines.line_col(stage.span.start), (1, 1), "the byte order mark is no column");
    assert_eq!(lines.line_col(copy.dest.span.start), (5, 3));
    assert_eq!(lines.line_count(), 7);
}

#[test]
fn columns_count_characters() {
    let lines = LineIndex::new("a\né日x\n".as_bytes());
    assert_eq!(lines.line_col("a\né日".len()), (2, 3));
    assert_eq!(lines.line_col(usize::MAX), (3, 1));
    assert_eq!((lines.line_count(), LineIndex::new(b"").line_count()), (2, 0));
}

#[test]
fn spans_cover_heredocs() {
    let text = "FROM a\nRUN <<E\nx\nE\nUSER b\n";
    let parsed = parse(text.as_bytes()).unwrap().dockerfile;
    assert_eq!(&text[parsed.stages[0].instructions[0].span.range()], "RUN <<E\nx\nE");
    assert_eq!(parsed.stages[0].instructions[0].source, "RUN <<E");
}

#[test]
fn triggers_are_one_instruction() {
    let text = "FROM a\nONBUILD COPY <<-E /x\n\ty\n\tE\n";
    let parsed = parse(text.as_bytes()).unwrap().dockerfile;
    let Kind::Onbuild { trigger, instruction } = &parsed.stages[0].instructions[0].kind else {
        panic!("no ONBUILD")
    };
    let again = parse_trigger(&trigger.value, '\\').unwrap();
    assert_eq!(again.source, instruction.source);
    let (Kind::Copy(now), Kind::Copy(then)) = (&again.kind, &instruction.kind) else { panic!("no COPY") };
    assert_eq!(now.sources[0].value, then.sources[0].value);
    assert!(matches!(parse_trigger("ARG X=1", '\\').unwrap().kind, Kind::Arg(_)));
    assert!(matches!(parse_trigger("# escape=`\nRUN a", '\\').unwrap().kind, Kind::Run(_)));
    let refused = |text: &str| parse_trigger(text, '\\').unwrap_err()[0].message.clone();
    assert_eq!(refused("RUN a\nRUN b"), "onbuild trigger should be a single expression");
    assert_eq!(refused(""), "onbuild trigger should be a single expression");
    assert_eq!(refused("FROM x"), "FROM isn't allowed as an ONBUILD trigger");
    assert_eq!(refused("ONBUILD RUN x"), "ONBUILD isn't allowed as an ONBUILD trigger");
    assert_eq!(refused("NOPE"), "unknown instruction: NOPE");
}

#[test]
fn mounts_are_read_again_when_variables_are_known() {
    let text = "FROM a\nRUN --mount=type=$T,target=/c/$X,sharing=${S:-locked},id=\"i j\" y\n";
    let parsed = parse(text.as_bytes()).unwrap().dockerfile;
    let Kind::Run(run) = &parsed.stages[0].instructions[0].kind else { panic!("no RUN") };
    let scope = vec![("T".to_owned(), "cache".to_owned()), ("X".to_owned(), "x".to_owned())];
    let expander = Expander { escape: '\\' };
    let mount = run.mounts[0].expand(&mut |value| Ok(expander.word(value, &scope)?.text)).unwrap();
    assert_eq!((mount.kind, mount.sharing), (MountKind::Cache, Some(Sharing::Locked)));
    assert_eq!(mount.target.as_deref(), Some("/c/x"));
    let wrong = vec![("T".to_owned(), "tmpfs".to_owned())];
    let error = run.mounts[0].expand(&mut |value| Ok(expander.word(value, &wrong)?.text)).unwrap_err();
    assert_eq!(error.to_string(), "invalid cache sharing set for tmpfs mount");
}

const STAGES: &str = "\
# IMAGE what to build on
ARG IMAGE=alpine
ARG UNUSED
# base the base of it all
FROM $IMAGE AS base
# PORT where it listens
ARG PORT=80
FROM base AS lint
RUN --mount=type=secret,id=never true
# Final is no description
# final what is shipped
FROM --platform=linux/amd64 base AS Final
ARG IMAGE
RUN --mount=type=secret,id=key,required --mount=type=ssh true
RUN --mount=type=cache,target=/c,sharing=locked --mount=type=secret,target=/run/secrets/pw true
COPY --from=0 /a /b
";

#[test]
fn targets_are_listed() {
    let parsed = parse(STAGES.as_bytes()).unwrap().dockerfile;
    let listed = targets(&parsed);
    let names: Vec<_> = listed.iter().map(|target| target.name.as_deref().unwrap()).collect();
    assert_eq!(names, ["base", "lint", "final"]);
    assert_eq!(listed[0].description.as_deref(), Some("the base of it all"));
    assert_eq!(listed[1].description, None);
    assert_eq!((listed[2].base.as_str(), listed[2].default), ("base", true));
    assert_eq!(listed[2].platform.as_deref(), Some("linux/amd64"));
}

#[test]
fn an_outline_covers_what_a_target_needs() {
    let parsed = parse(STAGES.as_bytes()).unwrap().dockerfile;
    let final_stage = outline(&parsed, None).unwrap();
    assert_eq!(outline(&parsed, Some("FINAL")).as_ref(), Some(&final_stage));
    assert_eq!(final_stage.description.as_deref(), Some("what is shipped"));
    let args: Vec<_> = final_stage
        .args
        .iter()
        .map(|arg| (arg.name.as_str(), arg.default.as_deref(), arg.description.as_deref()))
        .collect();
    assert_eq!(
        args,
        [
            ("PORT", Some("80"), Some("where it listens")),
            ("IMAGE", Some("alpine"), Some("what to build on")),
            ("UNUSED", None, None),
        ]
    );
    let secrets: Vec<_> =
        final_stage.secrets.iter().map(|secret| (secret.id.as_str(), secret.required)).collect();
    assert_eq!(secrets, [("key", true), ("pw", false)], "the lint stage is not needed");
    assert_eq!(final_stage.ssh[0].id, "default");
    assert_eq!((final_stage.caches[0].id.as_str(), final_stage.caches[0].sharing), ("/c", Sharing::Locked));
    assert_eq!(outline(&parsed, Some("nope")), None);
}

#[test]
fn check_options_decide_what_is_told() {
    let text = b"# check=skip=all\nFROM a\nMAINTAINER b\n";
    assert!(parse(text).unwrap().warnings.is_empty());
    let overridden = parse_with_checks(text, Some("error=true")).unwrap();
    assert_eq!(overridden.warnings[0].rule, Rule::MaintainerDeprecated);
    assert_eq!(
        violation(&overridden.warnings, &overridden.checks).as_deref(),
        Some("lint violation found for rules: MaintainerDeprecated")
    );
    assert_eq!(
        parse_with_checks(text, Some("nope=1")).unwrap_err()[0].message,
        "invalid check option \"nope\""
    );
    let config = CheckConfig::new(CheckOptions::parse("skip=UndefinedVar; experimental=all").unwrap());
    let span = Span::new(0, 1);
    assert!(!config.allows(Rule::UndefinedVar, span) && config.allows(Rule::CopyIgnoredFile, span));
    assert!(config.allows(Rule::InvalidDefinitionDescription, span) && !config.is_error(span));
}

#[test]
fn rules_have_names_and_pages() {
    assert_eq!(Rule::ALL.len(), 22);
    assert_eq!(
        Rule::JSONArgsRecommended.url(),
        "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/"
    );
    for rule in Rule::ALL {
        assert_eq!(rule.to_string(), format!("{rule:?}"));
        let letters = rule.url().replace(['-', '/'], "");
        assert!(letters.ends_with(&rule.name().to_lowercase()), "{rule}");
    }
}

#[test]
fn warnings_of_other_rooms_have_the_words_too() {
    let span = Span::default();
    let set = ["foo", "PATH"];
    for (warning, wanted) in [
        (
            Warning::undefined_var("fo", set, span),
            "UndefinedVar: Usage of undefined variable '$fo' (did you mean $foo?)",
        ),
        (Warning::undefined_var("x", set, span), "UndefinedVar: Usage of undefined variable '$x'"),
        (
            Warning::copy_ignored_file("ADD", "a", span),
            "CopyIgnoredFile: Attempting to Add file \"a\" that is excluded by .dockerignore",
        ),
        (
            Warning::invalid_base_image_platform("i", "linux/arm64", "linux/amd64", span),
            "InvalidBaseImagePlatform: Base image i was pulled with platform \"linux/arm64\", expected \"linux/amd64\" \
             for current build",
        ),
    ] {
        assert_eq!(warning.to_string(), wanted);
    }
}

#[test]
fn frontends_that_are_built_in() {
    for syntax in [
        "docker/dockerfile",
        "docker/dockerfile:1",
        "docker/dockerfile:1.7-labs",
        "docker.io/docker/dockerfile:1@sha256:00",
        "docker/dockerfile-upstream:master",
        "dockerfile.v0",
        "docker/dockerfile:1 --some options",
    ] {
        assert!(is_builtin_frontend(syntax), "{syntax}");
    }
    for syntax in [
        "evil/dockerfile",
        "ghcr.io/docker/dockerfile:1",
        "docker/dockerfilex",
        "localhost:5000/docker/dockerfile",
        "",
    ] {
        assert!(!is_builtin_frontend(syntax), "{syntax}");
    }
    let parsed = parse(b"# syntax=evil/frontend:1\nFROM a\n").unwrap().dockerfile;
    let problem = foreign_frontend(&parsed.directives).unwrap();
    assert_eq!(problem.message, "the frontend \"evil/frontend:1\" is not supported");
    assert_eq!(problem.span, Span::new(9, 24));
}

#[test]
fn modes_are_applied() {
    assert_eq!(Chmod::parse("u=rwX,go=rX").unwrap().apply(0o600, true), 0o755);
}
