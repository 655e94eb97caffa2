#!/usr/bin/env bash
# Starts a Docker daemon for the benchmark in a mount namespace of its own; `exec`s it, so its process is this one.
#
#   scripts/bench/docker.sh HOME SHARED ROOT [OPTION...]
#
# HOME takes the socket, the store and the process id. ROOT is `/`, or the root of another Debian whose daemon is run;
# the directory SHARED is seen there under the same name.
set -euo pipefail
home=$1 shared=$2 root=$3
shift 3
mount --make-rprivate /
if [ "$root" != / ]; then
  # A mount point, so that runc can change the propagation of `/`; chroot(2) would not do.
  mount --bind "$root" "$root"
  for dir in proc sys dev; do mount --rbind "/$dir" "$root/$dir"; done
  mkdir -p "$root$shared"
  mount --rbind "$shared" "$root$shared"
  cd "$root"
  pivot_root . mnt
  # The old root stays at /mnt; it goes with this namespace.
fi
exec dockerd --host "unix://$home/docker.sock" --data-root "$home/data" --exec-root "$home/run" \
  --pidfile "$home/docker.pid" --iptables=false --ip6tables=false --bridge=none "$@"
