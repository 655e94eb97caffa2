//! Input that was made to hurt. Each case is so large that anything but linear work would not end, and each that is
//! past a bound gets one clear error.

use forge_parser::ast::Kind;
use forge_parser::limits::{
    MAX_EXPANSION_BYTES, MAX_FILE_BYTES, MAX_INSTRUCTIONS, MAX_LINE_BYTES, MAX_PROBLEMS,
};
use forge_parser::{Expander, Glob, IgnorePatterns, LineIndex, parse, parse_trigger};

const MEBIBYTE: usize = 1 << 20;

fn message(text: &str) -> String {
    let Err(problems) = parse(text.as_bytes()) else { panic!("accepted") };
    assert_eq!(problems.len(), 1, "{:?}", &problems[..problems.len().min(3)]);
    problems[0].message.clone()
}

fn instructions(text: &str) -> usize {
    parse(text.as_bytes()).unwrap().dockerfile.stages.iter().map(|stage| 1 + stage.instructions.len()).sum()
}

#[test]
fn a_file_may_be_large_but_not_larger() {
    let comment = format!("#{}\n", "x".repeat(1_000));
    let mut text = format!("FROM a\n{}", comment.repeat(MAX_FILE_BYTES / comment.len()));
    assert_eq!(instructions(&text), 1);
    text.push_str(&comment);
    text.push_str(&comment);
    assert_eq!(message(&text), "the Dockerfile is larger than 16777216 bytes");
    assert!(parse_trigger(&text, '\\').is_err());
}

#[test]
fn a_line_may_be_long_but_not_longer() {
    let long = format!("FROM a\nRUN {}\nUSER b\n", "x".repeat(MAX_LINE_BYTES - 4));
    assert_eq!(instructions(&long), 3);
    let longer = format!("FROM a\n\nRUN {}\nUSER b\n", "x".repeat(MAX_LINE_BYTES - 3));
    let problems = parse(longer.as_bytes()).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].message, "dockerfile line greater than max allowed size of 1048576");
    assert_eq!(LineIndex::new(longer.as_bytes()).line_col(problems[0].span.start), (3, 1));
    let joined = format!("FROM a\nRUN {}\n", "x \\\n".repeat(MAX_LINE_BYTES));
    assert_eq!(message(&joined), "dockerfile line greater than max allowed size of 1048576");
    let comment = format!("# {}\nFROM a\n", "x".repeat(2 * MAX_LINE_BYTES));
    assert!(message(&comment).starts_with("dockerfile line greater"));
}

#[test]
fn there_may_be_many_instructions_but_not_more() {
    let most = format!("FROM a\n{}", "USER b\n".repeat(MAX_INSTRUCTIONS - 1));
    assert_eq!(instructions(&most), MAX_INSTRUCTIONS);
    assert_eq!(message(&format!("{most}USER c\n")), "the Dockerfile has more than 10000 instructions");
}

#[test]
fn there_may_be_many_words_but_not_more() {
    let pairs = format!("ENV a=b{}\n", " a=b".repeat(100_000));
    assert_eq!(instructions(&format!("FROM a\n{pairs}{pairs}")), 3);
    assert_eq!(
        message(&format!("FROM a\n{pairs}{pairs}{pairs}")),
        "the Dockerfile has more than 250000 words"
    );
    let array = format!("CMD [\"a\"{}]\n", ",\"a\"".repeat(200_000));
    assert_eq!(message(&format!("FROM a\n{array}{array}")), "the Dockerfile has more than 250000 words");
    assert_eq!(
        instructions(&format!("FROM a\n{}", format!("RUN {}\n", "a ".repeat(100_000)).repeat(10))),
        11
    );
}

#[test]
fn problems_are_told_up_to_a_bound() {
    let text = format!("FROM a\n{}", "NOPE\n".repeat(5_000));
    assert_eq!(parse(text.as_bytes()).unwrap_err().len(), MAX_PROBLEMS);
}

