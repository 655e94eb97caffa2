//! What planning costs: text to a closed graph with keys, 300 stages and 1,000 instructions, over a world in memory.
//!
//! ```text
//! cargo bench -p forge-solver --bench plan
//! ```

#![allow(clippy::print_stdout, reason = "a program, not a library")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use forge_solver::PlanOptions;
use forge_solver::event::Silent;
use forge_solver::{Jobs, Solver};
use forge_store::Platform;
use support::Fake;

const ROUNDS: usize = 21;

fn main() {
    let options = options();
    for (stages, each) in [(30, 10), (300, 3), (300, 30), (1, 1_000)] {
        let text = dockerfile(stages, each);
        let world = Fake::default();
        let parse = time(|| drop(forge_parser::parse(text.as_bytes()).expect("the text parses")));
        let parsed = forge_parser::parse(text.as_bytes()).expect("the text parses");
        let plan = time(|| drop(forge_solver::plan(&parsed, &options, &world).expect("the text plans")));
        let planned = forge_solver::plan(&parsed, &options, &world).expect("the text plans");
        let solver = Solver {
            world: &world,
            executor: &world,
            records: &world,
            events: &Silent,
            results: &(),
            jobs: Jobs::at_most(2),
            explainer: None,
            cancelled: &|| false,
        };
        let keys =
            time(|| drop(solver.inspect(&planned.graph, &[planned.target]).expect("keys are computed")));
        println!(
            "{stages:>4} stages, {:>6} instructions: parse {parse:.1} ms, plan {plan:.1} ms, keys and look-up {keys:.1} ms",
            text.lines().count()
        );
    }
}

/// Stages that stand on each other and take from each other, variables and all.
fn dockerfile(stages: usize, each: usize) -> String {
    let mut text = String::from("ARG BASE=scratch\n");
    for stage in 0..stages {
        match stage {
            0..100 => text.push_str(&format!("FROM $BASE AS s{stage}\n")),
            _ => text.push_str(&format!("FROM s{} AS s{stage}\n", stage - 100)),
        }
        for line in 0..each {
            match line % 3 {
                0 => text.push_str(&format!("ENV V{line}=$PATH:{stage}\n")),
                1 => text.push_str(&format!("COPY dir{stage}/{line} /d{stage}\n")),
                _ => text.push_str(&format!("RUN make V=$V0 part{stage}-{line}\n")),
            }
        }
    }
    text.push_str("FROM scratch\n");
    for stage in 0..stages {
        text.push_str(&format!("COPY --from=s{stage} /d{stage} /o{stage}\n"));
    }
    text
}

fn options() -> PlanOptions {
    let platform = Platform::new("linux", "amd64", None);
    PlanOptions {
        target: None,
        build_args: BTreeMap::new(),
        labels: Vec::new(),
        platform: platform.clone(),
        several_platforms: false,
        build_platform: platform,
        no_cache: false,
        no_cache_stages: BTreeSet::new(),
        network: forge_parser::ast::Network::Default,
        allowed: BTreeSet::new(),
        ulimits: Vec::new(),
        shm_size: None,
        check_only: false,
    }
}

/// The median, in milliseconds.
fn time(mut work: impl FnMut()) -> f64 {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[ROUNDS / 2].as_secs_f64() * 1e3
}
