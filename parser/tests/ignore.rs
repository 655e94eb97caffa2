//! What ignore patterns exclude: one row for each rule of the grammar.

use forge_parser::IgnorePatterns;

/// An ignore file, a path, and whether it is excluded.
const ROWS: &[(&str, &str, bool)] = &[
    // Names and paths, anchored at the root.
    ("", "a", false),
    ("a", "a", true),
    ("a", "b", false),
    ("a", "b/a", false),
    ("a", "ab", false),
    ("a", "a/b", true),
    ("a", "a/b/c/d", true),
    ("a/b", "a/b", true),
    ("a/b", "a", false),
    ("a/b", "a/b/c", true),
    ("a/b", "a/c", false),
    ("a/b", "x/a/b", false),
    ("a b", "a b", true),
    ("A", "a", false),
    ("日本", "日本", true),
    // Slashes at either end, dots, and what they clean to.
    ("/a", "a", true),
    ("a/", "a", true),
    ("a/", "a/b", true),
    ("/a/", "a", true),
    ("./a", "a", true),
    ("a/./b", "a/b", true),
    ("a//b", "a/b", true),
    ("a/../b", "b", true),
    ("a/../b", "a", false),
    ("a/b/..", "a/c", true),
    ("../a", "a", false),
    ("..", "a", false),
    (".", "a", false),
    ("./", "a", false),
    ("/", "a", false),
    ("//a", "a", true),
    ("/..", "a", false),
    ("/../a", "a", true),
    // Comments and blanks.
    ("# a\na", "a", true),
    ("#a", "#a", false),
    (" #a", "#a", true),
    ("\\#a", "#a", true),
    ("  a  ", "a", true),
    ("\ta\t", "a", true),
    ("\n\n  \na\n", "a", true),
    ("a\r\nb\r\n", "b", true),
    ("a # b", "a # b", true),
    ("a # b", "a", false),
    ("\u{FEFF}a", "a", true),
    ("\u{FEFF}# x\na", "a", true),
    // `*` and `?` stay within a name.
    ("*", "a", true),
    ("*", "a/b", true),
    ("*", ".a", true),
    ("*.md", "a.md", true),
    ("*.md", ".md", true),
    ("*.md", "a.mdx", false),
    ("*.md", "a/b.md", false),
    ("*/*.md", "a/b.md", true),
    ("*/*.md", "b.md", false),
    ("*/*.md", "a/b/c.md", false),
    ("*/b", "a/b", true),
    ("*/b", "b", false),
    ("*/b", "a/b/c", true),
    ("a*", "a", true),
    ("a*", "abc/d", true),
    ("a*c", "abbc", true),
    ("a*c", "ab/c", false),
    ("a?c", "abc", true),
    ("a?c", "ac", false),
    ("a?c", "a/c", false),
    ("a?c", "aéc", true),
    ("?", "a", true),
    ("?", "ab", false),
    ("temp?", "temp1/x", true),
    ("*a*b*", "xaybz", true),
    ("a.b", "axb", false),
    ("a+b(c)", "a+b(c)", true),
    ("a{b,c}", "ab", false),
    ("^a$", "^a$", true),
    ("a|b", "a", false),
    // Classes and escapes.
    ("[abc]", "b", true),
    ("[abc]", "d", false),
    ("[a-c]x", "bx", true),
    ("[^a]", "b", true),
    ("[^a]", "a", false),
    ("[^a-c]", "d", true),
    ("[a-]", "syntax", false),
    ("[\\]]", "]", true),
    ("[\\-]", "-", true),
    ("a[b]c", "abc", true),
    ("\\*", "*", true),
    ("\\*", "a", false),
    ("\\?", "?", true),
    ("\\[a]", "[a]", true),
    ("a\\b", "ab", true),
    ("\\!a", "!a", true),
    ("\\\\", "\\", true),
    // `**` is any number of directories.
    ("**", "a", true),
    ("**", "a/b/c", true),
    ("**/a", "a", true),
    ("**/a", "b/a", true),
    ("**/a", "b/c/a", true),
    ("**/a", "b/a/c", true),
    ("**/a", "ba", false),
    ("**/a", "b/ab", false),
    ("**/*.go", "a.go", true),
    ("**/*.go", "b/c/a.go", true),
    ("**/*.go", "a.gox", false),
    ("**/a/b", "a/b", true),
    ("**/a/b", "x/y/a/b", true),
    ("**/a/b", "a/x/b", false),
    ("a/**", "a", false),
    ("a/**", "a/b", true),
    ("a/**", "a/b/c", true),
    ("a/**", "ab", false),
    ("a/**/b", "a/b", true),
    ("a/**/b", "a/x/b", true),
    ("a/**/b", "a/x/y/b", true),
    ("a/**/b", "a/x/y/c", false),
    ("a/**/b", "b", false),
    ("a/**/*.txt", "a/b.txt", true),
    ("a/**/*.txt", "a/b/c/d.txt", true),
    ("**/", "a", true),
    ("**/**", "a/b", true),
    ("**/**/a", "x/a", true),
    ("a/**/**/b", "a/x/b", true),
    ("**/a/**/b", "x/a/y/z/b", true),
    ("**/a/**/b", "a/b", true),
    ("**/a/**/b", "b/a", false),
    ("/**/a", "x/a", true),
    // `**` that touches a name.
    ("**.go", "a.go", true),
    ("**.go", "b/c/a.go", true),
    ("**.go", ".go", true),
    ("**a", "xa", true),
    ("**a", "b/xa", true),
    ("**a/b", "x/ya/b", true),
    ("a**", "abc", true),
    ("a**", "abc/d", true),
    ("a**", "ba", false),
    ("a**b", "ab", true),
    ("a**b", "ax/b", true),
    ("a**b", "ax/y/b", true),
    ("a**b", "axb", false),
    ("a**/b", "a/b", true),
    ("a**/b", "ab", true),
    ("a**/b", "axb", false),
    ("a**/**/b", "ax/y/z/b", true),
    ("x/a**/b", "x/a/b", true),
    ("a**/b", "ax/y/b", true),
    ("**?", "b/a", true),
    // Negation: the last that matches wins.
    ("*\n!a", "a", false),
    ("*\n!a", "b", true),
    ("!a\n*", "a", true),
    ("*.md\n!README.md", "README.md", false),
    ("*.md\n!README.md", "x.md", true),
    ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", true),
    ("*.md\n!README*.md\nREADME-secret.md", "README.md", false),
    ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", false),
    ("a\n!a/b", "a/b", false),
    ("a\n!a/b", "a/b/c", false),
    ("a\n!a/b", "a/c", true),
    ("a\n!a/b\na/b/c", "a/b/c", true),
    ("a\n!a/b\na/b/c", "a/b/d", false),
    ("a/*\n!a/b", "a", false),
    ("a/**\n!a/**/keep", "a/x/y/keep", false),
    ("a/**\n!a/**/keep", "a/x/y/lose", true),
    ("**\n!**/*.go", "x/y.go", false),
    ("**\n!**/*.go", "x/y.c", true),
    ("!a", "a", false),
    ("a\n!a", "a/b", false),
    ("a\n! a", "a", false),
    ("a\n!/a", "a", false),
    ("a\n!./a/", "a", false),
    ("!!a\nb", "!a", false),
    ("*\n!!a", "!a", false),
    ("*\n!!a", "a", true),
    ("a/b\n!a", "a/b", false),
    ("*\n!..", "a", true),
];

