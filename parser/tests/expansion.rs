//! What words become: one row for each rule of the shell's quoting and of `${…}`.

use forge_parser::{Expander, Scope};
use std::collections::HashMap;

/// The variables that all rows see. `EMPTY` is set to nothing; `UNSET` and all others are not set.
fn scope() -> HashMap<String, String> {
    let pairs = [
        ("PWD", "/home"),
        ("A", "aValue"),
        ("EMPTY", ""),
        ("SPACES", "one  two three"),
        ("PATHS", "/usr/local/bin/tool.tar.gz"),
        ("V", "1.2.3"),
        ("QUOTES", "it's \"so\""),
        ("DOLLAR", "$A"),
        ("ESC", "a\\b"),
        ("STAR", "a*b"),
        ("LINES", "one\ntwo"),
        ("UNI", "äöü日本"),
        ("REPEAT", "abcabcabc"),
        ("NAME_1", "n1"),
        ("_", "underscore"),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

const BACKSLASH: Expander = Expander { escape: '\\' };
const BACKQUOTE: Expander = Expander { escape: '`' };

const OK: &str = "=";
const ERROR: &str = "!";

/// Input, whether it can be expanded, and the result or the error.
const WORDS: &[(&str, &str, &str)] = &[
    // Plain text.
    ("", OK, ""),
    ("hello", OK, "hello"),
    (" two  words ", OK, " two  words "),
    ("a#b # c", OK, "a#b # c"),
    ("日本 é", OK, "日本 é"),
    ("{}}{", OK, "{}}{"),
    ("a=b;c|d&(e)<f>", OK, "a=b;c|d&(e)<f>"),
    ("~*?[x]", OK, "~*?[x]"),
    ("a\tb\nc", OK, "a\tb\nc"),
    // Escapes outside quotes remove themselves.
    ("he\\llo", OK, "hello"),
    ("he\\\\llo", OK, "he\\llo"),
    ("\\$A", OK, "$A"),
    ("\\\\$A", OK, "\\aValue"),
    ("\\\\\\$A", OK, "\\$A"),
    ("\\'a\\'", OK, "'a'"),
    ("\\\"a\\\"", OK, "\"a\""),
    ("a\\ b", OK, "a b"),
    ("a\\", OK, "a"),
    ("\\", OK, ""),
    ("a\\\\", OK, "a\\"),
    ("\\n\\t", OK, "nt"),
    ("a`b", OK, "a`b"),
    // Single quotes take everything.
    ("'hello'", OK, "hello"),
    ("'he$A'", OK, "he$A"),
    ("'he\\llo'", OK, "he\\llo"),
    ("'he\"llo'", OK, "he\"llo"),
    ("'${A'", OK, "${A"),
    ("''", OK, ""),
    ("a'b'c", OK, "abc"),
    ("'a''b'", OK, "ab"),
    ("'a", ERROR, "unexpected end of statement while looking for matching single-quote"),
    ("a'", ERROR, "unexpected end of statement while looking for matching single-quote"),
    ("'a\\'", OK, "a\\"),
    ("'a\\''", ERROR, "unexpected end of statement while looking for matching single-quote"),
    // Double quotes: `$` lives, and the escape works only before what it could mean.
    ("\"hello\"", OK, "hello"),
    ("\"he$A\"", OK, "heaValue"),
    ("\"he'llo'\"", OK, "he'llo'"),
    ("\"'$A'\"", OK, "'aValue'"),
    ("\"a\\\"b\"", OK, "a\"b"),
    ("\"a\\$A\"", OK, "a$A"),
    ("\"a\\\\b\"", OK, "a\\b"),
    ("\"a\\nb\"", OK, "a\\nb"),
    ("\"a\\'b\"", OK, "a\\'b"),
    ("\"a\\`b\"", OK, "a\\`b"),
    ("\"\"", OK, ""),
    ("a\"b\"'c'd", OK, "abcd"),
    ("\"a b\" \"c\"", OK, "a b c"),
    ("\"a", ERROR, "unexpected end of statement while looking for matching double-quote"),
    ("\"a\\\"", ERROR, "unexpected end of statement while looking for matching double-quote"),
    ("\"a\\", ERROR, "unexpected end of statement while looking for matching double-quote"),
    ("\"${A", ERROR, "syntax error: missing '}'"),
    ("\"${A}", ERROR, "unexpected end of statement while looking for matching double-quote"),
    // `$name`
    ("$A", OK, "aValue"),
    ("he$A", OK, "heaValue"),
    ("$A.$V", OK, "aValue.1.2.3"),
    ("$A$V", OK, "aValue1.2.3"),
    ("$AB", OK, ""),
    ("$A-B", OK, "aValue-B"),
    ("$NAME_1x", OK, ""),
    ("$NAME_1-x", OK, "n1-x"),
    ("$_", OK, "underscore"),
    ("$EMPTY", OK, ""),
    ("$UNSET", OK, ""),
    ("a$UNSET.b", OK, "a.b"),
    ("$SPACES", OK, "one  two three"),
    ("$QUOTES", OK, "it's \"so\""),
    ("$DOLLAR", OK, "$A"),
    ("$ESC", OK, "a\\b"),
    ("$LINES", OK, "one\ntwo"),
    ("$UNI", OK, "äöü日本"),
    ("$a", OK, ""),
    // `$` and no name.
    ("$", OK, "$"),
    ("a$", OK, "a$"),
    ("$ A", OK, "$ A"),
    ("$.a", OK, "$.a"),
    ("$%a", OK, "$%a"),
    ("$/a", OK, "$/a"),
    ("$'a'", OK, "$a"),
    ("$\"a\"", OK, "$a"),
    ("\"$\"", OK, "$"),
    ("\"a$ b\"", OK, "a$ b"),
    ("$(ls)", OK, "$(ls)"),
    ("$\\A", OK, "$A"),
    // The shell's own parameters are names, and nothing sets them.
    ("a$$b", OK, "ab"),
    ("$$A", OK, "A"),
    ("a$@b", OK, "ab"),
    ("a$*b", OK, "ab"),
    ("a$#b", OK, "ab"),
    ("a$?b", OK, "ab"),
    ("a$-b", OK, "ab"),
    ("a$!b", OK, "ab"),
    ("a$0b", OK, "ab"),
    ("a$1b", OK, "ab"),
    ("a$12b", OK, "ab"),
    ("${@}x", OK, "x"),
    ("${#}x", OK, "x"),
    ("${12}x", OK, "x"),
    // `${name}`
    ("${A}", OK, "aValue"),
    ("he${A}xx", OK, "heaValuexx"),
    ("${A}${V}", OK, "aValue1.2.3"),
    ("${UNSET}x", OK, "x"),
    ("${EMPTY}x", OK, "x"),
    ("\"${A} b\"", OK, "aValue b"),
    ("'${A}'", OK, "${A}"),
    ("\\${A}", OK, "${A}"),
    ("$\\{A}", OK, "${A}"),
    ("${A}}", OK, "aValue}"),
    ("${_}", OK, "underscore"),
    // What `${` cannot be followed by.
    ("${}", ERROR, "syntax error: bad substitution"),
    ("${:}", ERROR, "syntax error: bad substitution"),
    ("${:-x}", ERROR, "syntax error: bad substitution"),
    ("${{A}}", ERROR, "syntax error: bad substitution"),
    ("${", ERROR, "syntax error: missing '}'"),
    ("${A", ERROR, "syntax error: missing '}'"),
    ("a${A:", ERROR, "syntax error: missing '}'"),
    ("${A:-", ERROR, "syntax error: missing '}'"),
    ("${A:-b", ERROR, "syntax error: missing '}'"),
    ("${A-$B", ERROR, "syntax error: missing '}'"),
    ("${A:-\"b", ERROR, "syntax error: missing '}'"),
    ("${A#x", ERROR, "syntax error: missing '}'"),
    ("${A/x", ERROR, "syntax error: missing '/' in ${}"),
    ("${A/x/y", ERROR, "syntax error: missing '}'"),
    ("${A/x}", ERROR, "syntax error: missing '/' in ${}"),
    ("${ A}", ERROR, "unsupported modifier ( ) in substitution"),
    ("${A }", ERROR, "unsupported modifier ( ) in substitution"),
    ("${A^}", ERROR, "unsupported modifier (^) in substitution"),
    ("${A,,}", ERROR, "unsupported modifier (,) in substitution"),
    ("${A@Q}", ERROR, "unsupported modifier (@) in substitution"),
    ("${A=b}", ERROR, "unsupported modifier (=) in substitution"),
    ("${A:=b}", ERROR, "unsupported modifier (:=) in substitution"),
    ("${A:0:1}", ERROR, "unsupported modifier (:0) in substitution"),
    ("${A:#x}", ERROR, "unsupported modifier (:#) in substitution"),
    ("${A:%x}", ERROR, "unsupported modifier (:%) in substitution"),
    ("${A:}", ERROR, "syntax error: missing '}'"),
    // Defaults.
    ("${UNSET:-b}", OK, "b"),
    ("${UNSET-b}", OK, "b"),
    ("${EMPTY:-b}", OK, "b"),
    ("${EMPTY-b}", OK, ""),
    ("${A:-b}", OK, "aValue"),
    ("${A-b}", OK, "aValue"),
    ("${UNSET:-}", OK, ""),
    ("${UNSET-}", OK, ""),
    ("${UNSET:-b c}", OK, "b c"),
    ("${UNSET:-$A}", OK, "aValue"),
    ("${UNSET:-${A}}", OK, "aValue"),
    ("${UNSET:-${EMPTY:-${A}}}", OK, "aValue"),
    ("${UNSET:-${UNSET2:-c}d}", OK, "cd"),
    ("${UNSET:-'$A }'}", OK, "$A }"),
    ("${UNSET:-\"$A }\"}", OK, "aValue }"),
    ("${UNSET:-a\\}b}", OK, "a}b"),
    ("${UNSET:-\\$A}", OK, "$A"),
    ("${UNSET:-a:b/c}", OK, "a:b/c"),
    ("${UNSET:--1}", OK, "-1"),
    ("${UNSET:-{}", OK, "{"),
    ("\"${UNSET:-b}\"", OK, "b"),
    ("\"${UNSET:-'b'}\"", OK, "b"),
    ("x${UNSET:-b}y", OK, "xby"),
    // Alternatives.
    ("${A:+b}", OK, "b"),
    ("${A+b}", OK, "b"),
    ("${EMPTY:+b}", OK, ""),
    ("${EMPTY+b}", OK, "b"),
    ("${UNSET:+b}", OK, ""),
    ("${UNSET+b}", OK, ""),
    ("${A:+$V}", OK, "1.2.3"),
    ("${A:+${V}-x}", OK, "1.2.3-x"),
    ("${A:+}", OK, ""),
    ("a${A:+:$A}", OK, "a:aValue"),
    ("${A:+a b}", OK, "a b"),
    // Demands.
    ("${A:?m}", OK, "aValue"),
    ("${A?m}", OK, "aValue"),
    ("${EMPTY?m}", OK, ""),
    ("${EMPTY:?m}", ERROR, "EMPTY: m"),
    ("${UNSET:?m}", ERROR, "UNSET: m"),
    ("${UNSET?m}", ERROR, "UNSET: m"),
    ("${UNSET:?}", ERROR, "UNSET: is not allowed to be unset"),
    ("${UNSET?}", ERROR, "UNSET: is not allowed to be unset"),
    ("${EMPTY:?}", ERROR, "EMPTY: is not allowed to be empty"),
    ("${UNSET:?custom error}", ERROR, "UNSET: custom error"),
    ("${UNSET:?no $A}", ERROR, "UNSET: no aValue"),
    ("${UNSET:?\"quoted\"}", ERROR, "UNSET: quoted"),
    ("\"${UNSET:?m}\"", ERROR, "UNSET: m"),
    // What is not needed is expanded all the same.
    ("${A:-${UNSET:?m}}", ERROR, "UNSET: m"),
    ("${UNSET:+${UNSET:?m}}", ERROR, "UNSET: m"),
    // Prefixes.
    ("${V#*.}", OK, "2.3"),
    ("${V##*.}", OK, "3"),
    ("${V#1}", OK, ".2.3"),
    ("${V#2}", OK, "1.2.3"),
    ("${V#?}", OK, ".2.3"),
    ("${V#*}", OK, "1.2.3"),
    ("${V##*}", OK, ""),
    ("${V#}", OK, "1.2.3"),
    ("${V##}", OK, "1.2.3"),
    ("${V#1.2.3}", OK, ""),
    ("${V#1.2.3.4}", OK, "1.2.3"),
    ("${PATHS##*/}", OK, "tool.tar.gz"),
    ("${PATHS#*/}", OK, "usr/local/bin/tool.tar.gz"),
    ("${PATHS#/usr}", OK, "/local/bin/tool.tar.gz"),
    ("${UNSET#a}", OK, ""),
    ("${EMPTY#a}", OK, ""),
    ("${REPEAT#*c}", OK, "abcabc"),
    ("${REPEAT##*c}", OK, ""),
    ("${REPEAT##*b}", OK, "c"),
    ("${UNI#ä}", OK, "öü日本"),
    ("${UNI#??}", OK, "ü日本"),
    ("${STAR#a\\*}", OK, "b"),
    ("${STAR#a\\?}", OK, "a*b"),
    ("${ESC#a\\\\}", OK, "b"),
    ("${A#[a]}", OK, "aValue"),
    ("${A#a$UNSET}", OK, "Value"),
    ("${V#$EMPTY}", OK, "1.2.3"),
    ("${V#\"1\"}", OK, ".2.3"),
    ("${A#\\a}", ERROR, "invalid pattern (\\a) in substitution: invalid escape '\\a'"),
    // Suffixes.
    ("${V%.*}", OK, "1.2"),
    ("${V%%.*}", OK, "1"),
    ("${V%3}", OK, "1.2."),
    ("${V%?}", OK, "1.2."),
    ("${V%*}", OK, "1.2.3"),
    ("${V%%*}", OK, ""),
    ("${V%4}", OK, "1.2.3"),
    ("${PATHS%/*}", OK, "/usr/local/bin"),
    ("${PATHS%%/*}", OK, ""),
    ("${PATHS%.gz}", OK, "/usr/local/bin/tool.tar"),
    ("${PATHS%%.*}", OK, "/usr/local/bin/tool"),
    ("${UNI%本}", OK, "äöü日"),
    ("${REPEAT%a*}", OK, "abcabc"),
    ("${REPEAT%%a*}", OK, ""),
    ("${REPEAT%b?}", OK, "abcabca"),
    ("${STAR%\\*b}", OK, "a"),
    ("${V%\\}}", OK, "1.2.3"),
    ("${UNSET%x}", OK, ""),
    // Replacements.
    ("${V/./-}", OK, "1-2.3"),
    ("${V//./-}", OK, "1-2-3"),
    ("${V/./}", OK, "12.3"),
    ("${V//./}", OK, "123"),
    ("${V/x/y}", OK, "1.2.3"),
    ("${V//x/y}", OK, "1.2.3"),
    ("${V/*/y}", OK, "y"),
    ("${V//*/y}", OK, "y"),
    ("${V/?/y}", OK, "y.2.3"),
    ("${V//?/y}", OK, "yyyyy"),
    ("${V/.*./-}", OK, "1-3"),
    ("${REPEAT/b*/x}", OK, "ax"),
    ("${REPEAT/b?a/-}", OK, "a-bcabc"),
    ("${REPEAT//bc/-}", OK, "a-a-a-"),
    ("${REPEAT//a}/x}", OK, "abcabcabc"),
    ("${PATHS/\\/usr/}", OK, "/local/bin/tool.tar.gz"),
    ("${PATHS//\\//-}", OK, "-usr-local-bin-tool.tar.gz"),
    ("${A/a/$V}", OK, "1.2.3Value"),
    ("${A/$UNSET/x}", OK, "xaValue"),
    ("${A/a/${UNSET:-b}}", OK, "bValue"),
    ("${A/a/\"b c\"}", OK, "b cValue"),
    ("${STAR/\\*/-}", OK, "a-b"),
    ("${UNSET/a/b}", OK, ""),
    ("${EMPTY/*/b}", OK, "b"),
    ("${EMPTY//a/b}", OK, ""),
    ("${UNI/ö?/-}", OK, "ä-日本"),
    ("${LINES/*/x}", OK, "x\ntwo"),
    ("${A/\\x/y}", ERROR, "invalid pattern (\\x) in substitution: invalid escape '\\x'"),
    ("${A/a/\\/}", OK, "\\/Value"),
    // Several in one word.
    ("$A/${V}:$UNSET,${UNSET:-d}", OK, "aValue/1.2.3:,d"),
    ("'$A'\"$A\"$A", OK, "$AaValueaValue"),
];

/// The same with the backquote as escape character.
const BACKQUOTE_WORDS: &[(&str, &str, &str)] = &[
    ("a`b", OK, "ab"),
    ("a``b", OK, "a`b"),
    ("`$A", OK, "$A"),
    ("``$A", OK, "`aValue"),
    ("a\\b", OK, "a\\b"),
    ("\\$A", OK, "\\aValue"),
    ("c:\\dir\\$A", OK, "c:\\dir\\aValue"),
    ("\"a`\"b\"", OK, "a\"b"),
    ("\"a`$A\"", OK, "a$A"),
    ("\"a``b\"", OK, "a`b"),
    ("\"a`nb\"", OK, "a`nb"),
    ("\"c:\\\"", OK, "c:\\"),
    ("'a`b'", OK, "a`b"),
    ("a`", OK, "a"),
    ("${UNSET:-a`}b}", OK, "a}b"),
    ("${STAR#a\\*}", OK, "b"),
    ("${A`", ERROR, "unsupported modifier (`) in substitution"),
];

/// Bodies of heredocs: quotes are text, and the escape is the backslash.
const RAW: &[(&str, &str, &str)] = &[
    ("plain\ntext\n", OK, "plain\ntext\n"),
    ("\"quotes in file\" 'too'", OK, "\"quotes in file\" 'too'"),
    ("'$A'", OK, "'aValue'"),
    ("it's $A", OK, "it's aValue"),
    ("\"$A", OK, "\"aValue"),
    ("\\\n", OK, "\n"),
    ("\\\\\n", OK, "\\\n"),
    ("\\$A\n", OK, "$A\n"),
    ("\\\"", OK, "\""),
    ("a`b`", OK, "a`b`"),
    ("${UNSET:-\"x\"}", OK, "\"x\""),
    ("${UNSET:-'x'}", OK, "'x'"),
    ("$UNSET.", OK, "."),
    ("$5 & $(x)", OK, " & $(x)"),
    ("${A", ERROR, "syntax error: missing '}'"),
    ("${UNSET:?needed}", ERROR, "UNSET: needed"),
];

/// A word that may become several.
const SPLIT: &[(&str, &[&str])] = &[
    ("", &[]),
    ("80", &["80"]),
    ("80 81", &["80", "81"]),
    ("  80   81 ", &["80", "81"]),
    ("$SPACES", &["one", "two", "three"]),
    ("\"$SPACES\"", &["one  two three"]),
    ("'a b' c", &["a b", "c"]),
    ("a\\ b c", &["a b", "c"]),
    ("$EMPTY", &[]),
    ("$UNSET $V", &["1.2.3"]),
    ("a$SPACES", &["aone", "two", "three"]),
    ("${SPACES}b", &["one", "two", "threeb"]),
    ("${UNSET:-80 81}", &["80", "81"]),
    ("\"${UNSET:-80 81}\"", &["80 81"]),
    ("${V//./ }", &["1", "2", "3"]),
    ("$LINES", &["one", "two"]),
];

/// How a step is shown: what is not set stays as written.
const SHOWN: &[(&str, &str)] = &[
    ("RUN echo hi", "RUN echo hi"),
    ("COPY $A $UNSET", "COPY aValue $UNSET"),
    ("COPY ${A} ${UNSET}", "COPY aValue ${UNSET}"),
    ("ENV x=${UNSET:-d} y=${A:-d}", "ENV x=${UNSET:-d} y=aValue"),
    ("${UNSET-d} ${UNSET+d} ${UNSET:+d} ${UNSET:?d}", "${UNSET-d} ${UNSET+d} ${UNSET:+d} ${UNSET:?d}"),
    (
        "${UNSET#p} ${UNSET%%p} ${UNSET/a/b} ${UNSET//a/b}",
        "${UNSET#p} ${UNSET%%p} ${UNSET/a/b} ${UNSET//a/b}",
    ),
    ("ENV a=\"b $A\" c='$A'", "ENV a=\"b aValue\" c='$A'"),
    ("RUN echo \\$A", "RUN echo \\$A"),
    ("RUN echo it's $A", "RUN echo it's $A"),
    ("RUN ${A", "RUN ${A"),
];

#[test]
fn words_are_expanded() {
    check(WORDS, |word, scope| BACKSLASH.word(word, scope).map(|out| out.text));
    let rows = WORDS.len() + BACKQUOTE_WORDS.len() + RAW.len() + SPLIT.len() + SHOWN.len();
    assert!(WORDS.len() >= 200 && rows >= 250, "{} and {rows} rows", WORDS.len());
}

#[test]
fn the_escape_character_is_the_directives() {
    check(BACKQUOTE_WORDS, |word, scope| BACKQUOTE.word(word, scope).map(|out| out.text));
}

#[test]
fn heredoc_bodies_keep_their_quotes() {
    check(RAW, |text, scope| BACKSLASH.raw(text, scope).map(|out| out.text));
    check(RAW, |text, scope| BACKQUOTE.raw(text, scope).map(|out| out.text));
}

#[test]
fn words_are_split_after_expansion() {
    for (word, wanted) in SPLIT {
        let (words, _) = BACKSLASH.words(word, &scope()).unwrap();
        assert_eq!(&words, wanted, "{word:?}");
    }
}

#[test]
fn labels_keep_what_is_not_set() {
    for (text, wanted) in SHOWN {
        assert_eq!(BACKSLASH.keep_unset(text, &scope()), *wanted, "{text:?}");
    }
}

#[test]
fn names_met_are_told() {
    let expanded = BACKSLASH.word("$B $A ${C:-$D} $B '$E' \\$F ${A:+$G}", &scope()).unwrap();
    // A default is expanded before its variable is looked up.
    assert_eq!(expanded.used, ["B", "A", "D", "C", "G"]);
    assert_eq!(expanded.undefined, ["B", "D", "C", "G"]);
}

#[test]
fn scopes_are_maps_lists_and_closures() {
    let list = vec![("A".to_owned(), "1".to_owned()), ("A".to_owned(), "2".to_owned())];
    let closure = |name: &str| (name == "A").then(|| "2".to_owned());
    let scopes: [&dyn Scope; 3] = [&list, &list.as_slice(), &closure];
    for scope in scopes {
        assert_eq!(BACKSLASH.word("$A$B", scope).unwrap().text, "2");
    }
}

fn check<E: std::fmt::Display>(
    rows: &[(&str, &str, &str)],
    expand: impl Fn(&str, &dyn Scope) -> Result<String, E>,
) {
    let mut wrong = Vec::new();
    for (input, kind, wanted) in rows {
        let found = match expand(input, &scope()) {
            Ok(text) => (OK, text),
            Err(error) => (ERROR, error.to_string()),
        };
        if found != (*kind, (*wanted).to_owned()) {
            wrong.push(format!("{input:?}: wanted {kind} {wanted:?}, found {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
