#!/usr/bin/env bash
# Measures what docs/performance.md quotes: a RUN step, a cached build, peak memory. Medians of several builds, in a
# store on a tmpfs. Needs root (or subordinate ids), busybox-static, GNU time, and a release build of forge.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
need busybox-static time
forge=$(realpath "${FORGE:-${CARGO_TARGET_DIR:-target}/release/forge}")
work=$(mktemp -d /dev/shm/forge-figures.XXXXXX)
trap 'rm -rf "$work"' EXIT
export FORGE_ROOT=$work/store

median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
# run NAME COUNT COMMAND…: median seconds and greatest kilobytes; each run gets its number in $N.
run() {
  local name=$1 count=$2 n; shift 2
  : > "$work/times"
  for n in $(seq "$count"); do
    N=$n command time -a -o "$work/times" -f '%e %M' bash -c "$*" >/dev/null 2>&1
  done
  printf '%-44s %6.0f ms   peak %3.0f MiB\n' "$name" \
    "$(awk '{ print $1 * 1000 }' "$work/times" | median)" \
    "$(awk '$2 > m { m = $2 } END { print m / 1024 }' "$work/times")"
}

mkdir -p "$work/base/bin" "$work/runs" "$work/none" "$work/ctx"
cp /bin/busybox "$work/base/bin/"
ln -s busybox "$work/base/bin/sh"
ln -s busybox "$work/base/bin/true"
ln -s busybox "$work/base/bin/echo"
tar -C "$work/base" -cf "$work/rootfs.tar" .
printf 'FROM scratch\nADD rootfs.tar /\n' > "$work/Dockerfile"
"$forge" build -q -t busybox "$work" >/dev/null

printf 'FROM busybox\nARG BUST\nRUN true\n' > "$work/none/Dockerfile"
{ printf 'FROM busybox\nARG BUST\n'; for i in $(seq 50); do printf 'RUN true\nRUN echo %s > /f%s\n' "$i" "$i"; done; } \
  > "$work/runs/Dockerfile"
run 'one RUN true, build and all' 15 "'$forge' build -q --build-arg BUST=\$N '$work/none'"
run '100 RUN steps, build and all' 7 "'$forge' build -q --build-arg BUST=\$N '$work/runs'"
run '100 RUN steps, cached' 15 "'$forge' build -q --build-arg BUST=1 '$work/runs'"
if [ -d testdata/server ] && FORGE_ROOT=${SERVER_ROOT:-/var/lib/forge} "$forge" inspect demo_http_server >/dev/null 2>&1; then
  run 'testdata/server, cached' 15 "FORGE_ROOT='${SERVER_ROOT:-/var/lib/forge}' '$forge' build -q testdata/server"
fi
head -c 200M /dev/urandom > "$work/ctx/random"
for i in $(seq 2000); do seq "$i" "$((i + 2000))" > "$work/ctx/f$i"; done
printf 'FROM busybox\nARG BUST\nRUN true\nCOPY . /data\n' > "$work/ctx/Dockerfile"
run 'COPY of 2,000 files, 220 MB, packed' 5 "echo \$N > '$work/ctx/changed'; '$forge' build -q --build-arg BUST=\$N '$work/ctx'"
