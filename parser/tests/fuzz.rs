//! A mutating fuzzer on the stable toolchain: parser, expansion and ignore patterns get Dockerfiles that were cut up,
//! repeated and spliced, and must neither panic nor lose anything.
//!
//! Inputs that come to something new (other instructions, other errors) are kept and mutated further, so that it goes
//! deeper than chance alone. In the suite each target gets a fixed number of inputs; `scripts/fuzz.sh SECONDS` lets
//! each run for a time, with another seed each time. What fails is written to a file and named; `FUZZ_INPUT=FILE` runs
//! that one again.

use std::collections::HashSet;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, fs};

use forge_parser::{Expander, Glob, IgnorePatterns, Span, parse, parse_trigger};

/// Inputs per target where no time is given, and how large they are.
const INPUTS: u64 = 2_000;
const FEW_BYTES: usize = 1 << 10;

/// The largest input otherwise: what is larger is another test's business.
const MOST_BYTES: usize = 64 << 10;

/// The longest that one input may take where time is given, on a machine that has other things to do.
const TOO_SLOW: Duration = Duration::from_secs(5);

/// Pieces that mean something to one of the targets.
const PIECES: &[&str] = &[
    "\n",
    "\r\n",
    "\\\n",
    "`\n",
    "#",
    " ",
    "\t",
    "\0",
    "\u{feff}",
    "é",
    "\u{a0}",
    "FROM ",
    "FROM a AS b\n",
    "RUN ",
    "COPY ",
    "ADD ",
    "ENV ",
    "ARG ",
    "ONBUILD ",
    "HEALTHCHECK ",
    "SHELL ",
    "EXPOSE ",
    "# escape=`\n",
    "# check=skip=all\n",
    "# syntax=x\n",
    "--mount=type=cache,target=/x",
    "--from=",
    "--",
    "<<EOF",
    "<<-'E'",
    "\nEOF\n",
    "[",
    "]",
    "\"",
    "'",
    ",",
    "{",
    "}",
    "$",
    "${",
    "${a:-",
    "${a#",
    "${a%%*",
    "${a//b/c}",
    ":?",
    "\\",
    "`",
    "/",
    "**/",
    "/**",
    "*",
    "?",
    "!",
    "[a-z]",
    "[^",
    "..",
    "=",
    "0",
    "99999999999999999999",
    "@",
    ":",
    "sha256:",
    "https://h/x.git#r:d",
];

/// A small generator of numbers (xorshift64*): the same seed gives the same inputs.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn span(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        let longest = if self.below(4) == 0 { length } else { 16 };
        start..(start + self.below(longest + 1)).min(length)
    }
}

/// One change of an input.
fn mutate(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random, most: usize) {
    let span = random.span(input.len());
    match random.below(8) {
        0 => drop(input.splice(span, [])),
        1 => {
            let byte = random.next() as u8;
            let at = random.below(input.len() + 1);
            input.insert(at, byte);
        }
        2 if !input.is_empty() => {
            let at = random.below(input.len());
            input[at] ^= 1 << random.below(8);
        }
        3 | 4 => {
            let piece = PIECES[random.below(PIECES.len())];
            drop(input.splice(span, piece.bytes()));
        }
        5 => {
            // Repeated, now and then very often: nesting and long lists are where bounds are.
            let times = [2, 3, 20, 2_000][random.below(4)];
            let part = input[span.clone()].to_vec();
            let times = times.min(most / part.len().max(1));
            drop(input.splice(span, part.repeat(times)));
        }
        6 => {
            let other = &corpus[random.below(corpus.len())];
            let part = other[random.span(other.len())].to_vec();
            drop(input.splice(span, part));
        }
        _ => {
            let part = input[span].to_vec();
            let at = random.below(input.len() + 1);
            drop(input.splice(at..at, part));
        }
    }
    input.truncate(most);
}

/// Runs one target: it gets bytes, and says what came of them.
fn fuzz(name: &str, mut corpus: Vec<Vec<u8>>, target: impl Fn(&[u8]) -> String) {
    if let Ok(path) = env::var("FUZZ_INPUT") {
        let (input, start) = (fs::read(path).unwrap(), Instant::now());
        return tell(&format!("{name}: {} in {:?}", target(&input), start.elapsed()));
    }
    let seconds: Option<u64> = env::var("FUZZ_SECONDS").ok().map(|text| text.parse().unwrap());
    let seed = env::var("FUZZ_SEED").ok().map_or(0x5eed, |text| text.parse().unwrap());
    let mut random = Random(seed | 1);
    let most = if seconds.is_some() { MOST_BYTES } else { FEW_BYTES };
    let mut seen: HashSet<String> = HashSet::new();
    let (began, mut inputs) = (Instant::now(), 0_u64);
    while seconds.map_or(inputs < INPUTS, |seconds| began.elapsed() < Duration::from_secs(seconds)) {
        let mut input = corpus[random.below(corpus.len())].clone();
        for _ in 0..=random.below(4) {
            mutate(&mut input, &corpus, &mut random, most);
        }
        inputs += 1;
        let start = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| target(&input)));
        let slow = seconds.is_some() && start.elapsed() > TOO_SLOW;
        match outcome {
            Ok(outcome) if !slow => {
                if seen.insert(outcome) {
                    corpus.push(input);
                }
            }
            _ => {
                let path = env::temp_dir().join(format!("forge-fuzz-{name}-{seed}-{inputs}"));
                fs::write(&path, &input).unwrap();
                let what = if slow { "is slow" } else { "panics" };
                panic!("{name}: input {inputs} of seed {seed} {what}: {}", path.display());
            }
        }
    }
    let seconds = began.elapsed().as_secs();
    tell(&format!("{name}: {inputs} inputs, {} outcomes, {seconds} s", seen.len()));
}

fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// All files of this name in the folders of `testdata/<of>`.
fn corpus(of: &str, file: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata").join(of);
    let mut paths: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path().join(file)).collect();
    paths.sort();
    let files: Vec<Vec<u8>> = paths.iter().filter_map(|path| fs::read(path).ok()).collect();
    assert!(files.len() > 10, "{of} has no {file}");
    files
}

/// A message without what differs from file to file.
fn shape(message: &str) -> String {
    let mut quoted = false;
    let kept = message.chars().filter(|c| {
        quoted ^= matches!(c, '"' | '\'' | '`');
        !quoted && !c.is_ascii_digit()
    });
    kept.take(60).collect()
}

fn check_spans(text: &[u8], spans: impl Iterator<Item = Span>) {
    for span in spans {
        assert!(span.start <= span.end && span.end <= text.len(), "{span:?} is not in the text");
    }
}

#[test]
fn parser() {
    fuzz("parser", corpus("dockerfiles", "Dockerfile"), |text| match parse(text) {
        Ok(parsed) => {
            let all = parsed.dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
            check_spans(
                text,
                all.clone().map(|one| one.span).chain(parsed.warnings.iter().map(|one| one.span)),
            );
            let _ = forge_parser::targets(&parsed.dockerfile);
            let _ = forge_parser::outline(&parsed.dockerfile, None);
            // Once more gives the same.
            assert_eq!(parse(text).map(|again| again.dockerfile).ok().as_ref(), Some(&parsed.dockerfile));
            let words = all.take(12).filter_map(|one| one.source.split_whitespace().next());
            words.collect::<Vec<_>>().join(" ").to_uppercase()
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            check_spans(text, problems.iter().map(|problem| problem.span));
            if let Ok(text) = std::str::from_utf8(text) {
                let _ = parse_trigger(text, '`');
            }
            let mut shapes: Vec<String> =
                problems.iter().take(20).map(|problem| shape(&problem.message)).collect();
            shapes.sort();
            shapes.dedup();
            shapes.join("|")
        }
    });
}

#[test]
fn expansion() {
    let words = [
        "$a",
        "${a}",
        "${a:-b}",
        "${a:+b$c}",
        "${a:?no}",
        "${a#*/}",
        "${a##*/}",
        "${a%.*}",
        "${a%%.*}",
        "${a/b/c}",
        "${a//b/${c}}",
        "\"$a\"'$a'\\$a",
        "${a:-${b:-${c:-d}}}",
        "x${a}y z",
        "${a#\\*}",
        "`$a",
    ];
    let mut seeds: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
    seeds.extend(corpus("dockerfiles", "Dockerfile").into_iter().take(40));
    let scope: Vec<(String, String)> =
        [("a", "x/y.tar.gz"), ("b", ""), ("c", "**[\\"), ("long", &"ab/".repeat(300))]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
    fuzz("expansion", seeds, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let mut shapes = Vec::new();
        for escape in ['\\', '`'] {
            let expander = Expander { escape };
            let _ = expander.raw(&text, &scope);
            let _ = expander.keep_unset(&text, &scope);
            let word = expander.word(&text, &scope);
            let words = expander.words(&text, &scope);
            // Splitting changes nothing about what is wrong.
            assert_eq!(word.is_ok(), words.is_ok(), "{text:?}");
            shapes.push(match word {
                Ok(expanded) => {
                    format!("{} {}", expanded.text.len().min(40), expanded.undefined.len().min(5))
                }
                Err(error) => shape(&error.to_string()),
            });
        }
        shapes.join("|")
    });
}

#[test]
fn ignore_patterns() {
    let lists = [
        "*.md\n!README*.md\nREADME-secret.md\n",
        "**/*.go\n",
        "a/**/b\n!a/c/**\n",
        "# x\n\n/abs\n",
        "[a-z]\\*\n",
        "*/temp*\n*/*/temp*\ntemp?\n",
        "!\n",
        "**\n!**/keep\n",
        "a**b\n",
        "..\n../x\n.\n",
    ];
    let paths =
        ["a", "a/b", "a/c/b", "README.md", "a/README-secret.md", "temp", "x/y/z/keep", "abs", "é/b.go", ".x"];
    fuzz("ignore", lists.iter().map(|list| list.as_bytes().to_vec()).collect(), |list| {
        for line in list.split(|byte| *byte == b'\n').take(50) {
            if let Ok(glob) = Glob::new(&String::from_utf8_lossy(line)) {
                let _ = paths.map(|path| glob.matches(path.as_bytes()));
            }
        }
        match IgnorePatterns::parse(list) {
            Err(error) => shape(&error.to_string()),
            Ok(patterns) => {
                let verdicts = paths.map(|path| {
                    // A walk says the same of each path as a look at the whole path.
                    let mut directory = patterns.walker();
                    let mut excluded = false;
                    for name in path.split('/') {
                        let entry = directory.entry(name.as_bytes());
                        excluded = entry.excluded;
                        directory = entry.directory();
                    }
                    assert_eq!(patterns.excludes(path.as_bytes()), excluded, "{path}");
                    if excluded { '-' } else { '+' }
                });
                verdicts.iter().collect()
            }
        }
    });
}
