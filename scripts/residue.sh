#!/usr/bin/env bash
# Runs N builds (a third of them well, a third failing, a third cancelled; every other one as a user), and asserts that
# nothing is left: no process, mount, cgroup, namespace, network interface, nftables table or temporary file.
#
#   scripts/residue.sh [N] [FORGE]
#
# Needs root, busybox-static and uidmap. All of it runs in namespaces of its own, so that what is left can only be ours.
set -euo pipefail
builds=${1:-1000}
forge=$(realpath "${2:-${FORGE:-${CARGO_TARGET_DIR:-target}/release/forge}}")
user=forgetest

if [ -z "${RESIDUE_INSIDE:-}" ]; then
  id "$user" >/dev/null 2>&1 || useradd --create-home "$user"
  grep -q "^$user:" /etc/subuid || usermod --add-subuids 100000-165535 --add-subgids 100000-165535 "$user"
  work=$(mktemp -d /tmp/forge-residue.XXXXXX)
  trap 'rm -rf "$work"' EXIT
  chmod 755 "$work"
  cp "$forge" "$work/forge"
  # A cgroup of our own: other forges at work on this machine tidy up where they are.
  cgroup=/sys/fs/cgroup
  [ ! -d "$cgroup/pids" ] || cgroup=$cgroup/pids
  cgroup=$cgroup/residue.$$
  if mkdir "$cgroup" 2>/dev/null && echo $$ > "$cgroup/cgroup.procs"; then
    trap 'echo $$ > "${cgroup%/*}/cgroup.procs"; rmdir "$cgroup"; rm -rf "$work"' EXIT
  fi
  RESIDUE_INSIDE=$work unshare --pid --fork --kill-child --mount-proc --mount --net --propagation private \
    bash "$0" "$builds" "$work/forge"
  exit
fi

work=$RESIDUE_INSIDE
mount -t tmpfs -o mode=755 none /run
ip link set lo up
mkdir -p "$work/tmp" "$work/root" "$work/ctx" "$work/err"
install -d -o "$user" -g "$user" "$work/user"
chmod 1777 "$work/tmp"
install -D /bin/busybox "$work/base/bin/busybox"
for name in sh sleep true false echo touch; do ln -s busybox "$work/base/bin/$name"; done
tar -C "$work/base" -cf "$work/ctx/rootfs.tar" .
mkdir "$work/base-ctx"
mv "$work/ctx/rootfs.tar" "$work/base-ctx/"
printf 'FROM scratch\nADD rootfs.tar /\n' > "$work/base-ctx/Dockerfile"
cat > "$work/ctx/Dockerfile" <<'DOCKERFILE'
FROM busybox
ARG N
ARG HOW
RUN echo $N > /n && (sleep 300 &)
RUN --mount=type=cache,target=/cache --mount=type=tmpfs,target=/new/place touch /cache/$N /new/place/x
RUN --network=none case $HOW in ok) true ;; failing) exit 3 ;; cancelled) sleep 300 ;; esac
DOCKERFILE

as() {
  local who=$1; shift
  # By exec, so that a background process is forge itself, and gets the signals.
  if [ "$who" = root ]; then
    exec env -i PATH="$PATH" TMPDIR="$work/tmp" HOME="$work/root" "$@"
  else
    exec env -i PATH="$PATH" TMPDIR="$work/tmp" HOME="$work/user" \
      setpriv --reuid="$user" --regid="$user" --init-groups "$@"
  fi
}
one() {
  local n=$1 how who
  how=$(set -- ok failing cancelled; shift $((n % 3)); echo "$1")
  who=$(set -- root user; shift $((n % 2)); echo "$1")
  as "$who" "$forge" --root "$work/$who/store" build -q --build-arg N="$n" --build-arg HOW="$how" "$work/ctx" \
    >/dev/null 2>"$work/err/$n" &
  local pid=$! code=0
  if [ "$how" = cancelled ]; then
    sleep "0.$((n % 7 + 1))"
    kill -"$(set -- INT TERM HUP; shift $((n % 3)); echo "$1")" "$pid" 2>/dev/null || true
  fi
  wait "$pid" || code=$?
  case $how.$code in
    ok.0 | failing.1 | cancelled.129 | cancelled.130 | cancelled.143) rm "$work/err/$n" ;;
    *) echo "build $n ($how, $who) ended with $code: $(tail -n1 "$work/err/$n")" ;;
  esac
}

mounts=$(sort /proc/self/mountinfo)
for who in root user; do
  (as "$who" "$forge" --root "$work/$who/store" build -q -t busybox "$work/base-ctx" >/dev/null)
done
began=$(date +%s)
for n in $(seq "$builds"); do
  one "$n" &
  # Two at a time, for some overlap.
  [ $((n % 2)) -ne 0 ] || wait
done
wait
took=$(($(date +%s) - began))

problems=0
left() { [ -z "$2" ] || { problems=1; printf 'left: %s:\n%s\n' "$1" "$2"; }; }
left "wrong ends" "$(cat "$work"/err/* 2>/dev/null | head -n 20)"
# This shell, and what it starts to look.
left processes "$(ps -e -o pid=,comm=,args= | awk '$2 != "bash" && $2 != "ps" && $2 != "awk"')"
left mounts "$(diff <(echo "$mounts") <(sort /proc/self/mountinfo) | grep '^[<>]' || true)"
# The kernel takes an interface down after the last process of its namespace, aside.
for _ in $(seq 50); do ip -o link | grep -qv ' lo:' || break; sleep 0.1; done
left interfaces "$(ip -o link | grep -v ' lo:' || true)"
left "nftables tables" "$(nft list tables 2>/dev/null || true)"
left namespaces "$(for type in mnt net ipc uts cgroup user time; do
  readlink /proc/[0-9]*/ns/$type 2>/dev/null | sort -u | tail -n +2; done)"
left cgroups "$(find /sys/fs/cgroup -type d -name "*.*.$(readlink /proc/self/ns/pid | tr -dc 0-9)" 2>/dev/null)"
left "temporary files" "$(find "$work/tmp" -mindepth 1; find "$work"/*/store/tmp "$work"/*/store/ingest -mindepth 1 2>/dev/null)"
left "runtime files" "$(find /run -type f ! -name '*.lock' ! -name 'subnet.*')"
[ "$problems" -eq 0 ] || exit 1
echo "$builds builds in $took s: nothing is left"
