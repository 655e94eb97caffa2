#!/usr/bin/env bash
# Measures how the time of a build grows with its files, bytes, steps, layers, and with the records in the cache, and
# draws docs/growth/*.svg. Needs root (or subordinate ids), busybox-static, and a release build of forge; `make growth`
# makes one first. With COUNT=1 and BYTES_MAX=1000 it took 40 seconds on a quiet machine of two cores.
#
#   scripts/growth.sh [files bytes steps layers records]
#
#   COUNT=3         runs of each point; the median counts
#   SIZE=5000       megabytes of memory for contexts and stores
#   BYTES_MAX=2000  the largest context, in megabytes
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
cd "$(dirname "$0")/.."
. scripts/packages.sh
need busybox-static python3
forge=$(realpath "${FORGE:-${CARGO_TARGET_DIR:-target}/release/forge}")
work=$(mktemp -d /dev/shm/forge-growth.XXXXXX)
trap 'umount -l "$work" 2>/dev/null || true; rm -rf --one-file-system "$work"' EXIT
mount -t tmpfs -o "size=${SIZE:-5000}m,nr_inodes=0,mode=0755" forge-growth "$work" 2>/dev/null || true
mkdir -p docs/growth
python3 scripts/bench/growth.py "$forge" "$work" docs/growth "${COUNT:-3}" "${BYTES_MAX:-2000}" "$@"
