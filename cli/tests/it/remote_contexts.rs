//! Builds whose files, or whose Dockerfile, are not in a directory of this machine.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::support::{Builder, GitDaemon, Lab, Outcome, Web, tool};

/// A directory as a tar, packed with `flags`.
fn tar(lab: &Lab, dir: &Path, flags: &str) -> Vec<u8> {
    let file = lab.at("packed");
    tool("tar", &["-C", dir.to_str().unwrap(), flags, &file, "."]);
    fs::read(file).unwrap()
}

/// A server that has these bytes under every path.
fn serve(bytes: Vec<u8>) -> Web {
    Web::start(move |_| (200, vec![("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT".into())], bytes.clone()))
}

/// Builds with a file on standard input.
fn build_from(lab: &Lab, input: &Path, args: &[&str]) -> Outcome {
    let mut command = lab.command(&[&["build", "-q"], args].concat());
    command.stdin(File::open(input).unwrap()).output().unwrap().into()
}

#[test]
fn an_archive_at_a_url_builds_what_its_directory_builds() {
    let lab = Lab::with_busybox();
    let files = [
        ("Dockerfile", "FROM busybox\nCOPY . /c/\n"),
        ("other", "FROM busybox\nCOPY yes /o\n"),
        (".dockerignore", "no\n"),
        ("yes", "1"),
        ("no", "2"),
    ];
    let context = lab.context("ctx", &files);
    let direct = lab.build(&context, &["-q"]).success();
    for flags in ["-cf", "-czf", "-cjf", "-cJf"] {
        let web = serve(tar(&lab, &context, flags));
        let built = lab.forge(&["build", "-q", "-t", "x", &web.url("/whatever?a=b")]).success();
        assert_eq!(built, direct, "{flags}");
    }
    assert_eq!(lab.shell("x", "ls /c"), "Dockerfile\nother\nyes");
    let web = serve(tar(&lab, &context, "-cf"));
    let url = web.url("/ctx.tar");
    lab.forge(&["build", "-q", "-t", "y", "-f", "other", &url]).success();
    assert_eq!(lab.shell("y", "cat /o"), "1");
    let own = lab.file("own", "FROM busybox\nCOPY yes /absolute\n");
    lab.forge(&["build", "-q", "-t", "z", "-f", own.to_str().unwrap(), &url]).success();
    assert_eq!(lab.shell("z", "cat /absolute"), "1");
    lab.forge_with_input(
        &["build", "-q", "-t", "z", "-f", "-", &url],
        "FROM busybox\nCOPY yes /from-stdin\n",
    )
    .success();
    assert_eq!(lab.shell("z", "cat /from-stdin"), "1");
    assert!(lab.unfinished().is_empty());
}

#[test]
fn a_dockerfile_at_a_url_has_no_files_beside_it() {
    let lab = Lab::with_busybox();
    let web = serve(b"FROM busybox\nCOPY . /c/\nRUN ls -A /c > /seen\n".to_vec());
    let url = web.url("/Dockerfile").replace("http://", "http://me:s3cret@");
    let outcome = lab.forge(&["build", "--progress", "plain", "-t", "x", &url]);
    assert!(!outcome.stderr.contains("s3cret"), "{outcome}");
    outcome.success();
    assert_eq!(lab.shell("x", "cat /seen"), "");
    let report = lab.forge(&["build", "-q", "-f", "x", &url]).report(2);
    assert!(report.starts_with("error: ambiguous Dockerfile source"), "{report}");
    let gone = Web::start(|_| (404, vec![], vec![]));
    lab.forge(&["build", "-q", &gone.url("/x")]).report(4);
}

#[test]
fn the_dockerfile_alone_may_be_at_a_url() {
    let lab = Lab::with_busybox();
    let web = serve(b"FROM busybox\nCOPY here /h\n".to_vec());
    let context = lab.context("ctx", &[("here", "1")]);
    lab.build(&context, &["-q", "-t", "x", "-f", &web.url("/d/Dockerfile")]).success();
    assert_eq!(lab.shell("x", "cat /h"), "1");
    let large = Web::start(|_| (200, vec![], vec![b'#'; (16 << 20) + 1]));
    let report = lab.build(&context, &["-q", "-f", &large.url("/d")]).report(5);
    assert!(report.contains("it is larger than 16777216 bytes"), "{report}");
}