/// Files that are no list of patterns, and what is said of them.
const ERRORS: &[(&str, &str)] = &[
    ("!", "illegal exclusion pattern: \"!\" (line 1)"),
    ("a\n!  \n", "illegal exclusion pattern: \"!\" (line 2)"),
    ("[", "syntax error in pattern: \"[\" (line 1)"),
    ("a\n\n[]a]", "syntax error in pattern: \"[]a]\" (line 3)"),
    ("a[", "syntax error in pattern: \"a[\" (line 1)"),
    ("[^", "syntax error in pattern: \"[^\" (line 1)"),
    ("[a-", "syntax error in pattern: \"[a-\" (line 1)"),
    ("[-x]", "syntax error in pattern: \"[-x]\" (line 1)"),
    ("a\\", "syntax error in pattern: \"a\\\\\" (line 1)"),
    ("!a[", "syntax error in pattern: \"a[\" (line 1)"),
];

#[test]
fn patterns_exclude_what_they_should() {
    let mut wrong = Vec::new();
    for (file, path, wanted) in ROWS {
        // A row whose pattern is refused is among the errors; here it excludes nothing.
        let excluded =
            IgnorePatterns::parse(file.as_bytes()).is_ok_and(|patterns| patterns.excludes(path.as_bytes()));
        if excluded != *wanted {
            wrong.push(format!("{file:?} {path:?}: wanted {wanted}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(ROWS.len() + ERRORS.len() >= 140, "only {} rows", ROWS.len() + ERRORS.len());
}

#[test]
fn what_is_no_pattern_is_refused() {
    for (file, wanted) in ERRORS {
        assert_eq!(IgnorePatterns::parse(file.as_bytes()).unwrap_err().to_string(), *wanted);
        // A second look is refused as the first was.
        assert!(IgnorePatterns::parse(file.as_bytes()).is_err());
    }
    assert!(IgnorePatterns::parse(b"a\n\xFF").is_err());
    assert!(IgnorePatterns::parse(b"# \xFF\na").is_ok(), "comments may hold anything");
}

#[test]
fn a_walk_says_what_single_paths_say() {
    for (file, path, _) in ROWS {
        let Ok(patterns) = IgnorePatterns::parse(file.as_bytes()) else { continue };
        let mut directory = patterns.walker();
        let mut reached = true;
        let mut excluded = false;
        for name in path.split('/') {
            let entry = directory.entry(name.as_bytes());
            // Whatever is not descended into is excluded as a whole.
            excluded = if reached { entry.excluded } else { true };
            reached &= entry.descend;
            directory = entry.directory();
        }
        assert_eq!(excluded, patterns.excludes(path.as_bytes()), "{file:?} {path:?}");
    }
}

#[test]
fn excluded_directories_are_entered_only_for_what_may_come_back() {
    for (file, directory, wanted) in [
        ("node_modules", "node_modules", false),
        ("node_modules\n!src", "node_modules", false),
        ("node_modules\n!node_modules/keep", "node_modules", true),
        ("!a/b\na", "a", false),
        ("a\n!**/keep", "a", true),
        ("a\n!a/*/keep", "a", true),
        ("*\n!b/c", "a", false),
        ("*\n!b/c", "b", true),
        ("a\n!a/b\na", "a", false),
        ("b", "a", true),
    ] {
        let patterns = IgnorePatterns::parse(file.as_bytes()).unwrap();
        assert_eq!(patterns.walker().entry(directory.as_bytes()).descend, wanted, "{file:?} {directory}");
    }
}

#[test]
fn lists_for_exclude_have_no_comments() {
    let list = ["#a".to_owned(), " *.txt ".to_owned(), "!b.txt".to_owned(), String::new()];
    let patterns = IgnorePatterns::from_patterns(&list).unwrap();
    assert!(patterns.excludes(b"#a") && patterns.excludes(b"a.txt") && !patterns.excludes(b"b.txt"));
    assert!(patterns.has_negations() && !patterns.is_empty());
    assert!(IgnorePatterns::from_patterns(&["!".to_owned()]).is_err());
    assert!(IgnorePatterns::parse(b"# nothing\n\n").unwrap().is_empty());
}

#[test]
fn names_that_are_no_text_are_matched_too() {
    let patterns = IgnorePatterns::parse(b"a*\n?.txt\n").unwrap();
    assert!(patterns.excludes(b"a\xFF/b"));
    assert!(patterns.excludes(b"\xFF.txt"));
    assert!(!patterns.excludes(b"\xFF\xFF.txt"));
    assert!(!patterns.excludes(b"") && !patterns.excludes(b"."));
}

/// Every folder of `testdata/ignore` holds an ignore file and paths, `+` what stays and `-` what is excluded.
#[test]
fn whole_files_exclude_what_was_written_down() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/ignore");
    let mut paths = 0;
    for case in std::fs::read_dir(folder).unwrap() {
        let case = case.unwrap().path();
        let patterns = IgnorePatterns::parse(&std::fs::read(case.join("dockerignore")).unwrap()).unwrap();
        for line in std::fs::read_to_string(case.join("paths.txt")).unwrap().lines() {
            let (sign, path) = line.split_once(' ').unwrap();
            assert_eq!(patterns.excludes(path.as_bytes()), sign == "-", "{} {path}", case.display());
            paths += 1;
        }
    }
    assert!(paths >= 40, "only {paths} paths");
}
