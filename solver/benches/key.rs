//! What a key costs: `cargo bench -p forge-solver --bench key`.

use std::hint::black_box;
use std::time::Duration;

use criterion::Criterion;
use forge_solver::op::{CopyOp, CopySource, Selection, Unpack};
use forge_solver::{CacheKey, InputKey, Op};
use forge_store::ContentId;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let op = copy_of_three_sources();
    let content = || ContentId::new(blake3::hash(b"content"));
    let mut key = CacheKey::new(&Op::Scratch, &[]);
    criterion.bench_function("key/COPY with three sources", |bencher| {
        bencher.iter(|| {
            let inputs = [InputKey::Made(key), InputKey::Content(vec![content(), content(), content()])];
            key = black_box(CacheKey::new(&op, &inputs));
        });
    });
    criterion.final_summary();
}

fn copy_of_three_sources() -> Op {
    let source = |pattern: &str| CopySource::Files {
        input: 1,
        selection: Selection::path(pattern.into()),
        unpack: Unpack::Never,
    };
    Op::Copy(CopyOp {
        sources: vec![source("src"), source("go.mod"), source("go.sum")],
        dest: "/app/".into(),
        chown: Some("1000:1000".into()),
        chmod: None,
        parents: false,
        link: false,
        reset_owner: true,
    })
}