#[test]
fn a_lower_case_dockerfile_is_found_wherever_the_context_is() {
    let lab = Lab::with_busybox();
    let context = lab.context("ctx", &[("dockerfile", "FROM busybox\nRUN echo lower > /which\n")]);
    let packed = lab.path("packed");
    fs::write(&packed, tar(&lab, &context, "-cf")).unwrap();
    let direct = lab.build(&context, &["-q"]).success();
    assert_eq!(build_from(&lab, &packed, &["-t", "x", "-"]).success(), direct);
    lab.file("ctx/Dockerfile", "FROM busybox\nRUN echo upper > /which\n");
    fs::write(&packed, tar(&lab, &context, "-cf")).unwrap();
    build_from(&lab, &packed, &["-t", "x", "-"]).success();
    assert_eq!(lab.shell("x", "cat /which"), "upper");
}

#[test]
fn a_repository_is_a_context_by_branch_tag_commit_and_directory() {
    for builder in [Builder::Root, Builder::User] {
        let lab = Lab::of(builder);
        lab.add_busybox();
        let daemon = GitDaemon::start();
        let repository = daemon.repository("r", |dir| {
            fs::write(dir.join("Dockerfile"), "FROM busybox\nCOPY . /c/\n").unwrap();
            fs::write(dir.join(".dockerignore"), "left-out\n").unwrap();
            fs::write(dir.join("left-out"), "").unwrap();
            fs::create_dir(dir.join("sub")).unwrap();
            fs::write(dir.join("sub/dockerfile"), "FROM busybox\nCOPY file /c/\n").unwrap();
            fs::write(dir.join("sub/Other"), "FROM busybox\nCOPY file /other\n").unwrap();
            fs::write(dir.join("sub/file"), "one").unwrap();
        });
        repository.git(&["tag", "-a", "v1", "-m", "one"]);
        let first = repository.git(&["rev-parse", "HEAD"]);
        fs::write(repository.dir.join("sub/file"), "two").unwrap();
        repository.commit("two");
        let url = daemon.url("r");
        let build = |context: &str, args: &[&str]| {
            lab.forge(&[&["build", "-q", "-t", "x"], args, &[context]].concat()).success()
        };
        let head = build(&url, &[]);
        assert_eq!(lab.shell("x", "cd /c; ls -A; cat sub/file"), ".dockerignore\nDockerfile\nsub\ntwo");
        assert_eq!(lab.shell("x", "stat -c %Y /c/sub/file"), "1577934245", "as old as the commit");
        assert_eq!(build(&url, &[]), head);
        if builder == Builder::User {
            continue;
        }
        for (context, content) in [
            (format!("{url}#v1:sub"), "one"),
            (format!("{url}#{first}:sub"), "one"),
            (format!("{url}#:sub"), "two"),
            (format!("{url}?tag=v1&subdir=sub"), "one"),
            (format!("{url}?branch=main&subdir=sub"), "two"),
        ] {
            build(&context, &[]);
            assert_eq!(lab.shell("x", "cat /c/file"), content, "{context}");
        }
        build(&format!("{url}#v1:sub"), &["-f", "Other"]);
        assert_eq!(lab.shell("x", "cat /other"), "one");
        build(&format!("{url}#v1"), &["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1"]);
        assert_eq!(lab.shell("x", "cat /c/.git/HEAD"), first);
        assert!(lab.unfinished().is_empty());
    }
}

