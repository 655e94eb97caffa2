//! What holds for any input: nothing panics, spans lie in the text, no instruction is lost, and the matchers say what
//! a slow and simple one says.

use forge_parser::{Expander, Glob, IgnorePatterns, LineIndex, Span, parse, parse_trigger};
use proptest::prelude::*;

/// Pieces that Dockerfiles are made of, in any order.
const PIECES: &[&str] = &[
    "FROM a\n",
    "FROM a AS b\n",
    "RUN ",
    "COPY ",
    "ADD ",
    "ENV ",
    "LABEL ",
    "ARG ",
    "CMD ",
    "ENTRYPOINT ",
    "EXPOSE ",
    "VOLUME ",
    "USER ",
    "WORKDIR ",
    "SHELL ",
    "STOPSIGNAL ",
    "HEALTHCHECK ",
    "ONBUILD ",
    "MAINTAINER ",
    "NONE",
    "\n",
    "\n\n",
    "\r\n",
    " ",
    "\t",
    "\\\n",
    "`\n",
    "\\",
    "`",
    "#",
    "# escape=`\n",
    "# syntax=x\n",
    "# check=skip=all\n",
    "--mount=type=cache,target=/x",
    "--from=b",
    "--link",
    "--",
    "--x=\"y",
    "=",
    "a=b",
    "\"",
    "'",
    "[",
    "]",
    "[\"a\"]",
    ",",
    "<<EOF",
    "<<-'E'",
    "EOF\n",
    "E\n",
    "$",
    "${",
    "}",
    "$x",
    ":-",
    "/",
    ".",
    "é",
    "\u{a0}",
    "\u{feff}",
    "\0",
    "0",
    "a",
    "word",
];

fn soup(pieces: &'static [&'static str], most: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(pieces), 0..most).prop_map(|pieces| pieces.concat())
}

/// Instructions that are right, each with whatever may stand around and within it.
const LINES: &[&str] = &[
    "FROM a\n",
    "FROM a AS b\n",
    "from scratch\n",
    "RUN a b\n",
    "RUN a \\\n  b\n",
    "RUN a \\\n# c\n\n  # d \\\n  b\n",
    "RUN a \\\\\n",
    "RUN <<EOF\nFROM x\n# y\n\nEOF\n",
    "RUN cat <<A <<-\"B\"\nA\n\tRUN x\n\tB\n",
    "RUN [\"<<EOF\"]\n",
    "RUN echo \"<<EOF\"\n",
    "COPY <<x.txt /y\nCOPY a b\nx.txt\n",
    "COPY a b\n",
    "ADD --link a \\\n b\n",
    "ENV a=b \\\n c=d\n",
    "ENV a b\n",
    "CMD [\"a\", \\\n\"b\"]\n",
    "ONBUILD RUN <<EOF\nRUN y\nEOF\n",
    "ONBUILD USER a\n",
    "USER a\n",
    "HEALTHCHECK NONE\n",
    "EXPOSE 80\n",
    "\n",
    "  \n",
    "# RUN comment\n",
    "   # RUN comment \\\n",
    "\tARG x\n",
    "LABEL a=<<EOF\n",
];