#[test]
fn a_million_lines_of_nothing() {
    for line in ["# comment\n", "\n", "   \n", "#\n"] {
        assert_eq!(instructions(&format!("{}FROM a\n", line.repeat(1_000_000))), 1);
    }
    for line in ["\\\n", " \\\n", "# comment\n", "\n"] {
        assert_eq!(instructions(&format!("FROM a\nRUN b \\\n{} c\n", line.repeat(500_000))), 2);
    }
}

#[test]
fn long_lines_of_every_kind() {
    let unit = |unit: &str| unit.repeat(MEBIBYTE / 4 / unit.len());
    for (start, repeated) in [
        ("ENV a=b", " c=d"),
        ("ENV a=b", " \"=\"=="),
        ("ENV a=", "\"x\"'y'"),
        ("ENV a=\"", "\\\\"),
        ("ENV a ", "\"'"),
        ("LABEL a=b", " 'c'=\"d\""),
        ("ARG a", " b"),
        ("RUN a", " <<\"b"),
        ("RUN a", " <b"),
        ("RUN --mount=target=/x a", " --mount=b"),
        ("RUN --mount=target=/x,id=", "y "),
        ("RUN [\"a\"", ",\"b\\u0061\""),
        ("COPY a", " b"),
        ("COPY", " a<<b"),
        ("CMD ", "["),
        ("CMD [\"a\", ", "{\"a\":"),
        ("EXPOSE 80", " 81"),
        ("VOLUME a", " \u{e9}"),
        ("FROM b AS c\nUSER d", "\t\u{b}"),
    ] {
        let text = format!("FROM a\n{start}{}\n", unit(repeated));
        assert!(parse(text.as_bytes()).is_ok(), "{start} {repeated}");
    }
    for (start, repeated) in [
        ("RUN", " --mount=target=/x,typ=a"),
        ("RUN", " --nope"),
        ("ENV a=b", " c"),
        ("ENV", " =c"),
        ("", "x"),
        ("FROM", " a"),
        ("HEALTHCHECK ", "NONE"),
        ("ONBUILD ", "ONBUILD "),
        ("RUN --mount=", "a,"),
        ("COPY --from=", "\\\""),
    ] {
        let text = format!("FROM a\n{start}{}\n", unit(repeated));
        assert!(parse(text.as_bytes()).is_err(), "{start} {repeated}");
    }
}

#[test]
fn heredocs_by_the_thousand() {
    let words: String = (0..5_000).map(|n| format!(" <<E{n}")).collect();
    let bodies: String = (0..5_000).map(|n| format!("line of {n}\nE{n}\n")).collect();
    let parsed = parse(format!("FROM a\nRUN cat{words}\n{bodies}").as_bytes()).unwrap();
    let Kind::Run(run) = &parsed.dockerfile.stages[0].instructions[0].kind else { panic!("no RUN") };
    assert_eq!(run.heredocs.len(), 5_000);
    assert_eq!(run.heredocs[4_999].content, "line of 4999\n");
    let cut = bodies.strip_suffix("E4999\n").unwrap();
    assert_eq!(message(&format!("FROM a\nRUN cat{words}\n{cut}")), "unterminated heredoc");
    // Every line looks like the end of the body but for its last letter.
    let nearly = "EO\n".repeat(1_000_000);
    assert_eq!(instructions(&format!("FROM a\nRUN <<EOF\n{nearly}EOF\n")), 2);
    assert_eq!(message(&format!("FROM a\n{}", "RUN <<EOF\n".repeat(9_000))), "unterminated heredoc");
}

#[test]
fn heredoc_bodies_are_not_lines_of_the_dockerfile() {
    let body = "x".repeat(10 * MEBIBYTE);
    assert_eq!(instructions(&format!("FROM a\nCOPY <<E /x\n{body}\nE\n")), 2);
}