#[test]
fn ssh_and_scp_addresses_are_fetched_by_ssh() {
    let mut lab = Lab::new();
    // In the place of ssh: it says what it was asked, and to whom.
    let ssh = lab.file("bin/ssh", "#!/bin/sh\necho \"$@\" > \"$HOME/asked\"\nexit 1\n");
    fs::set_permissions(&ssh, PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", lab.at("bin"));
    lab.env.push(("PATH".into(), path));
    lab.file("home/.ssh/known_hosts", "");
    for (context, host) in
        [("git@host.test:o/r.git", "git@host.test"), ("ssh://me@host.test:2222/o/r", "-p 2222")]
    {
        lab.forge(&["build", "-q", context]).report(5);
        let asked = fs::read_to_string(lab.path("home/asked")).unwrap();
        assert!(asked.contains(host) && asked.contains("git-upload-pack"), "{asked}");
        assert!(
            asked.contains(&format!("UserKnownHostsFile={}", lab.at("home/.ssh/known_hosts"))),
            "{asked}"
        );
    }
}

#[test]
fn repositories_and_urls_are_named_contexts() {
    let lab = Lab::with_busybox();
    let daemon = GitDaemon::start();
    daemon.repository("r", |dir| {
        fs::create_dir(dir.join("sub")).unwrap();
        fs::write(dir.join("sub/file"), "of the repository").unwrap();
    });
    let files = lab.context("files", &[("packed-file", "of the archive")]);
    let (archive, plain) = (serve(tar(&lab, &files, "-czf")), serve(b"of the file".to_vec()));
    let contexts = [
        format!("git={}#main:sub", daemon.url("r")),
        format!("archive={}", archive.url("/a.tgz")),
        format!("plain={}", plain.url("/p")),
        format!("base={}", archive.url("/a.tgz")),
        // Never asked for, so it need not be there.
        "unused=http://127.0.0.1:1/x".to_owned(),
    ];
    let args: Vec<&str> = contexts.iter().flat_map(|context| ["--build-context", context]).collect();
    let text = "FROM busybox\nCOPY --from=git file /g\nCOPY --from=archive packed-file /a\n\
                COPY --from=plain context /p\nRUN --mount=from=git,target=/m cp /m/file /m2\n";
    lab.build_text(text, &[&["-q", "-t", "x"], args.as_slice()].concat()).success();
    assert_eq!(
        lab.shell("x", "cat /g; echo; cat /a; echo; cat /p; echo; cat /m2; stat -c ' %u:%g' /a"),
        "of the repository\nof the archive\nof the file\nof the repository 0:0"
    );
    let again = lab.build_text(text, &[&["--progress", "plain"], args.as_slice()].concat());
    assert_eq!(again.steps().1, [""; 0], "{again}");
    lab.build_text("FROM base\n", &[&["-q", "-o", "out"], args.as_slice()].concat()).success();
    assert_eq!(fs::read_to_string(lab.path("out/packed-file")).unwrap(), "of the archive");
}

#[test]
fn a_named_context_may_be_for_one_platform() {
    let lab = Lab::new();
    let (arm, all) = (lab.context("arm", &[("f", "arm")]), lab.context("all", &[("f", "all")]));
    let contexts = [format!("files={}", all.display()), format!("files::linux/arm64={}", arm.display())];
    let args: Vec<&str> = contexts.iter().flat_map(|context| ["--build-context", context]).collect();
    for (platform, content) in [("linux/arm64", "arm"), ("linux/amd64", "all")] {
        let text = "FROM scratch\nCOPY --from=files f /\n";
        lab.build_text(text, &[&["-q", "--platform", platform, "-o", "out"], args.as_slice()].concat())
            .success();
        assert_eq!(fs::read_to_string(lab.path("out/f")).unwrap(), content, "{platform}");
        fs::remove_dir_all(lab.path("out")).unwrap();
    }
}

#[test]
fn hostile_contexts_are_refused() {
    let lab = Lab::with_busybox();
    let secret = lab.file("secret", "FROM busybox\n# not yours\n");
    let untouched = fs::read(&secret).unwrap();
    // A link where the Dockerfile should be, and then what is no tar any more (CVE-2026-44517).
    let context = lab.context("links", &[]);
    symlink(&secret, context.join("Dockerfile")).unwrap();
    symlink("/etc", context.join("etc")).unwrap();
    let mut broken = tar(&lab, &context, "-cf");
    broken.truncate(1_536);
    broken.extend([0xaa; 4_096]);
    let web = serve(broken.clone());
    for file in ["Dockerfile", "etc/passwd"] {
        let report = lab.forge(&["build", "-q", "-f", file, &web.url("/x")]).report(3);
        assert!(report.starts_with("error: cannot unpack the context"), "{report}");
        let packed = lab.path("packed");
        fs::write(&packed, &broken).unwrap();
        build_from(&lab, &packed, &["-f", file, "-"]).report(3);
    }
    // The whole archive: links are looked up inside it.
    let web = serve(tar(&lab, &context, "-cf"));
    for file in ["Dockerfile", "etc/passwd"] {
        let report = lab.forge(&["build", "-q", "-f", file, &web.url("/x")]).report(3);
        assert!(report.starts_with("error: failed to read dockerfile"), "{report}");
    }
    // First a broken tar, then a Dockerfile: the second answer is not asked for.
    let turn = std::sync::atomic::AtomicUsize::new(0);
    let first = broken.clone();
    let two_faced = Web::start(move |_| {
        let body = match turn.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => first.clone(),
            _ => b"FROM busybox\n".to_vec(),
        };
        (200, vec![], body)
    });
    lab.forge(&["build", "-q", &two_faced.url("/x")]).report(3);
    assert_eq!(two_faced.count(), 1);
    assert_eq!(fs::read(&secret).unwrap(), untouched);
    // Larger than anything may be, by its own word.
    let huge = Web::start(|_| (200, vec![("Content-Length", (17_u64 << 30).to_string())], vec![]));
    let report = lab.forge(&["build", "-q", &huge.url("/x")]).report(5);
    assert!(report.contains("larger than 17179869184 bytes"), "{report}");
    let report = build_from(&lab, Path::new("/dev/zero"), &["-"]).report(3);
    assert!(report.contains("no tar archive, and too large for a Dockerfile"), "{report}");
    assert!(lab.unfinished().is_empty());
}

