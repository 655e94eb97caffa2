//! `--reproducible`: one digest, whoever builds, wherever and whenever.

use std::fs;
use std::path::Path;

use super::image;
use crate::support::{Builder, Lab, tool};

/// Ten Dockerfiles that leave traces of the moment, the machine and the builder where there are any.
const TEXTS: [&str; 10] = [
    "RUN echo hi > /hi && mkdir -p /a/b/c && touch /a/b/c/d\n",
    "COPY . /app\nWORKDIR /app/new\n",
    "COPY --chown=1000:50 --chmod=640 dir /dst/\nRUN chown -R app /dst && chmod 4755 /dst/b\n",
    "RUN rm -r /home && mkdir /home && rm /etc/passwd && ln -s x /sym && mkfifo /fifo\n",
    "ADD archive.tar /unpacked/\nRUN cp -a /unpacked /copy\n",
    "RUN --mount=type=tmpfs,target=/t touch /t/x && hostname > /h && cat /etc/hosts > /hosts && env > /env\n",
    "ARG SOURCE_DATE_EPOCH\nRUN echo $SOURCE_DATE_EPOCH > /epoch && touch -d @1600000000 /dated && umask > /umask\n",
    "RUN ln /bin/busybox /hard && date -r /bin/busybox > /then && id > /id && pwd > /pwd\nUSER app\n",
    "COPY <<EOF /heredoc\ntext\nEOF\nRUN <<EOF\nseq 1 20000 > /seq\nEOF\n",
    "LABEL a=b\nENV X=y\nRUN true\nHEALTHCHECK CMD true\nVOLUME /v\nCMD [\"x\"]\n",
];

/// A context with its own times; the Dockerfiles' base is a stage, so that nothing is shared but the files.
fn context(lab: &Lab, mtime: &str) {
    let dir = lab.context("context", &[("a", "A"), ("dir/b", "B"), ("dir/deep/c", "C")]);
    fs::write(dir.join("rootfs.tar"), crate::support::busybox_rootfs()).unwrap();
    let archive = dir.join("archive.tar");
    let (at, dir_text) = (archive.to_str().unwrap(), dir.to_str().unwrap());
    tool("tar", &["-C", dir_text, "--mtime=@1500000000", "--owner=7", "--group=8", "-cf", at, "a", "dir"]);
    for (number, text) in TEXTS.iter().enumerate() {
        let dockerfile = format!("FROM scratch AS base\nADD rootfs.tar /\nFROM base\n{text}");
        lab.file(&format!("context/{number}.Dockerfile"), &dockerfile);
    }
    lab.file("context/.dockerignore", "*.Dockerfile\nrootfs.tar.*\n");
    tool("find", &[dir_text, "-exec", "touch", "-d", mtime, "{}", "+"]);
    tool("chmod", &["-R", "u=rwX,go=rX", dir_text]);
}

fn digests(lab: &Lab, context: &Path) -> Vec<String> {
    let build = |number: usize| {
        let file = context.join(format!("{number}.Dockerfile"));
        let network = ["--network", "none"];
        let args = ["-q", "--reproducible", "-f", file.to_str().unwrap(), network[0], network[1]];
        lab.build(context, &args).success()
    };
    (0..TEXTS.len()).map(build).collect()
}

/// What may differ between two builds; each either way.
const AXES: u32 = 7;

