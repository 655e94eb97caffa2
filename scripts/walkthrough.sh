#!/usr/bin/env bash
# Builds forge, then does with it what Docker's walk-through does: a web server's image and a client's image,
# built from testdata/, run against each other. Needs root, Rust, and Debian's packages.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh

say() { printf '\n== %s\n' "$*"; }

need gcc libc6-dev make ca-certificates nftables iproute2
say "building forge"
cargo build --release --quiet -p forge
forge=$PWD/${CARGO_TARGET_DIR:-target}/release/forge
[ -x "$forge" ] || forge=${CARGO_TARGET_DIR:-target}/release/forge

base=debian:bookworm-slim
if ! "$forge" inspect "$base" >/dev/null 2>&1 && ! timeout 20 "$forge" pull "$base" 2>/dev/null; then
  say "no registry has $base: making it from Debian packages"
  need mmdebstrap
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  mmdebstrap --quiet --variant=minbase bookworm "$scratch/rootfs.tar"
  printf 'FROM scratch\nADD rootfs.tar /\nCMD ["bash"]\n' > "$scratch/Dockerfile"
  "$forge" build -t "$base" "$scratch"
fi

say "building the server"
"$forge" build -t demo_http_server testdata/server
say "building the client"
"$forge" build -t demo_http_client --build-arg server=127.0.0.1 testdata/client

say "running both"
"$forge" run --network host demo_http_server &
server=$!
page=
for _ in $(seq 50); do
  if page=$("$forge" run --rm --network host demo_http_client 2>/dev/null) && [ -n "$page" ]; then break; fi
  sleep 0.2
done
kill "$server"
wait "$server" 2>/dev/null || true
printf '%s\n' "$page"
case $page in *"Hello from a container built by forge!"*) ;; *) echo "the page did not come" >&2; exit 1 ;; esac
say "done: \`$forge images\` lists what was built"
