//! How fast Dockerfiles are read, and that the cost grows with their length and not with its square.
//!
//! `cargo bench -p forge-parser --bench parse [-- FILTER]`: each shape of file at two lengths; the rates should be equal.
//! Other crates of this kind are measured by `parser/benches/peers`, a package of its own.

use criterion::{Criterion, Throughput};
use forge_parser::{Expander, IgnorePatterns, parse};
use std::hint::black_box;
use std::time::Duration;

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
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    shapes(&mut criterion);
    words(&mut criterion);
    ignore_file(&mut criterion);
    criterion.final_summary();
}

fn shapes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    for (name, shape) in SHAPES {
        for kilobytes in [128, 1_000] {
            let text = shape(kilobytes * 1_000);
            parse(text.as_bytes()).unwrap_or_else(|problems| panic!("{name}: {:?}", problems[0]));
            group.throughput(Throughput::Bytes(text.len() as u64));
            group.bench_function(format!("{name}, {kilobytes} kB"), |bencher| {
                bencher.iter(|| parse(black_box(text.as_bytes())));
            });
        }
    }
}

fn words(criterion: &mut Criterion) {
    let word = "${A:-x}$B'q'\"w $C\"".repeat(50_000);
    let scope = vec![("B".to_owned(), "b".to_owned())];
    let expander = Expander { escape: '\\' };
    let mut group = criterion.benchmark_group("expand");
    group.throughput(Throughput::Bytes(word.len() as u64));
    group.bench_function("one long word", |bencher| {
        bencher.iter(|| expander.word(black_box(&word), &scope).map(|out| out.text.len()));
    });
}

fn ignore_file(criterion: &mut Criterion) {
    let patterns = ignored();
    let paths: Vec<String> = files().map(|(dir, sub, file)| format!("{dir}/{sub}/{file}")).collect();
    let mut group = criterion.benchmark_group("ignore, 200 patterns, 10,000 paths");
    group.throughput(Throughput::Elements(paths.len() as u64));
    group.bench_function("each path alone", |bencher| {
        bencher.iter(|| paths.iter().filter(|path| patterns.excludes(black_box(path.as_bytes()))).count());
    });
    group.bench_function("as a walk", |bencher| bencher.iter(|| walk(&patterns)));
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
