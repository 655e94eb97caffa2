//! Builds that are stopped: soon over, and nothing stays.

use std::time::{Duration, Instant};

use crate::support::{Builder, Lab, Marker, Started, soon};

/// A build that sleeps in its second step, under way.
fn sleeping(lab: &Lab, marker: &Marker) -> Started {
    let text = format!("FROM busybox\nRUN echo first > /first\nRUN sleep {} & sleep {0}\n", marker.0);
    lab.context("ctx", &[("Dockerfile", &text)]);
    let child = lab.start(&["build", "-t", "never", &lab.at("ctx")]);
    soon("the step runs", || marker.processes().len() >= 2);
    child
}

fn stopped_by(builder: Builder, signal: &str, code: i32) {
    let lab = Lab::of(builder);
    lab.add_busybox();
    let marker = Marker::new();
    let mut child = sleeping(&lab, &marker);
    let pid = child.pid();
    let sent = Instant::now();
    child.send(signal);
    let outcome = child.finish();
    assert!(sent.elapsed() < Duration::from_secs(2), "{signal}: {:?}", sent.elapsed());
    let report = outcome.report(code);
    assert_eq!(report, "error: stopped by the user\n");
    assert_eq!(marker.processes(), [""; 0]);
    lab.assert_nothing_left(pid);
    assert!(!lab.forge(&["images"]).success().contains("never"));

    // What was done is kept, and the next build is none the worse.
    let next = lab.build_text("FROM busybox\nRUN echo first > /first\nRUN true\n", &[]);
    assert!(next.steps().0.contains(&"[2/3] RUN echo first > /first".to_owned()), "{next}");
    next.success();
}

#[test]
fn ctrl_c_ends_a_build_within_two_seconds() {
    stopped_by(Builder::Root, "-INT", 130);
}

#[test]
fn sigterm_does_too() {
    stopped_by(Builder::Root, "-TERM", 143);
}

#[test]
fn a_terminal_that_goes_away_does_too() {
    stopped_by(Builder::Root, "-HUP", 129);
}

#[test]
fn ctrl_c_ends_a_build_of_a_user() {
    stopped_by(Builder::User, "-INT", 130);
}

/// It has ten seconds, and who does not want to wait presses Ctrl-C again.
#[test]
fn a_step_that_ignores_sigterm_is_told_of_and_ended_all_the_same() {
    let lab = Lab::with_busybox();
    let marker = Marker::new();
    let text = format!("FROM busybox\nRUN trap '' TERM INT; sleep {}; sleep {0}; sleep {0}\n", marker.0);
    lab.context("ctx", &[("Dockerfile", &text)]);
    let mut child = lab.start(&["build", &lab.at("ctx")]);
    soon("the step runs", || marker.processes().len() >= 2);
    let pid = child.pid();
    child.send("-INT");
    let outcome = child.finish();
    assert!(outcome.stderr.contains("the step does not obey SIGTERM: it has 10 s"), "{outcome}");
    outcome.report(130);
    assert_eq!(marker.processes(), [""; 0]);
    lab.assert_nothing_left(pid);
}

#[test]
fn a_step_that_catches_sigterm_has_time_to_tidy_up() {
    let lab = Lab::with_busybox();
    let text = "FROM busybox\nRUN trap 'sleep 2; echo tidied; exit 1' TERM; echo begun; while true; do sleep 0.1; done\n";
    lab.context("ctx", &[("Dockerfile", text)]);
    let mut child = lab.start(&["build", "--progress=plain", &lab.at("ctx")]);
    let mut stderr = std::io::BufReader::new(child.stderr());
    let mut said = String::new();
    while !said.contains(" begun\n") {
        assert!(std::io::BufRead::read_line(&mut stderr, &mut said).unwrap() > 0, "{said}");
    }
    child.send("-TERM");
    std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
    assert!(said.contains(" tidied\n"), "{said}");
    assert_eq!(child.finish().code, 143);
}

#[test]
fn a_second_ctrl_c_ends_forge_at_once() {
    let lab = Lab::with_busybox();
    let marker = Marker::new();
    let text = format!("FROM busybox\nRUN trap '' TERM INT; sleep {}; sleep {0}; sleep {0}\n", marker.0);
    lab.context("ctx", &[("Dockerfile", &text)]);
    let mut child = lab.start(&["build", &lab.at("ctx")]);
    soon("the step runs", || marker.processes().len() >= 2);
    child.send("-INT");
    std::thread::sleep(Duration::from_millis(100));
    let sent = Instant::now();
    child.send("-INT");
    let pid = child.pid();
    child.finish();
    assert!(sent.elapsed() < Duration::from_millis(1000), "{:?}", sent.elapsed());
    soon("the step is gone", || marker.processes().is_empty());
    lab.build_text("FROM busybox\nRUN true\n", &[]).success();
    lab.assert_nothing_left(pid);
}

fn killed(builder: Builder) {
    let lab = Lab::of(builder);
    lab.add_busybox();
    let marker = Marker::new();
    let mut child = sleeping(&lab, &marker);
    let pid = child.pid();
    child.send("-KILL");
    child.finish();
    soon("the step is gone", || marker.processes().is_empty());
    assert!(!lab.unfinished().is_empty(), "SIGKILL leaves temporary files to the next forge");
    let next = lab.build_text("FROM busybox\nRUN echo first > /first\nRUN true\n", &[]);
    assert!(next.steps().0.contains(&"[2/3] RUN echo first > /first".to_owned()), "{next}");
    next.success();
    lab.assert_nothing_left(pid);
}

#[test]
fn what_a_killed_forge_left_the_next_one_sweeps() {
    killed(Builder::Root);
}

#[test]
fn what_a_killed_forge_of_a_user_left_the_next_one_sweeps() {
    killed(Builder::User);
}

#[test]
fn an_interrupted_pull_leaves_no_image() {
    // A registry that accepts and never answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let lab = Lab::new();
    let mut child = lab.start(&["pull", &format!("{}/x", listener.local_addr().unwrap())]);
    let _held = listener.accept().unwrap();
    let (pid, sent) = (child.pid(), Instant::now());
    child.send("-INT");
    child.finish();
    assert!(sent.elapsed() < Duration::from_secs(2));
    assert_eq!(lab.forge(&["images", "-q"]).success(), "");
    lab.assert_nothing_left(pid);
}

#[test]
fn a_build_that_waits_for_a_registry_can_be_stopped() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let lab = Lab::new();
    let text = format!("FROM {}/x\n", listener.local_addr().unwrap());
    lab.context("ctx", &[("Dockerfile", &text)]);
    let mut child = lab.start(&["build", &lab.at("ctx")]);
    let _held = listener.accept().unwrap();
    let (pid, sent) = (child.pid(), Instant::now());
    child.send("-INT");
    child.finish();
    assert!(sent.elapsed() < Duration::from_secs(2));
    lab.assert_nothing_left(pid);
}
