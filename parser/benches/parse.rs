//! How fast Dockerfiles are read, and that the cost grows with their length and not with its square.
//!
//! `cargo bench -p forge-parser`: for each shape of file the best of some runs at four sizes. No harness and no
//! statistics crate: what matters here is the factor between the rows.
//!
//! The crates `dockerfile-parser` and `dockerfile-parser-rs` are not measured beside it, so as not to bring two more
//! parsers and their dependencies into the workspace's lock file.
#![allow(clippy::print_stdout)]

use forge_parser::{Expander, IgnorePatterns, parse};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// A shape of file: its name, and the text of about so many bytes.
type Shape = (&'static str, fn(usize) -> String);

const SHAPES: [Shape; 5] = [
    ("ordinary instructions", ordinary),
    ("one RUN of continued lines", continued),
    ("comments", comments),
    ("heredocs", heredocs),
    ("ENV pairs", pairs),
];

fn main() {
    println!("{:<28} {:>10} {:>8} {:>10} {:>8}", "dockerfile", "bytes", "lines", "ms", "MB/s");
    for (name, shape) in SHAPES {
        for kilobytes in [128, 256, 512, 1_000] {
            let text = shape(kilobytes * 1_000);
            parse(text.as_bytes()).unwrap_or_else(|problems| panic!("{name}: {:?}", problems[0]));
            let best = best(|| parse(black_box(text.as_bytes())).map(|parsed| parsed.warnings.len()));
            row(name, &text, best);
        }
    }
    let word = "${A:-x}$B'q'\"w $C\"".repeat(50_000);
    let scope = vec![("B".to_owned(), "b".to_owned())];
    let expander = Expander { escape: '\\' };
    row(
        "expansion of one word",
        &word,
        best(|| expander.word(black_box(&word), &scope).map(|out| out.text.len())),
    );
    let patterns = ignored();
    let paths: Vec<String> = files().map(|(dir, sub, file)| format!("{dir}/{sub}/{file}")).collect();
    let elapsed = best(|| paths.iter().filter(|path| patterns.excludes(black_box(path.as_bytes()))).count());
    row("10,000 paths, 200 patterns", &paths.join("\n"), elapsed);
    row("the same as a walk", &paths.join("\n"), best(|| walk(&patterns)));
}

fn best<T>(mut work: impl FnMut() -> T) -> Duration {
    let once = |work: &mut dyn FnMut() -> T| {
        let start = Instant::now();
        black_box(work());
        start.elapsed()
    };
    (0..5).map(|_| once(&mut work)).min().unwrap_or_default()
}

fn row(name: &str, text: &str, elapsed: Duration) {
    let (ms, lines) = (elapsed.as_secs_f64() * 1e3, text.lines().count());
    println!("{name:<28} {:>10} {lines:>8} {ms:>10.2} {:>8.1}", text.len(), text.len() as f64 / ms / 1e3);
}

/// What real files have, over and over.
fn ordinary(bytes: usize) -> String {
    let block = "# syntax is not here\nRUN --mount=type=cache,target=/var/cache/apt,id=apt apt-get update && \\\n    \
                 apt-get install -y --no-install-recommends ca-certificates curl git && \\\n    \
                 rm -rf /var/lib/apt/lists/* && \\\n    curl -fsSL https://example.com/tool.tar.gz | tar -xz -C /opt && \\\n    \
                 curl -fsSL https://example.com/another/tool-of-some-name.tar.gz -o /tmp/tool.tar.gz && \\\n    \
                 echo \"0000000000000000000000000000000000000000000000000000000000000000  /tmp/tool.tar.gz\" | \
                 sha256sum -c - && \\\n    tar -xzf /tmp/tool.tar.gz -C /opt && rm /tmp/tool.tar.gz\n\
                 COPY --chown=app:app --link package.json package-lock.json ./\n\
                 ENV NODE_ENV=production PATH=\"/opt/tool/bin:$PATH\" TITLE=\"a title of words\"\n\
                 ARG VERSION=1.2.3\nWORKDIR /srv/app\nEXPOSE 8080/tcp 8443\n\
                 CMD [\"node\", \"server.js\", \"--port\", \"8080\"]\n";
    format!("FROM alpine\n{}", block.repeat(bytes / block.len()))
}

fn continued(bytes: usize) -> String {
    let line = "    x && \\\n";
    format!("FROM alpine\nRUN true && \\\n{}    true\n", line.repeat(bytes / line.len()))
}

fn comments(bytes: usize) -> String {
    let line = "# a comment\n";
    format!("{}FROM alpine\n", line.repeat(bytes / line.len()))
}

fn heredocs(bytes: usize) -> String {
    let block = "RUN <<EOF cat && sh <<'E2' | tee \"/tmp/x y\"\nline one\nline two, which is a good deal longer than the first one\nEOF\nset -e\nE2\n\
                 COPY <<-a.txt /etc/\n\tline of the file\n\tand another\n\tand a third, longer, line of the file\na.txt\n";
    format!("FROM alpine\n{}", block.repeat(bytes / block.len()))
}

fn pairs(bytes: usize) -> String {
    let line = "ENV a=b c=\"d e\" f='g h' i\\ j=k l=m n=\"$o\" p=q \\\n  r=s t=u v=w x=y z=0 aa=bb cc=dd ee=ff gg=hh ii=jj \\\n  TITLE='some words that stand in quotes'\n";
    format!("FROM alpine\n{}", line.repeat(bytes / line.len()))
}

/// Patterns that look like a project's.
fn ignored() -> IgnorePatterns {
    let mut list: Vec<String> = (0..198).map(|n| format!("dir{n}/**/*.tmp")).collect();
    list.extend(["**/node_modules".to_owned(), "!dir7/**/keep.tmp".to_owned()]);
    IgnorePatterns::from_patterns(&list).unwrap_or_default()
}

const DIRECTORIES: usize = 100;
const BELOW: usize = 10;

fn file(n: usize) -> String {
    format!("file{n}.{}", ["rs", "tmp"][n % 2])
}

fn files() -> impl Iterator<Item = (String, String, String)> {
    (0..DIRECTORIES * BELOW * BELOW)
        .map(|n| (format!("dir{}", n / BELOW / BELOW), format!("sub{}", n / BELOW % BELOW), file(n % BELOW)))
}

/// As a walk of the tree asks: each directory once, each file in it once.
fn walk(patterns: &IgnorePatterns) -> usize {
    let root = patterns.walker();
    let mut kept = 0;
    for dir in 0..DIRECTORIES {
        let dir = root.entry(format!("dir{dir}").as_bytes()).directory();
        for sub in 0..BELOW {
            let sub = dir.entry(format!("sub{sub}").as_bytes()).directory();
            kept += (0..BELOW).filter(|n| !sub.entry(file(*n).as_bytes()).excluded).count();
        }
    }
    kept
}
