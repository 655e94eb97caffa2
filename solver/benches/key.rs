//! What keys cost: `cargo bench -p forge-solver --bench key`.

#![allow(clippy::print_stdout, reason = "it reports")]

use std::hint::black_box;
use std::time::Instant;

use forge_solver::op::{CopyOp, CopySource, Selection, Unpack};
use forge_solver::{CacheKey, InputKey, Op};
use forge_store::ContentId;

const ROUNDS: u32 = 200_000;

fn main() {
    let source = |pattern: &str| CopySource::Files {
        input: 1,
        selection: Selection::path(pattern.into()),
        unpack: Unpack::Never,
    };
    let op = Op::Copy(CopyOp {
        sources: vec![source("src"), source("go.mod"), source("go.sum")],
        dest: "/app/".into(),
        chown: Some("1000:1000".into()),
        chmod: None,
        parents: false,
        link: false,
        reset_owner: true,
    });
    let content = || ContentId::new(blake3::hash(b"content"));
    let mut key = CacheKey::new(&Op::Scratch, &[]);
    let begin = Instant::now();
    for _ in 0..ROUNDS {
        let inputs = [InputKey::Made(key), InputKey::Content(vec![content(), content(), content()])];
        key = black_box(CacheKey::new(&op, &inputs));
    }
    println!("a key of COPY with three sources: {:?}", begin.elapsed() / ROUNDS);
}
