//! `forge.lock`: builds from what names stood for, and what moved since.

use std::fs;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use crate::support::{GitDaemon, Lab, Registry, Repository, Web, json};

/// A registry with two images under one tag after another, a file and a repository, and a Dockerfile of them all.
struct Outside {
    maker: Lab,
    registry: Registry,
    file: Arc<Mutex<Vec<u8>>>,
    web: Option<Web>,
    _daemon: GitDaemon,
    repository: Repository,
    git_url: String,
}

impl Outside {
    fn new() -> Self {
        let file = Arc::new(Mutex::new(b"one".to_vec()));
        let served = file.clone();
        let web = Web::start(move |_| {
            let modified = "Sun, 06 Nov 1994 08:49:37 GMT".to_owned();
            (200, vec![("Last-Modified", modified)], served.lock().unwrap().clone())
        });
        let daemon = GitDaemon::start();
        let repository = daemon.repository("r", |dir| fs::write(dir.join("f"), "one").unwrap());
        let git_url = daemon.url("r");
        let outside = Self {
            maker: Lab::with_busybox(),
            registry: Registry::open(),
            file,
            web: Some(web),
            _daemon: daemon,
            repository,
            git_url,
        };
        outside.move_images("one");
        outside
    }

    fn image(&self, name: &str) -> String {
        format!("{}/{name}:1", self.registry.host)
    }

    /// Gives both tags of the registry another image.
    fn move_images(&self, word: &str) {
        for name in ["base", "tools"] {
            let text = format!("FROM busybox\nRUN echo {word} > /{name}\n");
            self.maker.build_text(&text, &["-q", "-t", &self.image(name), "--push"]).success();
        }
    }

    fn move_file(&self, word: &str) {
        *self.file.lock().unwrap() = word.as_bytes().to_vec();
    }

    fn move_branch(&self, word: &str) {
        fs::write(self.repository.dir.join("f"), word).unwrap();
        self.repository.commit(word);
    }

    fn file_url(&self) -> String {
        self.web.as_ref().unwrap().url("/file")
    }

    fn dockerfile(&self) -> String {
        format!(
            "FROM {}\nCOPY --from={} /tools /tools\nADD {} /file\nADD {}#main /r\n\
             RUN --mount=from={},target=/m cat /m/tools > /mounted\n",
            self.image("base"),
            self.image("tools"),
            self.file_url(),
            self.git_url,
            self.image("tools"),
        )
    }
}

const SHOW: &str = "cat /base /tools /mounted /file /r/f; stat -c %Y /file";

#[test]
fn a_frozen_build_is_the_locked_one_whatever_moved() {
    let outside = Outside::new();
    let lab = Lab::new();
    let context = lab.context("ctx", &[("Dockerfile", &outside.dockerfile())]);
    let first = lab.build(&context, &["-q", "-t", "x", "--lock=update"]).success();
    let text = fs::read_to_string(context.join("forge.lock")).unwrap();
    let lock = json(&text);
    let names = |key: &str| lock[key].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names("images"), [outside.image("base"), outside.image("tools")]);
    assert_eq!(names("http"), [outside.file_url()]);
    assert_eq!(names("git"), [format!("{}#main", outside.git_url)]);
    assert_eq!(lock["git"][&names("git")[0]], outside.repository.git(&["rev-parse", "HEAD"]));
    assert_eq!(lock["http"][outside.file_url()]["mtime"], 784_111_777);
    outside.move_images("two");
    outside.move_branch("two");
    assert_eq!(lab.build(&context, &["-q", "--lock=frozen"]).success(), first);
    // Another machine, which has nothing of it yet: all but the file can be had from where it was.
    let other = Lab::new();
    let copy = other.context("ctx", &[("Dockerfile", &outside.dockerfile()), ("forge.lock", &text)]);
    other.build(&copy, &["-q", "-t", "x", "--lock=frozen"]).success();
    assert_eq!(other.shell("x", SHOW), "one\none\none\noneone784111777");
    // Without being asked, a build does not look at the file.
    other.build(&copy, &["-q", "-t", "y"]).success();
    assert_eq!(other.shell("y", SHOW), "two\ntwo\ntwo\nonetwo784111777");
    // What is not what was locked is refused.
    outside.move_file("two");
    let third = Lab::new();
    let copy = third.context("ctx", &[("Dockerfile", &outside.dockerfile()), ("forge.lock", &text)]);
    let report = third.build(&copy, &["-q", "--lock=frozen"]).report(6);
    for part in [outside.file_url().as_str(), "ctx/Dockerfile:3:5", "forge.lock", "--lock=update"] {
        assert!(report.contains(part), "{part}: {report}");
    }
}

