//! ADD of what is not on this machine: files at URLs, git repositories.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::{Arc, Mutex};

use crate::support::{Builder, GitDaemon, Lab, Web, tool};

/// `hello`, its digest, and a server that has it under every path, with an entity tag.
fn hello(content: Arc<Mutex<Vec<u8>>>) -> Web {
    Web::start(move |head| {
        let body = content.lock().unwrap().clone();
        let tag = format!("\"{}\"", body.len());
        if head.to_lowercase().contains(&format!("if-none-match: {tag}")) {
            return (304, vec![], vec![]);
        }
        let modified = "Sun, 06 Nov 1994 08:49:37 GMT".to_owned();
        (200, vec![("ETag", tag), ("Last-Modified", modified)], body)
    })
}

const HELLO: &str = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

#[test]
fn a_file_at_a_url_is_added_as_docker_adds_it() {
    let lab = Lab::with_busybox();
    let web = hello(Arc::new(Mutex::new(b"hello".to_vec())));
    let text = format!(
        "FROM busybox\nADD {} /d/\nADD {} /named\nADD --chmod=755 --chown=7:8 {} /e\nADD {} /f/\n",
        web.url("/a/name.txt?x=y"),
        web.url("/b"),
        web.url("/c"),
        web.url("/..%2f..%2fetc/%2e%2e")
    );
    lab.build_text(&text, &["-t", "x"]).success();
    let seen = lab.shell("x", "stat -c '%n %a %u:%g %s %Y' /d/* /named /e /f/*; cat /d/name.txt");
    assert_eq!(
        seen,
        "/d/name.txt 600 0:0 5 784111777\n/named 600 0:0 5 784111777\n/e 755 7:8 5 784111777\n\
         /f/__unnamed__ 600 0:0 5 784111777\nhello"
    );
}

#[test]
fn a_url_is_revalidated_and_a_demanded_digest_is_not_asked_for_again() {
    let lab = Lab::with_busybox();
    let content = Arc::new(Mutex::new(b"hello".to_vec()));
    let web = hello(content.clone());
    let text = format!("FROM busybox\nADD {} /a\n", web.url("/a"));
    let first = lab.build_text(&text, &["-q"]).success();
    let again = lab.build_text(&text, &["--progress", "plain"]);
    assert_eq!(again.steps().1, [""; 0], "{again}");
    assert_eq!((again.success(), web.count()), (first.clone(), 2));
    let pinned = text.replace("ADD ", &format!("ADD --checksum={HELLO} "));
    lab.build_text(&pinned, &["-q"]).success();
    assert_eq!(web.count(), 2);
    *content.lock().unwrap() = b"changed".to_vec();
    assert_ne!(lab.build_text(&text, &["-q"]).success(), first);
    let report = lab.build_text(&pinned, &["-q"]).report(6);
    assert!(
        report.starts_with(&format!("error: expected checksum to match {HELLO}, got sha256:")),
        "{report}"
    );
    assert!(report.contains("ctx/Dockerfile:2:"), "{report}");
}

#[test]
fn remote_archives_are_unpacked_only_where_that_is_asked_for() {
    let lab = Lab::with_busybox();
    let dir = lab.context("files", &[("inside", "1")]);
    tool("tar", &["-C", dir.to_str().unwrap(), "-czf", &lab.at("a.tgz"), "."]);
    let bytes = fs::read(lab.path("a.tgz")).unwrap();
    let web = Web::start(move |_| (200, vec![], bytes.clone()));
    let url = web.url("/a.tgz");
    lab.build_text(&format!("FROM busybox\nADD {url} /p/\nADD --unpack {url} /u/\n"), &["-t", "x"]).success();
    assert_eq!(lab.shell("x", "ls /p /u"), "/p:\na.tgz\n\n/u:\ninside");
}

#[test]
fn passwords_in_urls_are_in_no_history_and_no_progress() {
    let lab = Lab::with_busybox();
    let web = hello(Arc::new(Mutex::new(b"hello".to_vec())));
    let url = web.url("/a").replace("http://", "http://me:s3cret@");
    let outcome =
        lab.build_text(&format!("FROM busybox\nADD {url} /a\n"), &["-t", "x", "--progress", "plain"]);
    assert!(!outcome.stderr.contains("s3cret") && outcome.stderr.contains("xxxxx@"), "{outcome}");
    outcome.success();
    assert!(!lab.config("x").to_string().contains("s3cret"));
}

#[test]
fn some_addresses_are_not_asked_and_all_that_fail_are_told() {
    let lab = Lab::with_busybox();
    let web = Web::start(|head| match head.contains("/away") {
        true => (302, vec![("Location", "http://169.254.169.254/x".into())], vec![]),
        false => (404, vec![], vec![]),
    });
    let text = format!(
        "FROM busybox\nADD http://169.254.169.254/latest /a\nADD {} /b\nADD {} /c\nADD git://169.254.169.254/x /d\n",
        web.url("/away"),
        web.url("/gone")
    );
    let report = lab.build_text(&text, &["-q"]).report(3);
    for line in ["Dockerfile:2:", "Dockerfile:3:", "Dockerfile:4:", "Dockerfile:5:"] {
        assert!(report.contains(line), "{line}: {report}");
    }
    assert_eq!(report.matches("link-local").count(), 2, "{report}");
}

