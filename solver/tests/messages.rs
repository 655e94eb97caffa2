//! The errors that people script against, word for word: the first line of what is said of each file.

use std::collections::{BTreeMap, BTreeSet};

use forge_parser::ast::Network;
use forge_solver::op::types::GitReference;
use forge_solver::op::{Access, HttpSource, ResolvedHttp, ResolvedImage, Selection};
use forge_solver::{Dated, Named, PlanOptions, TroubleKind, World, WorldError};
use forge_store::{ContentId, Digest, ImageConfig, Platform, Snapshot};

/// Every image is there but `missing…`, every file but `missing`, every URL and repository.
#[derive(Default)]
struct Everything {
    /// Images that were asked for.
    asked: std::sync::Mutex<Vec<String>>,
}

impl World for Everything {
    fn resolve_image(&self, reference: &str, _: &Platform) -> Result<ResolvedImage, WorldError> {
        self.asked.lock().unwrap().push(reference.to_owned());
        if reference.starts_with("missing") || reference.starts_with("buidl") {
            return Err(WorldError::new(TroubleKind::NotFound, format!("{reference}: not found")));
        }
        Ok(image(reference))
    }
    fn image_at_hand(&self, reference: &str, _: &Platform) -> Option<ResolvedImage> {
        reference.starts_with("local").then(|| image(reference))
    }
    fn named(&self, _: &str, _: &Platform) -> Option<Named> {
        None
    }
    fn resolve_http(&self, source: &HttpSource) -> Result<ResolvedHttp, WorldError> {
        Ok(ResolvedHttp { digest: Digest::of(source.url.as_bytes()), mtime: 5 })
    }
    fn resolve_git(&self, _: &GitReference, _: Access) -> Result<String, WorldError> {
        Ok("c".repeat(40))
    }
    fn time_of(&self, dated: Dated<'_>) -> Result<Option<i64>, WorldError> {
        Ok(matches!(dated, Dated::Http(_) | Dated::Git(..)).then_some(7))
    }
    fn is_ignored(&self, _: &str, _: &str) -> bool {
        false
    }
    fn find(&self, _: &str, selection: &Selection) -> Result<(), WorldError> {
        match selection.pattern.as_str() {
            "missing" => Err(WorldError::new(TroubleKind::Input, "\"/missing\": not found")),
            _ => Ok(()),
        }
    }
    fn select(&self, context: &str, selection: &Selection) -> Result<ContentId, WorldError> {
        self.find(context, selection)?;
        Ok(ContentId::new(blake3::hash(selection.pattern.as_bytes())))
    }
}

fn image(reference: &str) -> ResolvedImage {
    ResolvedImage {
        reference: reference.to_owned(),
        digest: Digest::of(reference.as_bytes()),
        config: ImageConfig::default(),
        snapshot: Snapshot::default(),
    }
}

fn options(target: Option<&str>, args: &[(&str, &str)]) -> PlanOptions {
    let platform = Platform::new("linux", "amd64", None);
    PlanOptions {
        target: target.map(str::to_owned),
        build_args: args
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect::<BTreeMap<_, _>>(),
        labels: Vec::new(),
        platform: platform.clone(),
        several_platforms: false,
        build_platform: platform,
        no_cache: false,
        no_cache_stages: BTreeSet::new(),
        network: Network::Default,
        allowed: BTreeSet::new(),
        check_only: false,
        ulimits: Vec::new(),
        shm_size: None,
    }
}

/// All that is wrong with a file: where, and what.
fn problems_of(
    text: &str,
    options: &PlanOptions,
    world: &Everything,
) -> Vec<(Option<usize>, String, Option<String>)> {
    let line = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
    match forge_parser::parse(text.as_bytes()) {
        Err(problems) => {
            problems.into_iter().map(|p| (Some(line(p.span.start)), p.message, p.hint)).collect()
        }
        Ok(parsed) => match forge_solver::plan(&parsed, options, world) {
            Err(problems) => problems
                .into_iter()
                .map(|p| (p.span.map(|span| line(span.start)), p.message, p.hint))
                .collect(),
            Ok(_) => Vec::new(),
        },
    }
}