#[test]
fn a_frozen_build_with_everything_at_hand_needs_no_network() {
    let mut outside = Outside::new();
    let lab = Lab::new();
    let context = lab.context("ctx", &[("Dockerfile", &outside.dockerfile())]);
    let first = lab.build(&context, &["-q", "--lock=update"]).success();
    // The registry's tags are known by the network alone: without it an ordinary build has nothing to go by.
    let host = outside.registry.host.clone();
    let web = outside.web.take().unwrap();
    drop(outside);
    let asked_before = web.count();
    let silence = TcpListener::bind(&host).unwrap();
    silence.set_nonblocking(true).unwrap();
    assert_eq!(lab.build(&context, &["-q", "--lock=frozen"]).success(), first);
    assert_eq!(web.count(), asked_before);
    let asked = silence.accept().map(drop).map_err(|error| error.kind());
    assert_eq!(asked, Err(std::io::ErrorKind::WouldBlock), "the registry was asked for something");
}

#[test]
fn a_frozen_build_names_what_the_lock_lacks() {
    let lab = Lab::with_busybox();
    let text =
        "FROM busybox AS a\nFROM busybox\nADD http://127.0.0.1:9/f /f\nADD git://127.0.0.1:9/r.git#v1 /r\n";
    let context = lab.context("ctx", &[("Dockerfile", text)]);
    let report = lab.build(&context, &["--lock=frozen"]).report(4);
    assert!(report.contains("ctx/forge.lock") && report.contains("--lock=update"), "{report}");
    lab.file("ctx/forge.lock", "{\"version\": 1}");
    let report = lab.build(&context, &["--lock=frozen"]).report(3);
    for part in [
        "error: image busybox for linux/",
        "ctx/Dockerfile:2:6",
        "help: add it with `forge build --lock=update`",
    ] {
        assert!(report.contains(part), "{part}: {report}");
    }
    // The base is locked now, what the Dockerfile got since is not.
    lab.file("ctx/Dockerfile", "FROM busybox\nENV A=1\n");
    lab.build(&context, &["-q", "--lock=update"]).success();
    lab.file("ctx/Dockerfile", text);
    let report = lab.build(&context, &["--lock=frozen"]).report(3);
    for part in [
        "error: http://127.0.0.1:9/f is not in forge.lock",
        "ctx/Dockerfile:3:5",
        "error: git://127.0.0.1:9/r.git#v1 is not in forge.lock",
        "ctx/Dockerfile:4:5",
        "help: add it with `forge build --lock=update`",
    ] {
        assert!(report.contains(part), "{part}: {report}");
    }
    lab.file("ctx/forge.lock", "{\"version\": 7}");
    let report = lab.build(&context, &["--lock=frozen"]).report(3);
    assert!(report.starts_with("error: cannot read"), "{report}");
    assert!(report.contains("version 7"), "{report}");
}

