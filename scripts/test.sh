#!/usr/bin/env bash
# Runs the whole test suite. The judges are Debian's: registry, skopeo, umoci, podman, buildah, runc, GNU tar.
# As root it installs what is missing, and the tests that need an ordinary user make one called forgetest.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh

need gcc libc6-dev make ca-certificates python3 git tar attr libcap2-bin jq openssl apache2-utils busybox-static openssh-client \
  mmdebstrap docker.io containerd docker-registry skopeo umoci podman buildah runc uidmap slirp4netns passt nftables iproute2 \
  fuse-overlayfs util-linux bsdutils mount procps zstd xz-utils bzip2 gzip pigz passwd
# An ordinary user's network helper opens this device; desktops allow it to everyone, bare machines do not.
if [ "$(id -u)" -eq 0 ] && [ -c /dev/net/tun ]; then chmod 666 /dev/net/tun; fi

if cargo nextest --version >/dev/null 2>&1; then
  cargo nextest run --workspace --no-fail-fast "$@"
else
  cargo test --workspace --no-fail-fast "$@"
fi
