//! What planning costs: text to a closed graph with keys, over a world in memory.
//!
//! ```text
//! cargo bench -p forge-solver --bench plan [-- FILTER]
//! ```

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use criterion::{Criterion, Throughput};
use forge_solver::PlanOptions;
use forge_solver::event::Silent;
use forge_solver::{Jobs, Solver};
use forge_store::Platform;
use support::Fake;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    for (stages, each) in [(30, 10), (300, 3), (300, 30), (1, 1_000)] {
        shape(&mut criterion, stages, each);
    }
    criterion.final_summary();
}

/// Three parts of the way, each over what the one before gave.
fn shape(criterion: &mut Criterion, stages: usize, each: usize) {
    let (options, world) = (options(), Fake::default());
    let text = dockerfile(stages, each);
    let lines = text.lines().count();
    let parsed = forge_parser::parse(text.as_bytes()).expect("the text parses");
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
    let mut group = criterion.benchmark_group(format!("{stages} stages, {lines} instructions"));
    group.throughput(Throughput::Elements(lines as u64));
    group.bench_function("parse", |bencher| bencher.iter(|| forge_parser::parse(text.as_bytes())));
    group.bench_function("plan", |bencher| {
        bencher.iter(|| forge_solver::plan(&parsed, &options, &world).expect("the text plans"));
    });
    group.bench_function("keys and look-up", |bencher| {
        bencher.iter(|| solver.inspect(&planned.graph, &[planned.target]).expect("keys are computed"));
    });
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
