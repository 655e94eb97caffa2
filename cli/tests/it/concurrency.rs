//! Several forges at once.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Lab, Registry, json};

/// Counts who connects; ends with the test's process.
fn counter() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            counted.fetch_add(1, Ordering::SeqCst);
            let mut line = String::new();
            let _ = BufReader::new(stream.try_clone().unwrap()).read_line(&mut line);
            let _ = stream.write_all(b"counted\n");
        }
    });
    (port, count)
}

#[test]
fn identical_work_of_several_forges_is_done_once() {
    let lab = Lab::with_busybox();
    let (port, count) = counter();
    let text =
        format!("FROM busybox\nRUN --network=host echo x | nc 127.0.0.1 {port}; sleep 1; date +%N > /when\n");
    lab.context("ctx", &[("Dockerfile", &text)]);
    let start = || lab.start(&["build", "-q", "--allow", "network.host", &lab.at("ctx")]);
    let builds: Vec<_> = (0..4).map(|_| start()).collect();
    let digests: BTreeSet<String> = builds.into_iter().map(|build| build.finish().success()).collect();
    assert_eq!(digests.len(), 1, "{digests:?}");
    assert_eq!(count.load(Ordering::SeqCst), 1, "the step ran once");
}

#[test]
fn identical_stages_of_one_build_are_done_once() {
    let lab = Lab::with_busybox();
    let (port, count) = counter();
    let step = format!("RUN --network=host echo x | nc 127.0.0.1 {port}; sleep 1; date +%N > /when\n");
    let text = format!(
        "FROM busybox AS a\n{step}FROM busybox AS b\n{step}\
         FROM busybox\nCOPY --from=a /when /a\nCOPY --from=b /when /b\nRUN cmp /a /b\n"
    );
    lab.build_text(&text, &["--allow", "network.host"]).success();
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[test]
fn stages_that_do_not_depend_on_each_other_run_side_by_side() {
    let lab = Lab::with_busybox();
    // Each waits until the other has come: one after the other, neither would.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let streams: Vec<_> = listener.incoming().take(2).map(Result::unwrap).collect();
        streams.iter().for_each(|mut stream| stream.write_all(b"both\n").unwrap());
    });
    let step =
        |name: &str| format!("RUN --network=host timeout 20 nc 127.0.0.1 {port} | grep both > /{name}\n");
    let text = format!(
        "FROM busybox AS a\n{}FROM busybox AS b\n{}FROM busybox\nCOPY --from=a /a /\nCOPY --from=b /b /\n",
        step("a"),
        step("b")
    );
    lab.build_text(&text, &["--allow", "network.host"]).success();
}

#[test]
fn different_builds_in_one_store_do_not_disturb_each_other() {
    let lab = Lab::new();
    // The store itself is made by whoever comes first.
    let start = |number: usize| {
        let context = format!("ctx{number}");
        let text = format!("FROM scratch\nCOPY f /f{number}\nENV N={number}\n");
        lab.context(&context, &[("Dockerfile", &text), ("f", "same")]);
        lab.start(&["build", "-q", "-t", &format!("n{number}"), &lab.at(&context)])
    };
    let builds: Vec<_> = (0..6).map(start).collect();
    let digests: Vec<String> = builds.into_iter().map(|build| build.finish().success()).collect();
    for (number, digest) in digests.iter().enumerate() {
        let shown = json(&lab.forge(&["inspect", &format!("n{number}")]).success());
        assert_eq!(shown[0]["Digest"], *digest);
    }
    assert_eq!(lab.forge(&["images", "-q"]).success().lines().count(), 6);
    assert!(lab.unfinished().is_empty());
}

#[test]
fn pulls_of_the_same_image_at_once_all_succeed() {
    let (maker, registry) = (Lab::with_busybox(), Registry::open());
    let name = format!("{}/b:1", registry.host);
    maker.forge(&["tag", "busybox", &name]).success();
    let digest = maker.forge(&["push", "-q", &name]).success();
    let lab = Lab::new();
    let pulls: Vec<_> = (0..4).map(|_| lab.start(&["pull", "-q", &name])).collect();
    for pull in pulls {
        assert_eq!(pull.finish().success(), digest);
    }
    assert_eq!(lab.forge(&["run", "--network=none", &name, "echo", "ok"]).success(), "ok");
}