#[test]
fn hostile_repositories_and_addresses_are_refused() {
    let lab = Lab::with_busybox();
    let daemon = GitDaemon::start();
    let secret = lab.file("secret", "FROM busybox\n");
    daemon.repository("r", |dir| {
        fs::write(dir.join("Other"), "FROM busybox\n").unwrap();
        symlink("/", dir.join("root")).unwrap();
        symlink("../..", dir.join("up")).unwrap();
        symlink(&secret, dir.join("Dockerfile")).unwrap();
        symlink(&secret, dir.join(".dockerignore")).unwrap();
    });
    let url = daemon.url("r");
    let report = lab.forge(&["build", "-q", &url]).report(3);
    assert!(report.starts_with("error: failed to read dockerfile"), "{report}");
    // The ignore file's link leads nowhere inside, so there is none.
    lab.forge(&["build", "-q", "-f", "Other", &url]).success();
    for subdir in ["root", "root/etc", "up", "Other", "nothing"] {
        let report = lab.forge(&["build", "-q", &format!("{url}#main:{subdir}")]).report(4);
        assert!(report.contains("is not a directory of repository"), "{subdir}: {report}");
    }
    // Cleaned, not followed: it stays inside.
    lab.forge(&["build", "-q", "-f", "Other", &format!("{url}#main:../../.")]).success();
    let marker = lab.at("marker");
    for (bad, code) in [
        (format!("{url}#--upload-pack=touch {marker}"), 2),
        (format!("{url}?ref=--upload-pack=x"), 2),
        (format!("{url}?nope=x"), 2),
        (format!("{url}#a..b"), 2),
        (format!("ext::sh -c touch% {marker}"), 3),
        (format!("file://{}", lab.at("")), 3),
        ("git://-oProxyCommand=x/y".to_owned(), 2),
        ("ssh://-oProxyCommand=x/y".to_owned(), 2),
        ("git://169.254.169.254/x".to_owned(), 3),
        ("http://169.254.169.254/x".to_owned(), 3),
        (format!("{url}#missing"), 4),
    ] {
        lab.forge(&["build", "-q", "--", &bad]).report(code);
    }
    assert!(!lab.path("marker").exists());
    assert!(lab.unfinished().is_empty());
}

#[test]
fn a_context_and_a_dockerfile_cannot_both_be_on_standard_input() {
    let lab = Lab::new();
    let report = lab.forge(&["build", "-f", "-", "-"]).report(2);
    assert!(report.starts_with("error: can't use stdin for both build context and dockerfile"), "{report}");
    let report = lab.forge_with_input(&["build", "-f", "Dockerfile", "-"], "FROM scratch\n").report(2);
    assert!(report.starts_with("error: ambiguous Dockerfile source"), "{report}");
}

#[test]
fn what_follows_an_archive_in_a_pipe_is_read_to_its_end() {
    let lab = Lab::new();
    let context = lab.context("ctx", &[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    // Padding of 4 MB: a writer that was cut off before it would fail.
    let script = "set -o pipefail; tar -C \"$1\" -b 8192 -cf - . | \"${@:2}\"";
    let forge = lab.command(&["build", "-q", "-"]);
    let mut command = Command::new("bash");
    command.args(["-c", script, "bash"]).arg(&context).arg(forge.get_program()).args(forge.get_args());
    let outcome: Outcome = command.output().unwrap().into();
    outcome.success();
    // A compressed one must be whole, even where the tar in it is.
    let mut packed = tar(&lab, &context, "-czf");
    let cut = packed.len() - 6;
    packed.truncate(cut);
    let input = lab.path("cut");
    fs::write(&input, packed).unwrap();
    let report = build_from(&lab, &input, &["-"]).report(3);
    assert!(report.starts_with("error: cannot unpack the context"), "{report}");
}
