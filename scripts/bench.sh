#!/usr/bin/env bash
# Builds the workloads of docs/performance.md with forge and with every peer that is here (buildctl with a running
# daemon, docker, buildah), in turn, and prints the table. Needs root and a release build of forge; `make bench` makes
# one first. Less than 20 minutes with Docker and buildah.
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
export PYTHONDONTWRITEBYTECODE=1
cd "$(dirname "$0")/.."
. scripts/packages.sh
need busybox-static mmdebstrap docker-registry python3 ca-certificates
target=${CARGO_TARGET_DIR:-target}
forge=$(realpath "${FORGE:-$target/release/forge}")
[ -x "$forge" ] || { echo "no forge at $forge: cargo build --release -p forge" >&2; exit 1; }
mkdir -p "${BENCH_DIR:=$target/bench}"
kept=$(realpath "$BENCH_DIR")
work=$(mktemp -d "$kept/run.XXXXXX")
registry_pid= aside=

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
finish() {
  [ -z "$registry_pid" ] || kill "$registry_pid" 2>/dev/null || true
  [ "${SIZE:-6000}" = 0 ] || umount -l "$work" 2>/dev/null || true
  rm -rf --one-file-system "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM HUP
if [ "${SIZE:-6000}" = 0 ]; then
  aside=$work/aside
  mkdir "$aside"
else
  mount -t tmpfs -o "size=${SIZE:-6000}m,nr_inodes=0,mode=0755" forge-bench "$work"
fi
mkdir "$work/contexts" "$work/stores" "$work/bases"
if [ -z "${DOCKER_ROOT:-}" ] && wanted docker; then
  DOCKER_ROOT=$(newest_docker) || { echo "no newer Docker is to be had: the one on PATH is used" >&2; DOCKER_ROOT=/; }
fi
export DOCKER_ROOT=${DOCKER_ROOT:-/}

# ---- A registry on loopback, and the base images in it --------------------------------------------------------

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
registry=127.0.0.1:$port
cat > "$work/registry.yml" <<Y
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $work/registry}}
http: {addr: $registry}
Y
docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
registry_pid=$!
for _ in $(seq 100); do
  python3 -c "import urllib.request as u; u.urlopen('http://$registry/v2/')" 2>/dev/null && break
  sleep 0.1
done

export FORGE_ROOT=$work/bases/store
base() { # base NAME DIRECTORY: builds and pushes an image
  "$forge" build -q -t "$registry/$1:latest" --push "$2" >/dev/null
}
mkdir -p "$work/bases/busybox/bin"
cp /bin/busybox "$work/bases/busybox/bin/"
for applet in sh true echo ls find wc sleep cat; do ln -s busybox "$work/bases/busybox/bin/$applet"; done
tar -C "$work/bases/busybox" -cf "$work/bases/rootfs.tar" bin
mkdir "$work/bases/context"
mv "$work/bases/rootfs.tar" "$work/bases/context/"
printf 'FROM scratch\nADD rootfs.tar /\n' > "$work/bases/context/Dockerfile"
base busybox "$work/bases/context"
if [ $# -eq 0 ] || [[ " $* " = *" w4 "* ]]; then
  # A root filesystem with a few large packages, cut into six layers.
  rootfs=$kept/pybase.tar
  [ -e "$rootfs" ] || { mmdebstrap --quiet --variant=minbase --include=python3,python3-pip,gcc,git,perl \
    bookworm "$kept/new.tar" && mv "$kept/new.tar" "$rootfs"; }
  mkdir "$work/bases/pybase"
  python3 scripts/bench/split.py "$rootfs" "$work/bases/pybase" 6
  { echo 'FROM scratch'; for n in 0 1 2 3 4 5; do echo "ADD part$n.tar /"; done; echo 'CMD ["python3"]'; } \
    > "$work/bases/pybase/Dockerfile"
  base pybase "$work/bases/pybase"
fi
rm -rf "$work/bases"
unset FORGE_ROOT

python3 scripts/bench/run.py "$work" "$aside" "$registry" "$forge" "${COUNT:-5}" "$kept/table.md" "$@"
