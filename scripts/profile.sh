#!/usr/bin/env bash
# Where the time of each workload of docs/performance.md goes: wall and CPU seconds, shares by thread and by function,
# system calls by the time spent in them, and beside them the floor that the kernel and other programs set. Needs root,
# `perf`, a C compiler, and a forge with names in it:
#
#   cargo build --profile profiling -p forge
#   scripts/profile.sh [w1 w2 w3 w3-edit w3-same w4 w5 w5-again w6 w9 w9-cached w9c w9c-cached]
#
#   OUT=DIR        one text for each workload, and a flame graph where inferno is installed
#                  (`cargo install inferno`); target/profile by default
#   FORGE=PROGRAM  the forge to look at
#
# The clock's interrupts are sampled, so no hardware counters are needed. Sampling by frame pointers would need another
# build; DWARF is slower, but only after the run.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
. scripts/bench/place.sh
need linux-perf gcc libc6-dev openssl libdeflate-tools
target=${CARGO_TARGET_DIR:-target}
forge=$(realpath "${FORGE:-$target/profiling/forge}")
[ -x "$forge" ] || { echo "no forge at $forge: cargo build --profile profiling -p forge" >&2; exit 1; }
mkdir -p "${BENCH_DIR:=$target/bench}" "${OUT:=$target/profile}"
kept=$(realpath "$BENCH_DIR")
out=$(realpath "$OUT")
place $(for row in "$@"; do echo "${row%%-*}"; done)
gcc -O2 -o "$work/floor" scripts/bench/floor.c
python3 scripts/bench/profile.py "$work" "$registry" "$forge" "$out" "$@"