#[test]
fn a_repository_is_added_by_branch_tag_commit_and_directory() {
    for builder in [Builder::Root, Builder::User] {
        let lab = Lab::of(builder);
        lab.add_busybox();
        let daemon = GitDaemon::start();
        let repository = daemon.repository("r", |dir| {
            fs::create_dir_all(dir.join("sub/deep")).unwrap();
            fs::write(dir.join("sub/deep/file"), "one").unwrap();
            fs::write(dir.join("run"), "#!/bin/sh\n").unwrap();
            fs::set_permissions(dir.join("run"), PermissionsExt::from_mode(0o700)).unwrap();
            symlink("run", dir.join("link")).unwrap();
        });
        repository.git(&["tag", "-a", "v1", "-m", "one"]);
        let first = repository.git(&["rev-parse", "HEAD"]);
        fs::write(repository.dir.join("sub/deep/file"), "two").unwrap();
        repository.commit("two");
        let url = daemon.url("r");
        let text = format!(
            "FROM busybox\nADD {url} /main\nADD {url}#v1:sub /tag\nADD {url}#{first} /commit\n\
             ADD {url}?branch=main&subdir=sub/deep /query\nADD --keep-git-dir --checksum={} {url}#v1 /kept\n",
            &first[..12]
        );
        lab.build_text(&text, &["-t", "x"]).success();
        let files = "cat /main/sub/deep/file /tag/deep/file /commit/sub/deep/file /query/file; ls -A /main";
        assert_eq!(lab.shell("x", files), "twooneonetwolink\nrun\nsub");
        let stat = "stat -c '%n %a %u:%g %Y' /main/run /main/sub /main/sub/deep/file /main/link";
        assert_eq!(
            lab.shell("x", stat),
            "/main/run 755 0:0 1577934245\n/main/sub 755 0:0 1577934245\n/main/sub/deep/file 644 0:0 1577934245\n\
             /main/link 777 0:0 1577934245"
        );
        assert_eq!(lab.shell("x", "cat /kept/.git/HEAD; test ! -e /kept/.git/logs"), first);
    }
}

#[test]
fn a_branch_that_moved_is_built_anew_and_one_that_did_not_is_not() {
    let lab = Lab::with_busybox();
    let daemon = GitDaemon::start();
    let repository = daemon.repository("r", |dir| fs::write(dir.join("f"), "1").unwrap());
    let text = format!("FROM busybox\nADD {} /r\n", daemon.url("r"));
    let first = lab.build_text(&text, &["-q"]).success();
    assert_eq!(lab.build_text(&text, &["-q"]).success(), first);
    fs::write(repository.dir.join("f"), "2").unwrap();
    repository.commit("two");
    assert_ne!(lab.build_text(&text, &["-q"]).success(), first);
}

#[test]
fn submodules_come_along_unless_they_are_of_another_transport() {
    let lab = Lab::with_busybox();
    let daemon = GitDaemon::start();
    let inner = daemon.repository("inner", |dir| fs::write(dir.join("in"), "in").unwrap());
    let outer = daemon.repository("outer", |_| ());
    outer.git(&["submodule", "add", "-q", "--", &daemon.url("inner"), "sub"]);
    outer.commit("with a submodule");
    let url = daemon.url("outer");
    let text = format!("FROM busybox\nADD {url} /with\nADD {url}?submodules=0 /without\n");
    lab.build_text(&text, &["-t", "x"]).success();
    assert_eq!(lab.shell("x", "find /with /without -name '.git' -o -name in"), "/with/sub/in");
    let local = daemon.repository("local", |_| ());
    local.git(&["submodule", "add", "-q", "--", inner.dir.to_str().unwrap(), "sub"]);
    local.commit("with a file of this machine");
    let report =
        lab.build_text(&format!("FROM busybox\nADD {} /x\n", daemon.url("local")), &["-q"]).report(5);
    assert!(report.contains("not allowed"), "{report}");
}

#[test]
fn a_repository_cannot_run_anything_or_lead_elsewhere() {
    let lab = Lab::with_busybox();
    let daemon = GitDaemon::start();
    let marker = lab.at("marker");
    daemon.repository("r", |dir| {
        // Filters and hooks that would run if anything of them were believed.
        fs::write(dir.join(".gitattributes"), "* filter=evil\n").unwrap();
        fs::write(dir.join(".gitconfig"), format!("[filter \"evil\"]\n smudge = touch {marker}\n")).unwrap();
        fs::create_dir(dir.join("hooks")).unwrap();
        fs::write(dir.join("hooks/post-checkout"), format!("#!/bin/sh\ntouch {marker}\n")).unwrap();
        fs::set_permissions(dir.join("hooks/post-checkout"), PermissionsExt::from_mode(0o755)).unwrap();
        symlink("/", dir.join("root")).unwrap();
        symlink("../..", dir.join("up")).unwrap();
    });
    // The user's own configuration does not count either.
    lab.file(
        "home/.gitconfig",
        &format!("[core]\n fsmonitor = touch {marker}\n[alias]\n fetch = !touch {marker}\n"),
    );
    let url = daemon.url("r");
    lab.build_text(&format!("FROM busybox\nADD {url} /x\n"), &["-q"]).success();
    for subdir in ["root", "root/etc", "up", "hooks/post-checkout", "nothing"] {
        let report =
            lab.build_text(&format!("FROM busybox\nADD {url}#main:{subdir} /x\n"), &["-q"]).report(4);
        assert!(report.contains("is not a directory of repository"), "{subdir}: {report}");
    }
    for reference in ["--upload-pack=x", "a..b"] {
        let report = lab.build_text(&format!("FROM busybox\nADD {url}#{reference} /x\n"), &["-q"]).report(3);
        assert!(report.contains("invalid git reference"), "{report}");
    }
    assert!(!lab.path("marker").exists());
    assert!(lab.unfinished().is_empty());
}