/// Each file has just this one mistake.
fn check(rows: &[(&str, &str)]) {
    let mut wrong = Vec::new();
    for (text, want) in rows {
        let found = problems_of(text, &options(None, &[]), &Everything::default());
        let found: Vec<String> = found.into_iter().map(|(_, message, _)| message).collect();
        if found != [*want] {
            wrong.push(format!("{text:?}\n  wanted {want}\n  found  {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

/// Behind a FROM.
fn check_lines(rows: &[(&str, &str)]) {
    let texts: Vec<String> = rows.iter().map(|(line, _)| format!("FROM base AS s\n{line}\n")).collect();
    let rows: Vec<(&str, &str)> =
        texts.iter().map(String::as_str).zip(rows.iter().map(|(_, want)| *want)).collect();
    check(&rows);
}

#[test]
fn of_files_and_lines() {
    check(&[
        ("# nothing\n", "file with no instructions"),
        ("ENV a=b\n", "no build stage in current context"),
        ("ARG a\n", "dockerfile contains no stages to build"),
        ("# escape=x\nFROM a\n", "invalid escape token 'x' does not match ` or \\"),
        ("# escape=`\n# escape=`\nFROM a\n", "only one escape parser directive can be used"),
        ("FROM a b\n", "FROM requires either one or three arguments"),
        (
            "FROM a AS 1b\n",
            "invalid name for build stage: \"1b\", name can't start with a number or contain symbols",
        ),
        ("FROM $NOPE\n", "base name ($NOPE) should not be blank"),
        ("FROM --platform=$NOPE a\n", "empty platform value from expression $NOPE"),
        ("FROM --platform=a --platform=b c\n", "duplicate flag specified: platform"),
    ]);
    check_lines(&[
        ("RUN <<EOF\nx", "unterminated heredoc"),
        ("COPY a <<EOF\nx\nEOF", "COPY cannot accept a heredoc as a destination"),
        ("FNTRYPOINT x", "unknown instruction: FNTRYPOINT (did you mean ENTRYPOINT?)"),
        ("RUN --mont=x y", "unknown flag: --mont (did you mean mount?)"),
        ("COPY --chown=a --chown=b c d", "duplicate flag specified: chown"),
        ("COPY --chown c d", "missing a value on flag: chown"),
        ("COPY --link=x c d", "expecting boolean value for flag link, not: x"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("USER", "USER requires exactly one argument"),
        (
            "COPY a",
            "COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        ("SHELL sh", "SHELL requires the arguments to be in JSON form"),
        ("ENV =b", "ENV names can not be blank"),
        ("ENV a", "ENV must have two arguments"),
        ("ENV a=b c", "Syntax error - can't find = in \"c\". Must be of the form: name=value"),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK X y", "Unknown type \"X\" in HEALTHCHECK (try CMD)"),
        ("HEALTHCHECK --interval=1us CMD x", "Interval \"interval\" cannot be less than 1ms"),
        ("HEALTHCHECK --retries=-1 CMD x", "--retries cannot be negative (-1)"),
        ("VOLUME [\"\"]", "VOLUME specified can not be an empty string"),
        ("CMD [1]", "when using JSON array syntax, arrays must be comprised of strings only"),
    ]);
}

#[test]
fn of_mounts_and_flags_of_run() {
    check_lines(&[
        (
            "RUN --mount=from=$X,target=/a b",
            "'from' doesn't support variable expansion, define alias stage instead",
        ),
        ("RUN --mount=typ=bind,target=/a b", "unexpected key 'typ' in 'typ=bind' (did you mean type?)"),
        ("RUN --mount=type=tmpf,target=/a b", "unsupported mount type \"tmpf\" (did you mean tmpfs?)"),
        ("RUN --mount=type=cache,sharing=x,target=/a b", "unsupported sharing value \"x\""),
        ("RUN --mount=type=bind,size=1,target=/a b", "unexpected key 'size' for mount type 'bind'"),
        ("RUN --mount=type=bind,x,target=/a b", "invalid field 'x' must be a key=value pair"),
        ("RUN --mount=type=secret b", "invalid secret mount. one of source, target required"),
        ("RUN --mount=type=secret,id=a,source=c b", "both source and id can't be set"),
        ("RUN --mount=type=secret,id=a,from=s b", "secret mount should not have a from"),
        ("RUN --mount=type=secret,id=a,sharing=shared b", "secret mount should not define sharing"),
        ("RUN --mount=type=bind,target=/a,sharing=shared b", "invalid cache sharing set for bind mount"),
        ("RUN --mount=type=bind,target=/a,mode=1 b", "mode not allowed for \"bind\" type mounts"),
        ("RUN --mount=target=/ b", "invalid mount target \"/\""),
        ("RUN --network=x b", "invalid network mode \"x\""),
        ("RUN --security=x b", "security \"x\" is not valid"),
        ("RUN --network=host b", "entitlement network.host is not allowed"),
        ("RUN --security=insecure b", "entitlement security.insecure is not allowed"),
        (
            "RUN --mount=from=late,target=/a b\nFROM base AS late\nFROM s",
            "cannot mount from stage \"late\" to \"/a\", stage needs to be defined before current command",
        ),
    ]);
}

#[test]
fn of_copy_and_add() {
    let sum = format!("sha256:{}", "a".repeat(64));
    let two = format!("ADD --checksum={sum} https://h/a https://h/b /");
    let local = format!("ADD --checksum={sum} a /");
    check_lines(&[
        (
            "COPY --from=late a b\nFROM base AS late\nFROM s",
            "cannot copy from stage \"late\", it needs to be defined before current stage \"s\"",
        ),
        ("COPY --from=5 a b", "invalid stage index 5"),
        ("COPY --from=s a b", "circular dependency detected on stage: s"),
        ("COPY --from=0 a b", "circular dependency detected on stage: s"),
        (
            "COPY --from=c a b\nFROM base AS b\nCOPY --from=s a b\nFROM base AS c\nCOPY --from=b a b",
            "circular dependency detected on stage: s",
        ),
        (
            "COPY --from=$X a b",
            "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround",
        ),
        (
            "COPY --chmod=10000 a b",
            "invalid chmod parameter: '10000'. it should be octal string and between 0 and 07777",
        ),
        ("COPY https://h/a b", "source can't be a URL for COPY"),
        ("COPY git@h:a b", "source can't be a git ref for COPY"),
        (&two, "checksum can't be specified for multiple sources"),
        (&local, "checksum requires HTTP(S) or Git sources"),
        ("ADD --keep-git-dir git@h:a?keep-git-dir=0 /", "inconsistent keep-git-dir configuration"),
        ("ADD --checksum=x git@h:a /", "expected hex commit hash, got \"x\""),
        ("COPY missing /", "\"/missing\": not found"),
        ("RUN --mount=source=missing,target=/x y", "\"/missing\": not found"),
    ]);
}

#[test]
fn of_words() {
    check_lines(&[
        ("ENV a=\"${FOO:?custom error}\"", "FOO: custom error"),
        ("ENV a=${}", "syntax error: bad substitution"),
        ("ENV a=${b", "syntax error: missing '}'"),
        ("ENV a=${b/c}", "syntax error: missing '/' in ${}"),
        ("ENV a=${b:#c}", "unsupported modifier (:#) in substitution"),
    ]);
}

#[test]
fn of_targets_and_the_epoch() {
    let text = "FROM base AS build\nRUN x\nFROM scratch AS src\nADD https://h/x /\nFROM scratch AS two\nADD https://h/x /\nADD git@h:x /\nFROM build\n";
    let first = |options: &PlanOptions| {
        problems_of(text, options, &Everything::default())
            .into_iter()
            .map(|(_, message, _)| message)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        first(&options(Some("bulid"), &[])),
        ["target stage \"bulid\" could not be found (did you mean build?)"]
    );
    for (value, want) in [
        ("not-a-timestamp", "invalid SOURCE_DATE_EPOCH: not-a-timestamp"),
        ("build", "SOURCE_DATE_EPOCH stage must use FROM scratch"),
        ("two", "SOURCE_DATE_EPOCH stage must contain exactly one remote ADD"),
    ] {
        assert_eq!(first(&options(None, &[("SOURCE_DATE_EPOCH", value)])), [want]);
    }
    assert!(first(&options(None, &[("SOURCE_DATE_EPOCH", "SRC")])).is_empty());
    let more = "FROM scratch AS src\nADD https://h/x /\nCOPY a /\nFROM base\n";
    let found = problems_of(more, &options(None, &[("SOURCE_DATE_EPOCH", "src")]), &Everything::default());
    assert_eq!(
        found[0].1,
        "SOURCE_DATE_EPOCH stage does not meet source-only requirements: unsupported COPY instruction"
    );
}

#[test]
fn all_mistakes_are_told_in_the_order_of_the_text() {
    let text = "FROM local AS a\nCOPY missing /x\nENV b=${}\nFROM scratch AS c\nCOPY --chown=app d /\nADD git://h/x#-u /\n\
                FROM local\nARG M=9\nCOPY --from=a --chmod=$M e /\nRUN --mount=from=zzz,source=missing,target=/x true\n\
                COPY --from=c ${f:?needed} /\nWORKDIR ${g\n";
    let world = Everything::default();
    let found = problems_of(text, &options(None, &[]), &world);
    let places: Vec<(Option<usize>, &str)> =
        found.iter().map(|(line, message, _)| (*line, message.as_str())).collect();
    assert_eq!(
        places,
        [
            (Some(2), "\"/missing\": not found"),
            (Some(3), "syntax error: bad substitution"),
            (Some(5), "unable to find user app: the stage has no files yet"),
            (Some(6), "invalid git reference \"-u\""),
            (Some(9), "invalid chmod parameter: '9'. it should be octal string and between 0 and 07777"),
            (Some(11), "f: needed"),
            (Some(12), "syntax error: missing '}'"),
        ]
    );
    assert!(world.asked.lock().unwrap().is_empty(), "nobody far away is asked once something is wrong");
}

#[test]
fn slips_are_told_without_asking_for_images() {
    for (text, want) in [
        ("FROM far.example/base\nCOPY missing /\n", "\"/missing\": not found"),
        ("FROM far.example/base\nADD [\"missing\", \"/\"]\n", "\"/missing\": not found"),
        ("FROM far.example/base\nRUN --mount=source=missing,target=/x y\n", "\"/missing\": not found"),
        ("FROM far.example/base\nCOPY --from=7 a /\n", "invalid stage index 7"),
    ] {
        let world = Everything::default();
        let found = problems_of(text, &options(None, &[]), &world);
        assert_eq!((found.len(), found[0].1.as_str()), (1, want), "{text}");
        assert!(world.asked.lock().unwrap().is_empty(), "{text}");
    }
    // Not a slip: an image of that name may be anywhere. If it is not, what was meant is said.
    let text = "FROM base AS build\nFROM base\nCOPY --from=buidl a /\n";
    let found = problems_of(text, &options(None, &[]), &Everything::default());
    assert_eq!(found[0].1, "buidl: not found");
    assert_eq!(found[0].2.as_deref(), Some("no stage is called buidl; did you mean build?"));
}

#[test]
fn stages_that_the_target_does_not_need_are_named() {
    let text = "FROM base AS a\nFROM base AS dev\nRUN x\nFROM base\nCOPY --from=a b /\nRUN y\nFROM base AS last\nCOPY --from=a b /\n";
    let parsed = forge_parser::parse(text.as_bytes()).unwrap();
    let plan = forge_solver::plan(&parsed, &options(None, &[]), &Everything::default()).unwrap();
    assert_eq!(plan.unneeded, ["dev", "2"]);
}

#[test]
fn circles_are_named_however_long_they_are() {
    let stages = 9_000;
    let mut text = String::new();
    for n in 0..stages {
        text.push_str(&format!("FROM base AS s{n}\nCOPY --from=s{} a b\n", (n + 1) % stages));
    }
    let text = &text[..text.len().min(16 << 20)];
    let found = problems_of(text, &options(None, &[]), &Everything::default());
    assert!(
        found.iter().any(|(_, message, _)| message == "circular dependency detected on stage: s0"
            || message.contains("more than 10000 instructions")),
        "{:?}",
        &found[..1]
    );
    let small: String =
        (0..4_000).map(|n| format!("FROM base AS s{n}\nCOPY --from=s{} a b\n", (n + 1) % 4_000)).collect();
    let found = problems_of(&small, &options(None, &[]), &Everything::default());
    assert_eq!((found.len(), found[0].1.as_str()), (1, "circular dependency detected on stage: s0"));
}

#[test]
fn a_short_file_cannot_ask_for_a_lot() {
    let long = "x".repeat(1_000_000);
    let lines = |count: usize, line: &dyn Fn(usize) -> String| (0..count).map(line).collect::<String>();
    let expand = "the words of the Dockerfile expand to more than 16777216 bytes";
    let carry = "the steps and stages of the Dockerfile carry along more than 67108864 bytes";
    for (what, text, want) in [
        (
            "labels",
            format!("FROM base\nARG A={long}\n{}", lines(9_000, &|n| format!("LABEL l{n}=$A\n"))),
            expand,
        ),
        (
            "doubling",
            format!("FROM base\nENV A=xxxxxxxx\n{}", "ENV A=$A$A\n".repeat(40)),
            "expanded to more than 1048576 bytes",
        ),
        ("environments", format!("FROM base\nENV A={long}\n{}", "RUN x\n".repeat(9_000)), carry),
        ("authors", format!("FROM base\nMAINTAINER {long}\n{}", "USER x\n".repeat(9_000)), carry),
        ("labels of steps", format!("FROM base\nARG A={long}\n{}", "RUN echo $A\n".repeat(9_000)), carry),
        (
            "chains",
            format!(
                "FROM base AS s0\n{}",
                lines(4_900, &|n| format!("FROM s{n} AS s{}\nLABEL a=b\n", n + 1))
            ),
            carry,
        ),
        ("ports", format!("FROM base\nEXPOSE{}\n", " 1-65535".repeat(100_000)), carry),
        (
            "variables",
            format!("FROM base\nENV{}\n", lines(20_000, &|n| format!(" v{n}=x"))),
            "the stage has more than 10000 variables",
        ),
        (
            "remote sources",
            format!("FROM base\nADD{} /\n", lines(2_000, &|n| format!(" https://h/{n}"))),
            "the Dockerfile has more than 1000 remote sources",
        ),
    ] {
        let found = problems_of(&text, &options(None, &[]), &Everything::default());
        let messages: BTreeSet<&str> = found.iter().map(|(_, message, _)| message.as_str()).collect();
        assert_eq!(messages, BTreeSet::from([want]), "{what}");
        if what != "doubling" {
            assert_eq!(found.len(), 1, "{what}");
        }
    }
    let many = format!("FROM base\n{}", "COPY missing /\n".repeat(5_000));
    assert_eq!(problems_of(&many, &options(None, &[]), &Everything::default()).len(), 1_000);
}

#[test]
fn of_paths_that_linux_does_not_take() {
    let (name, path) = ("n".repeat(256), "d/".repeat(2048));
    let fits = format!("{}/{}", "n".repeat(255), "d/".repeat(1900));
    check_lines(&[
        (&format!("COPY a /{name}"), "COPY: the destination is a name of 256 bytes, and Linux takes 255"),
        (&format!("ADD a /x/{name}/y"), "ADD: the destination is a name of 256 bytes, and Linux takes 255"),
        (&format!("COPY a /{path}"), "COPY: the destination is a path of 4097 bytes, and Linux takes 4095"),
        (&format!("WORKDIR /{name}"), "WORKDIR is a name of 256 bytes, and Linux takes 255"),
    ]);
    for line in [format!("COPY a /{fits}"), format!("WORKDIR /{fits}")] {
        assert!(
            problems_of(&format!("FROM base\n{line}\n"), &options(None, &[]), &Everything::default())
                .is_empty()
        );
    }
}
