#!/usr/bin/env bash
# Runs forge on a machine that has cgroup v2 only, then on one with v1 and v2 at once: User Mode Linux, a kernel (of
# version 6.1) that is an ordinary program and needs no /dev/kvm. The machine's files are this one's, read-only; what
# it writes goes to a disk of its own. Takes two or three minutes.
#
#   scripts/cgroup2.sh                          all
#   scripts/cgroup2.sh --test NAME…             only these tests of cli/tests/it
#   scripts/cgroup2.sh --shell 'COMMANDS'       COMMANDS as root of the first machine
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh

not_run() {
  echo "cgroup2: not run: $1"
  exit 0
}

[ "$(uname -m)" = x86_64 ] || not_run "user-mode-linux is for x86_64, this is $(uname -m)"
[ "$(id -u)" -eq 0 ] || not_run "it needs root"
need user-mode-linux e2fsprogs busybox-static uidmap fuse-overlayfs || not_run "user-mode-linux cannot be installed"

scratch=$(mktemp -d /var/tmp/forge-cgroup2.XXXXXX)
trap 'rm -rf "$scratch"' EXIT

# boot NAME KERNEL-OPTIONS…: runs scripts/cgroup2/guest.sh as the first process of the machine; fails as it does.
boot() {
  local log=$scratch/$1.log
  shift
  rm -f "$scratch/disk"
  truncate -s 4G "$scratch/disk"
  mke2fs -q -F -t ext4 -O ^has_journal "$scratch/disk"
  timeout 150 linux.uml mem=1536M ubd0="$scratch/disk" rootfstype=hostfs rootflags=/ ro quiet con=null con0=null,fd:1 \
    init="$PWD/scripts/cgroup2/guest.sh" "$@" </dev/null >"$log" 2>"$log.kernel" || true
  grep -a -v -e '^SELinux: ' -e '^mmapper_init' -e '^reboot: ' -e '^sysrq: ' -e '^Memory cgroup out of memory: ' "$log" || true
  if ! grep -aq '^guest: began' "$log"; then
    tail -n 3 "$log.kernel" "$log" >&2
    not_run "User Mode Linux does not start here (it needs ptrace)"
  fi
  grep -aq '^guest: passed' "$log"
}

target=$(cargo metadata --format-version 1 --no-deps | jq -r .target_directory)
cargo build --workspace --quiet
{
  echo "source=$PWD"
  echo "forge=$target/debug/forge"
  [ "${1:-}" != --test ] || cargo test --workspace --no-run --message-format=json 2>/dev/null |
    jq -r 'select(.executable and (.target.src_path // "" | endswith("/cli/tests/it/main.rs"))) | "it=\(.executable)"'
} >"$scratch/programs"

case ${1:-} in
--shell | --test)
  echo "${@:2}" >"$scratch/what"
  boot other cgroup_no_v1=all FORGE_GUEST="${1#--}" FORGE_PROGRAMS="$scratch/programs" FORGE_WHAT="$scratch/what"
  ;;
'')
  boot v2 cgroup_no_v1=all FORGE_GUEST=v2 FORGE_PROGRAMS="$scratch/programs"
  boot hybrid FORGE_GUEST=hybrid FORGE_PROGRAMS="$scratch/programs"
  ;;
*)
  echo "usage: $0 [--test NAME… | --shell COMMANDS]" >&2
  exit 2
  ;;
esac
echo "cgroup2: passed"