/// Instructions by counting lines, knowing as little as possible.
fn count_naively(text: &str) -> usize {
    let mut lines = text.lines();
    let mut count = 0;
    while let Some(line) = lines.next() {
        if line.trim().is_empty() || line.trim().starts_with('#') {
            continue;
        }
        count += 1;
        let mut whole = line.trim().to_owned();
        let mut last = line;
        while last.ends_with('\\') && !last.ends_with("\\\\") {
            let Some(next) = lines.next() else { break };
            if !next.trim().is_empty() && !next.trim().starts_with('#') {
                whole.push_str(next);
                last = next;
            }
        }
        let words: Vec<&str> = whole.split_whitespace().filter(|word| *word != "ONBUILD").collect();
        if !["RUN", "COPY", "ADD"].contains(&words[0])
            || words.get(1).is_some_and(|word| word.starts_with('['))
        {
            continue;
        }
        for name in words.iter().filter_map(|word| word.strip_prefix("<<")) {
            let end = name.trim_start_matches('-').trim_matches('"');
            lines.find(|line| line.trim_start_matches('\t') == end);
        }
    }
    count
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_can_be_parsed(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        judge(&bytes)?;
    }

    #[test]
    fn any_pieces_can_be_parsed(text in soup(PIECES, 60)) {
        judge(text.as_bytes())?;
        let _ = parse_trigger(&text, '`');
    }

    #[test]
    fn pieces_behind_a_from_can_be_parsed(text in soup(PIECES, 30)) {
        judge(format!("FROM a\nRUN {text}").as_bytes())?;
        judge(format!("FROM a\nENV {text}").as_bytes())?;
        judge(format!("FROM a\nCOPY {text}").as_bytes())?;
    }

    #[test]
    fn no_instruction_is_lost(text in soup(LINES, 40)) {
        let text = format!("FROM base\n{text}");
        let parsed = parse(text.as_bytes()).map_err(|problems| TestCaseError::fail(format!("{problems:?}")))?;
        let stages = &parsed.dockerfile.stages;
        let parsed: usize = stages.iter().map(|stage| 1 + stage.instructions.len()).sum();
        prop_assert_eq!(parsed, count_naively(&text));
        let spans: Vec<Span> = stages
            .iter()
            .flat_map(|stage| std::iter::once(stage.span).chain(stage.instructions.iter().map(|one| one.span)))
            .collect();
        prop_assert!(spans.windows(2).all(|pair| pair[0].end <= pair[1].start), "spans overlap");
        for stage in stages {
            for one in &stage.instructions {
                prop_assert!(text[one.span.range()].starts_with(one.source.split(' ').next().unwrap()));
            }
        }
    }

    #[test]
    fn any_word_can_be_expanded(
        word in soup(&["$", "${", "}", ":", "-", "+", "?", "#", "%", "/", "*", "\\", "`", "'", "\"", "a", "x", " ", "é", "0"], 40),
        value in "[a\\\\*? ]{0,8}",
    ) {
        let scope = vec![("a".to_owned(), value)];
        for escape in ['\\', '`'] {
            let expander = Expander { escape };
            let _ = expander.word(&word, &scope);
            let _ = expander.words(&word, &scope);
            let _ = expander.raw(&word, &scope);
            let _ = expander.keep_unset(&word, &scope);
        }
    }

    #[test]
    fn prefixes_and_suffixes_are_the_shortest_and_longest(
        value in "[abc]{0,8}", pattern in soup(&["a", "b", "c", "*", "?"], 6),
    ) {
        let expand = |word: &str| {
            let scope = vec![("v".to_owned(), value.clone())];
            Expander { escape: '\\' }.word(word, &scope).unwrap().text
        };
        let matches = |part: &str| wild(&pattern.chars().collect::<Vec<_>>(), &part.chars().collect::<Vec<_>>());
        let mut starts = (0..=value.len()).filter(|at| matches(&value[..*at]));
        let shortest = starts.next().unwrap_or(0);
        prop_assert_eq!(expand(&format!("${{v#{pattern}}}")), &value[shortest..]);
        prop_assert_eq!(expand(&format!("${{v##{pattern}}}")), &value[starts.next_back().unwrap_or(shortest)..]);
        let mut ends = (0..=value.len()).rev().filter(|at| matches(&value[*at..]));
        let shortest = ends.next().unwrap_or(value.len());
        prop_assert_eq!(expand(&format!("${{v%{pattern}}}")), &value[..shortest]);
        prop_assert_eq!(expand(&format!("${{v%%{pattern}}}")), &value[..ends.next_back().unwrap_or(shortest)]);
    }

    #[test]
    fn any_bytes_can_be_an_ignore_file(file in prop::collection::vec(any::<u8>(), 0..200), path in "[a-c/*.]{0,12}") {
        let _ = IgnorePatterns::parse(&file).map(|patterns| patterns.excludes(path.as_bytes()));
    }

    #[test]
    fn globs_match_as_a_simple_matcher_does(
        pattern in soup(&["a", "b", "*", "?", "é"], 10), name in "[abé]{0,10}",
    ) {
        let wanted = wild(&pattern.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>());
        prop_assert_eq!(Glob::new(&pattern).unwrap().matches(name.as_bytes()), wanted);
    }

    #[test]
    fn patterns_exclude_as_a_simple_matcher_does(
        lines in prop::collection::vec((any::<bool>(), soup(&["a", "b", "/", "*", "**", "?", "**/", "/**"], 7)), 1..5),
        path in "[ab]{1,2}(/[ab]{1,2}){0,3}",
    ) {
        let lines: Vec<(bool, String)> = lines
            .into_iter()
            .map(|(negated, pattern)| (negated, cleaned(&pattern)))
            // Patterns that are all slashes or have more inner stars than anybody writes are another matter.
            .filter(|(_, pattern)| !pattern.is_empty() && pattern.matches("**").count() <= 3)
            .collect();
        let file: String =
            lines.iter().map(|(negated, pattern)| format!("{}{pattern}\n", if *negated { "!" } else { "" })).collect();
        let patterns = IgnorePatterns::parse(file.as_bytes()).unwrap();
        let mut excluded = false;
        for (negated, pattern) in &lines {
            let parts: Vec<&str> = path.split('/').collect();
            let hit = (1..=parts.len()).any(|upto| slow_path_match(pattern, &parts[..upto].join("/")));
            if hit {
                excluded = !negated;
            }
        }
        prop_assert_eq!(patterns.excludes(path.as_bytes()), excluded, "{:?}", file);
    }
}

