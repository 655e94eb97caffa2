//! kill -9 at moments that nobody chose: whatever was under way, the store is whole, and the next build works and gives
//! what it always gave.

use std::thread::sleep;
use std::time::Duration;

use crate::support::{Lab, Started};

/// Numbers that look random and are the same each time (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

const STEPS: &str = "FROM busybox AS one\nRUN seq 1 3000 > /a\nRUN --mount=type=cache,target=/c echo c > /c/c; seq 5 > /b\n\
                     FROM busybox\nCOPY --from=one /a /b /\nCOPY f /\nRUN cat /a /b /f > /all\n";

fn victim(lab: &Lab, kind: u64) -> Started {
    let context = lab.at("ctx");
    match kind {
        0 => lab.start(&["build", "-q", "--reproducible", "-t", "app", &context]),
        1 => lab.start(&["build", "-q", "--reproducible", "--no-cache", &context]),
        2 => lab.start(&["prune", "-a", "-f"]),
        3 => lab.start(&["rmi", "app"]),
        // A build whose collector has everything to remove.
        _ => lab.start(&[
            "build",
            "-q",
            "--reproducible",
            "--gc-max-used-space=0",
            "--gc-reserved-space=0",
            "-t",
            "app",
            &context,
        ]),
    }
}

fn rounds(seed: u64) {
    let lab = Lab::with_busybox();
    lab.context("ctx", &[("Dockerfile", STEPS), ("f", "f")]);
    let build = || lab.forge(&["build", "-q", "--reproducible", "-t", "app", &lab.at("ctx")]).success();
    let wanted = build();
    let mut numbers = Numbers(seed);
    for round in 0..12 {
        let (kind, wait) = (numbers.below(5), numbers.below(150));
        let mut victims = vec![victim(&lab, kind)];
        if numbers.below(2) == 0 {
            let other = numbers.below(5);
            victims.push(victim(&lab, other));
        }
        sleep(Duration::from_millis(wait));
        for mut victim in victims {
            victim.send("-KILL");
            victim.finish();
        }
        // The base may have been what a collector was to keep: it has a tag, so it is whole.
        assert_eq!(build(), wanted, "seed {seed}, round {round}: kind {kind} killed after {wait} ms");
        let verified = lab.forge(&["store", "verify"]);
        assert_eq!(verified.code, 0, "seed {seed}, round {round}: {verified}");
    }
    assert_eq!(lab.shell("app", "tail -n 1 /all"), "f");
    // What the dead left is gone after a prune: nothing is there but what two images need.
    lab.forge(&["prune", "-a", "-f"]).success();
    lab.forge(&["rmi", "app", "busybox"]).success();
    for dir in ["blobs/sha256", "layers", "ingest", "tmp", "leases", "state/caches"] {
        let left: Vec<_> =
            std::fs::read_dir(lab.path("store").join(dir)).into_iter().flatten().flatten().collect();
        assert!(left.is_empty(), "seed {seed}: {dir}: {left:?}");
    }
}

#[test]
fn killed_at_any_moment_the_next_build_works_and_is_the_same() {
    rounds(0x9E37_79B9_7F4A_7C15);
}

#[test]
fn killed_at_other_moments_too() {
    rounds(0xD1B5_4A32_D192_ED03);
}

#[test]
fn records_of_forges_that_were_killed_or_ran_at_once_are_kept() {
    let lab = Lab::with_busybox();
    // Six forges write records into one database at once; half of them are killed once their step is over.
    let contexts: Vec<String> = (0..6)
        .map(|n| {
            let text = format!("FROM busybox\nRUN echo {n} > /n\nRUN echo over && sleep 600\n");
            lab.context(&format!("ctx{n}"), &[("Dockerfile", &text)]);
            lab.at(&format!("ctx{n}"))
        })
        .collect();
    let mut builds: Vec<Started> = contexts.iter().map(|context| lab.start(&["build", context])).collect();
    for build in &mut builds {
        use std::io::{BufRead, BufReader};
        let mut said = Vec::new();
        let mut lines = BufReader::new(build.stderr()).lines().map_while(Result::ok);
        while said.last().is_none_or(|line: &String| !line.ends_with(" over")) {
            said.push(lines.next().unwrap_or_else(|| panic!("the step did not begin: {said:#?}")));
        }
        build.send("-KILL");
    }
    builds.into_iter().for_each(|build| drop(build.finish()));
    for n in 0..6 {
        let text = format!("FROM busybox\nRUN echo {n} > /n\n");
        let (_, run) = lab.build_text(&text, &[]).steps();
        assert!(!run.iter().any(|label| label.contains("RUN")), "{n}: {run:?}");
    }
}