/// One way of building: bit by bit, whether it is a user who builds, on one processor, elsewhere, in another time zone,
/// language, under another umask, with the store at another place. Files are checked out at another time each time.
fn digests_in(environment: u32) -> Vec<String> {
    let has = |axis: u32| environment & (1 << axis) != 0;
    let mut lab = Lab::of(if has(0) { Builder::User } else { Builder::Root });
    context(&lab, &format!("@{}", 1_000_000_000 + u64::from(environment) * 7_654_321));
    let when = |axis, text: &str| if has(axis) { text.to_owned() } else { String::new() };
    let script =
        format!("{}{}exec {}\"$@\"", when(2, "cd /; "), when(5, "umask 077; "), when(1, "taskset -c 0 "));
    lab.wrapper = ["/bin/sh", "-c", &script, "sh"].map(str::to_owned).into();
    let variables = [(3, "TZ", "Asia/Kathmandu"), (4, "LC_ALL", "tr_TR.UTF-8"), (4, "LANG", "tr_TR.UTF-8")];
    let set = variables.iter().filter(|(axis, ..)| has(*axis));
    lab.env = set.map(|(_, name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    if has(6) {
        lab.store = "a/much/longer path/of/the-store".into();
    }
    digests(&lab, &lab.path("context"))
}

/// Sixteen of the 128 ways: whichever three axes one looks at, all eight ways to set them are there. All of them, which
/// take minutes, with `FORGE_EVERY_ENVIRONMENT` set.
fn environments() -> Vec<u32> {
    if std::env::var_os("FORGE_EVERY_ENVIRONMENT").is_some() {
        return (0..1 << AXES).collect();
    }
    let bit = |n: u32, at: u32| n >> at & 1;
    let rest = |n| [[0, 1, 2], [1, 2, 3], [0, 2, 3]].map(|of| of.iter().fold(0, |sum, at| sum ^ bit(n, *at)));
    (0..16).map(|n| rest(n).iter().zip(4..).fold(n, |all, (bit, at)| all | bit << at)).collect()
}

#[test]
fn sixteen_environments_have_every_three_axes_in_every_way() {
    let all = environments();
    for (a, b, c) in (0..AXES).flat_map(|a| (0..a).flat_map(move |b| (0..b).map(move |c| (a, b, c)))) {
        let seen: std::collections::BTreeSet<u32> =
            all.iter().map(|e| (e >> a & 1) << 2 | (e >> b & 1) << 1 | e >> c & 1).collect();
        assert_eq!(seen.len(), 8, "{a} {b} {c}");
    }
}

#[test]
fn ten_dockerfiles_have_one_digest_each() {
    let want = digests_in(0);
    assert_eq!(want.iter().collect::<std::collections::BTreeSet<_>>().len(), TEXTS.len());
    let environments = environments();
    std::thread::scope(|scope| {
        for half in 0..2 {
            let (want, environments) = (&want, &environments);
            scope.spawn(move || {
                for environment in environments.iter().skip(half).step_by(2) {
                    assert_eq!(digests_in(*environment), *want, "{environment:07b}");
                }
            });
        }
    });
}

#[test]
fn times_are_those_that_are_asked_for() {
    let lab = Lab::with_busybox();
    let context =
        lab.context("ctx", &[("Dockerfile", "FROM busybox\nCOPY f /f\nRUN touch -d @5 /old\n"), ("f", "")]);
    let build = |layout: &str, args: &[&str]| {
        let output = format!("type=oci,dest={layout}/{}", args.first().copied().unwrap_or_default());
        let rest = args.get(1..).unwrap_or_default();
        lab.build(&context, &[&["-o", &output], rest].concat()).success();
        let (manifest, config) = image(&lab, layout);
        let times: Vec<String> = manifest["layers"].as_array().unwrap()[1..]
            .iter()
            .flat_map(|layer| {
                let path = super::blob(&lab, layout, &layer["digest"]);
                let listed = tool("tar", &["--full-time", "--utc", "-tvzf", &path]);
                let lines = listed.lines().map(|line| line.split_whitespace().skip(3).take(2));
                lines.map(|words| words.collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
            })
            .collect();
        (times, config["created"].as_str().unwrap().to_owned())
    };
    let (epoch, old) = ("2001-09-09 01:46:40", "1970-01-01 00:00:05");
    let sde = ["--build-arg", "SOURCE_DATE_EPOCH=1000000000"];
    // The epoch alone bounds the configuration; files only if they are to be rewritten.
    let (times, created) = build("config", &["", sde[0], sde[1]]);
    assert_eq!(created, "2001-09-09T01:46:40Z");
    assert!(times[0].as_str() > "2020" && times[1] == old, "{times:?}");
    let (times, _) = build("files", &[",rewrite-timestamp=true", sde[0], sde[1]]);
    assert_eq!(times, [epoch, old]);
    let (times, created) = build("own", &[",rewrite-timestamp=true,source-date-epoch=1000000000"]);
    assert_eq!((times, created.as_str()), (vec![epoch.to_owned(), old.to_owned()], "2001-09-09T01:46:40Z"));
    // In a reproducible image nothing is left of any time.
    let (times, created) = build("fixed", &["", "--reproducible", sde[0], sde[1]]);
    assert_eq!((times, created.as_str()), (vec![epoch.to_owned(); 2], "2001-09-09T01:46:40Z"));
    let (times, created) = build("zero", &["", "--reproducible"]);
    assert_eq!((times[0].as_str(), created.as_str()), ("1970-01-01 00:00:00", "1970-01-01T00:00:00Z"));
    // The base's layer is as it was.
    assert_eq!(image(&lab, "zero").0["layers"][0], image(&lab, "config").0["layers"][0]);
}