/// Parses, and checks that whatever comes of it lies within the text.
fn judge(text: &[u8]) -> Result<(), TestCaseError> {
    let lines = LineIndex::new(text);
    let inside = |span: Span| span.start <= span.end && span.end <= text.len();
    match parse(text) {
        Ok(parsed) => {
            for warning in &parsed.warnings {
                prop_assert!(inside(warning.span), "{:?}", warning);
            }
            let _ = forge_parser::dump(&parsed.dockerfile);
            let _ = forge_parser::outline(&parsed.dockerfile, None);
        }
        Err(problems) => {
            prop_assert!(!problems.is_empty());
            for problem in &problems {
                prop_assert!(inside(problem.span), "{:?}", problem);
                let (line, column) = lines.line_col(problem.span.start);
                prop_assert!(line >= 1 && column >= 1 && line <= lines.line_count() + 1);
            }
        }
    }
    Ok(())
}

/// `*` and `?` by trying everything.
fn wild(pattern: &[char], name: &[char]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some(('*', rest)) => (0..=name.len()).any(|skip| wild(rest, &name[skip..])),
        Some(('?', rest)) => !name.is_empty() && wild(rest, &name[1..]),
        Some((letter, rest)) => name.first() == Some(letter) && wild(rest, &name[1..]),
    }
}

/// The path without empty components.
fn cleaned(pattern: &str) -> String {
    pattern.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

/// What a cleaned pattern's regular expression says in the reference's pattern matcher.
fn slow_path_match(pattern: &str, path: &str) -> bool {
    if let Some(suffix) = pattern.strip_prefix("**")
        && !suffix.contains(['*', '?'])
    {
        return path.ends_with(suffix)
            || suffix.strip_prefix('/').is_some_and(|rest| !rest.is_empty() && path == rest);
    }
    slow(pattern, path)
}

fn slow(pattern: &str, path: &str) -> bool {
    if let Some(rest) = pattern.strip_prefix("**") {
        let rest = rest.strip_prefix('/').unwrap_or(rest);
        let behind_slash = |(at, _): (usize, &str)| slow(rest, &path[at + 1..]);
        return rest.is_empty() || slow(rest, path) || path.match_indices('/').any(behind_slash);
    }
    match pattern.split_at_checked(1) {
        None => path.is_empty(),
        Some(("*", rest)) => {
            let within = path.find('/').unwrap_or(path.len());
            (0..=within).any(|skip| slow(rest, &path[skip..]))
        }
        Some(("?", rest)) => !path.is_empty() && !path.starts_with('/') && slow(rest, &path[1..]),
        Some((letter, rest)) => path.strip_prefix(letter).is_some_and(|path| slow(rest, path)),
    }
}
