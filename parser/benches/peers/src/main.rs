//! The parser beside two others from the crate registry, on Dockerfiles that all three can read.
//!
//! `cargo run --release --manifest-path parser/benches/peers/Cargo.toml`

use std::hint::black_box;
use std::str::FromStr;
use std::time::Instant;

/// Instructions that every Dockerfile has, repeated to about `bytes`.
fn dockerfile(bytes: usize) -> String {
    let mut text = String::from("FROM debian:bookworm AS build\n");
    let mut n = 0;
    while text.len() < bytes {
        n += 1;
        // Long enough that a megabyte stays below forge's bound on instructions.
        let packages: String = (0..12).map(|k| format!(" \\\n      package{n}-{k}-with-a-name")).collect();
        text.push_str(&format!(
            "ENV NAME{n}=value{n}\nRUN apt-get update && apt-get install -y{packages}\n\
             COPY src{n}/a.c src{n}/b.c /src{n}/\nLABEL org.example.n{n}=\"{n}\"\n"
        ));
    }
    text
}

/// The median of five runs, in milliseconds.
fn time(mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..5)
        .map(|_| {
            let began = Instant::now();
            work();
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[2]
}

fn main() {
    println!(
        "{:>10} {:>14} {:>20} {:>24}",
        "bytes", "forge ms", "dockerfile-parser ms", "dockerfile-parser-rs ms"
    );
    for bytes in [64 << 10, 256 << 10, 1 << 20] {
        let text = dockerfile(bytes);
        assert!(forge_parser::parse(text.as_bytes()).is_ok());
        let ours = time(|| drop(black_box(forge_parser::parse(text.as_bytes()))));
        let first = time(|| drop(black_box(dockerfile_parser::Dockerfile::parse(&text))));
        let second = time(|| drop(black_box(dockerfile_parser_rs::Dockerfile::from_str(&text))));
        println!("{:>10} {ours:>14.1} {first:>20.1} {second:>24.1}", text.len());
    }
}