#[test]
fn an_expansion_bomb_ends_at_the_bound() {
    let expander = Expander { escape: '\\' };
    let mut scope = vec![("A".to_owned(), "xxxxxxxx".to_owned())];
    let mut rounds = 0;
    let error = loop {
        match expander.word("$A$A", &scope) {
            Ok(twice) => scope[0].1 = twice.text,
            Err(error) => break error,
        }
        rounds += 1;
    };
    assert_eq!(rounds, 17, "8 bytes doubled 17 times are 1 MiB");
    assert_eq!(error.to_string(), "expanded to more than 1048576 bytes");
    assert_eq!(scope[0].1.len(), MAX_EXPANSION_BYTES);
    for word in ["${A:+$A}", "\"$A\"", "${B:-$A}", "${A#y}", "${A%%*y}", "${A/y/z}", "$A"] {
        assert!(expander.word(word, &scope).is_ok(), "{word}");
    }
    for word in ["${A}x", "\"$A$A\"", "${B:-$A$A}", "${A//x/yy}", "${A:+$A}$A", "$A${B:-$A}"] {
        assert!(expander.word(word, &scope).is_err(), "{word}");
    }
    let many = "$A${B:-".repeat(50_000);
    assert_eq!(expander.word(&many, &scope).unwrap_err().to_string(), "expanded to more than 1048576 bytes");
}

#[test]
fn nesting_ends_at_the_bound() {
    let expander = Expander { escape: '\\' };
    let scope: Vec<(String, String)> = Vec::new();
    let nested = |depth: usize| format!("{}x{}", "${A:-".repeat(depth), "}".repeat(depth));
    assert_eq!(expander.word(&nested(100), &scope).unwrap().text, "x");
    for word in [nested(101), nested(50_000), "${A:-".repeat(50_000), "${A##${B%%".repeat(50_000)] {
        let error = expander.word(&word, &scope).unwrap_err();
        assert_eq!(error.to_string(), "substitutions are nested more than 100 deep");
        let _ = expander.raw(&word, &scope);
        assert_eq!(expander.keep_unset(&word, &scope), word);
    }
}

#[test]
fn patterns_of_substitutions_do_not_explode() {
    let expander = Expander { escape: '\\' };
    let scope = vec![("A".to_owned(), "a".repeat(100_000))];
    let stars = "*a".repeat(200);
    for word in [format!("${{A##{stars}b}}"), format!("${{A%%b{stars}}}"), format!("${{A//{stars}b/x}}")] {
        assert_eq!(expander.word(&word, &scope).unwrap().text, scope[0].1);
    }
    let error = expander.word(&format!("${{A##{}}}", "*a".repeat(5_000)), &scope).unwrap_err().to_string();
    assert!(error.ends_with("the pattern and the value are too long"), "{error}");
}

#[test]
fn ignore_patterns_do_not_explode() {
    let deep = format!("{}c", "**/*/".repeat(300));
    let patterns = IgnorePatterns::parse(deep.as_bytes()).unwrap();
    let path = "a/".repeat(2_000);
    assert!(!patterns.excludes(path.as_bytes()));
    assert!(patterns.excludes(format!("{path}c").as_bytes()));
    let stars = IgnorePatterns::parse("*a".repeat(2_000).as_bytes()).unwrap();
    assert!(!stars.excludes(&[b'a'; 1_999]));
    let any = IgnorePatterns::parse("*".repeat(100_000).as_bytes()).unwrap();
    assert!(any.excludes(b"a/b/c"));
    let any = IgnorePatterns::parse(format!("{}x", "**/".repeat(30_000)).as_bytes()).unwrap();
    assert!(any.excludes(b"a/b/x") && !any.excludes(b"a/b"));
    for bad in ["a**b**c**d**e**f**g".to_owned(), "x**y/".repeat(20) + "z", "[".repeat(100_000)] {
        assert!(IgnorePatterns::parse(bad.as_bytes()).is_err());
    }
}

#[test]
fn many_patterns_meet_many_files() {
    let list: String = (0..100_000).map(|n| format!("dir{n}/file\n")).collect();
    let patterns = IgnorePatterns::parse(list.as_bytes()).unwrap();
    let root = patterns.walker();
    let excluded = (0..100_000).filter(|n| {
        let entry = root.entry(format!("dir{}", n % 50).as_bytes());
        entry.directory().entry(b"file").excluded
    });
    assert_eq!(excluded.count(), 100_000);
}

#[test]
fn globs_do_not_explode() {
    let glob = Glob::new(&"*a?".repeat(2_000)).unwrap();
    assert!(!glob.matches(&b"a".repeat(3_999)));
    assert!(glob.matches(&b"a".repeat(20_000)));
}
