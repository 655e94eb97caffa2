#!/usr/bin/env bash
# Fuzzes the parser, the expansion of words and the ignore patterns, each for so many seconds: scripts/fuzz.sh SECONDS
# FUZZ_SEED=N repeats a run. An input that fails is written to a file, whose name is told; FUZZ_INPUT=FILE repeats it
# (with FUZZ_TARGET=parser, expansion or ignore_patterns).
set -euo pipefail
cd "$(dirname "$0")/.."
export FUZZ_SECONDS="${1:?how many seconds for each target?}"
export FUZZ_SEED="${FUZZ_SEED:-$(date +%s)}"
# Optimised, and still watching for overflows and broken assumptions.
export CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_PANIC=unwind
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/fuzz"
echo "seed $FUZZ_SEED"
cargo test --quiet --release -p forge-parser --test fuzz -- --nocapture --test-threads=1 ${FUZZ_TARGET:-}
