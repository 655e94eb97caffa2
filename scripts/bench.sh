#!/usr/bin/env bash
# Builds the workloads of docs/performance.md with forge and with every peer that is here (buildctl with a running
# daemon, docker, buildah), in turn, and prints the table. Needs root and a release build of forge; `make bench` makes
# one first. With Docker alone, w1, w2, w4, w5 and w6 took four minutes, and one run of the others three.
#
#   scripts/bench.sh [w1 w2 w3 w4 w5 w6 w9 w9c]
#
#   COUNT=5         runs that count, of each row; of a peer three at most, and one if it takes over 30 s
#   SIZE=6000       megabytes of memory that contexts and stores may take; SIZE=0 puts them into BENCH_DIR, on disk
#   BENCH_DIR=DIR   what is kept between runs (the large base image, Docker), and the table; target/bench by default
#   TOOLS="forge"   only these, of forge, buildkit, docker, buildah
#   DOCKER_ROOT=/   Docker from PATH. Else the newest of Debian is used, which is BuildKit and has buildx: its packages
#                   are unpacked into BENCH_DIR, and its daemon runs from there
#   FORGE=PROGRAM   the forge to measure
#   WRITE=FILE      puts the table into this document as well, in place of the one there: docs/performance.md
#
# Caches are in the state that each row names. Everything is compressed with gzip -6; buildah writes no compressed
# layers in w1, w2, w4, w6 and w9. Stores are made anew for each cold build, but a daemon stays and its caches are
# pruned. On a disk old stores are moved aside, because deleting many files slows the next runs for minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
. scripts/bench/place.sh
target=${CARGO_TARGET_DIR:-target}
forge=$(realpath "${FORGE:-$target/release/forge}")
[ -x "$forge" ] || { echo "no forge at $forge: cargo build --release -p forge" >&2; exit 1; }
mkdir -p "${BENCH_DIR:=$target/bench}"
kept=$(realpath "$BENCH_DIR")

# Tools are wanted unless others are named.
wanted() { [ -z "${TOOLS:-}" ] || [[ " $TOOLS " = *" $1 "* ]]; }

# Docker of Debian unstable, if this machine's is older than buildx. A mirror may lag: signatures are checked, their
# age is not.
newest_docker() {
  [ -x "$kept/docker/usr/libexec/docker/cli-plugins/docker-buildx" ] || {
    rm -rf --one-file-system "$kept/docker"
    mmdebstrap --quiet --variant=apt --aptopt='Acquire::Check-Valid-Until "false"' \
      --include=docker.io,docker-cli,docker-buildx,iptables,ca-certificates sid "$kept/docker" >&2
  } && realpath "$kept/docker"
}

place "$@"
aside=
[ "${SIZE:-6000}" != 0 ] || { aside=$work/aside; mkdir "$aside"; }
if [ -z "${DOCKER_ROOT:-}" ] && wanted docker; then
  DOCKER_ROOT=$(newest_docker) || { echo "no newer Docker is to be had: the one on PATH is used" >&2; DOCKER_ROOT=/; }
fi
export DOCKER_ROOT=${DOCKER_ROOT:-/}
python3 scripts/bench/run.py "$work" "$aside" "$registry" "$forge" "${COUNT:-5}" "$kept/table.md" "$@"