#[test]
fn images_of_the_store_are_locked_and_pinned_ones_need_no_lock() {
    let lab = Lab::with_busybox();
    let digest = lab.forge(&["images", "-q", "--json"]).success();
    assert!(!digest.is_empty());
    let locked = lab.context("locked", &[("Dockerfile", "FROM busybox\nENV A=1\n")]);
    let args = ["-q", "--lock=update", "--lock-file", "kept.json"];
    let first = lab.build(&locked, &args).success();
    assert!(!locked.join("forge.lock").exists());
    let lock = json(&fs::read_to_string(lab.path("kept.json")).unwrap());
    let platforms = lock["images"]["busybox"].as_object().unwrap();
    let base = platforms.values().next().unwrap().as_str().unwrap().to_owned();
    // The name moves; what it was is still in the store.
    lab.build_text("FROM busybox\nENV B=2\n", &["-q", "-t", "busybox"]).success();
    assert_ne!(lab.build(&locked, &["-q"]).success(), first);
    let frozen = ["-q", "--lock=frozen", "--lock-file", "kept.json"];
    assert_eq!(lab.build(&locked, &frozen).success(), first);
    let pinned = lab.context("pinned", &[("Dockerfile", &format!("FROM busybox@{base}\nENV A=1\n"))]);
    lab.file("pinned/forge.lock", "{\"version\": 1}");
    lab.build(&pinned, &["-q", "--lock=frozen"]).success();
    // A target's lock leaves what other targets wrote.
    let other = lab.context("other", &[("Dockerfile", "FROM busybox AS more\nENV C=3\n")]);
    lab.forge(&["tag", "busybox", "more:1"]).success();
    lab.file("other/Dockerfile", "FROM more:1\nENV C=3\n");
    lab.build(&other, &args).success();
    let lock = json(&fs::read_to_string(lab.path("kept.json")).unwrap());
    assert_eq!(lock["images"].as_object().unwrap().len(), 2, "{lock}");
}

#[test]
fn words_that_say_nothing_together_are_refused() {
    let lab = Lab::with_busybox();
    let context = lab.context("ctx", &[("Dockerfile", "FROM busybox\nENV A=1\n")]);
    for args in [&["--lock-file", "x"][..], &["--lock=frozen", "--pull"], &["--lock=sometimes"]] {
        assert_eq!(lab.build(&context, args).code, 2, "{args:?}");
    }
    let report = lab.forge_with_input(&["build", "--lock=update", "-"], "FROM busybox\nENV A=1\n").report(2);
    assert!(report.contains("--lock-file"), "{report}");
    assert_eq!(lab.forge(&["outdated", &lab.at("ctx")]).code, 4);
}

#[test]
fn outdated_lists_what_moved() {
    let outside = Outside::new();
    let lab = Lab::new();
    let context = lab.context("ctx", &[("Dockerfile", &outside.dockerfile())]);
    let at = context.to_str().unwrap().to_owned();
    lab.build(&context, &["-q", "--lock=update"]).success();
    assert_eq!(lab.forge(&["outdated", &at]).success(), "");
    outside.move_images("two");
    outside.move_branch("two");
    let text = lab.forge(&["outdated", &at]);
    assert_eq!(text.code, 10, "{text}");
    assert_eq!(text.stdout.matches("locked").count(), 3, "{text}");
    assert!(text.stdout.contains(&format!("git   {}#main", outside.git_url)), "{text}");
    outside.move_file("two");
    let listed = lab.forge(&["outdated", "--json", &at]);
    assert_eq!(listed.code, 10, "{listed}");
    let entries = json(&listed.stdout);
    let moved = |entry: &&serde_json::Value| entry["moved"] == true && entry["now"] != entry["locked"];
    assert_eq!(entries.as_array().unwrap().iter().filter(moved).count(), 4, "{listed}");
    // Taking it over is one command, after which nothing is outdated.
    lab.build(&context, &["-q", "--lock=update", "--pull"]).success();
    assert_eq!(lab.forge(&["outdated", &at]).code, 0);
    // What cannot be asked is not up to date.
    let host = outside.registry.host.clone();
    drop(outside);
    let gone = lab.forge(&["outdated", &at]);
    assert!(![0, 10].contains(&gone.code), "{gone}");
    assert!(gone.stderr.contains(&format!("cannot find out what {host}/base:1 stands for now")), "{gone}");
}
