#!/bin/bash
# The first process of the machine that ../cgroup2.sh starts. What it is to do is in the environment: the kernel hands
# words of its command line on.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
echo "guest: began"

furnish() {
  mount -t proc proc /proc
  mount -t sysfs sys /sys
  mount -t devtmpfs dev /dev 2>/dev/null
  ln -s /proc/self/fd /dev/fd
  mkdir -p /dev/pts /dev/shm
  mount -t devpts devpts /dev/pts
  mount -t tmpfs shm /dev/shm
  mount -t tmpfs run /run
  local modules module
  modules=$(echo /usr/lib/uml/modules/*/kernel)
  for module in fs/overlayfs/overlay fs/fuse/fuse drivers/net/tun drivers/net/veth; do
    busybox insmod "$modules/$module.ko"
  done
  chmod 666 /dev/fuse /dev/net/tun
  ip link set lo up
  # What is to be seen of the machine's own /tmp is put into the new one before that covers it.
  mkdir /run/disk
  mount -t ext4 /dev/ubda /run/disk
  chmod 1777 /run/disk
  local name value
  while IFS='=' read -r name value; do declare -g "guest_$name=$value"; done <"$FORGE_PROGRAMS"
  local path
  for path in "$guest_source" "$(dirname "$guest_forge")"; do
    case $path in
    /tmp/*)
      mkdir -p "/run/disk/${path#/tmp/}"
      mount --bind "$path" "/run/disk/${path#/tmp/}"
      ;;
    esac
  done
  mount --rbind /run/disk /tmp
  mkdir -p /run/etc /run/home /run/target
  cp -a /etc/. /run/etc
  mount --bind /run/etc /etc
  mount --bind /run/home /home
  mount --bind /run/home /root
  mount --bind /run/target "$(dirname "$(dirname "$guest_forge")")/tmp"
  id -u forgetest >/dev/null 2>&1 || useradd forgetest
  grep -q forgetest /etc/subuid || usermod --add-subuids 100000-165535 --add-subgids 100000-165535 forgetest
  cp "$guest_forge" /run/forge && cd /run
}

# dockerfile RUN…: the context that is built.
dockerfile() {
  mkdir -p /tmp/context
  cp /bin/busybox /tmp/context/
  {
    printf 'FROM scratch\nCOPY busybox /bin/busybox\nCOPY busybox /bin/sh\n'
    printf 'RUN --network=none %s\n' "$@"
  } >/tmp/context/Dockerfile
  chmod -R a+rX /tmp/context
}

# build ARGS…: by $who (words before the command) in the cgroup $cgroup, or a new one below $fresh, in the store $store.
# Sets $said and $code.
build() {
  if [ -n "$fresh" ]; then
    cgroup=$(mktemp -d "$fresh/run.XXXX")
    chown -R --reference="$fresh" "$cgroup"
  fi
  said=$(
    echo "$BASHPID" >"$cgroup/cgroup.procs"
    exec "${who[@]}" /run/forge --root "/tmp/$store" build --no-cache --progress=plain "$@" /tmp/context 2>&1
  )
  code=$?
}

# expect WHAT CODE PATTERN: of the last build.
expect() {
  if [ "$code" -eq "$2" ] && grep -qE -e "$3" <<<"$said"; then
    echo "ok: $1"
  else
    printf 'FAILED: %s: exit code %s, wanted %s and /%s/:\n%s\n' "$1" "$code" "$2" "$3" "$said"
    failed=1
  fi
}

# company CGROUP: somebody else is in there.
company() {
  (
    echo "$BASHPID" >"$1/cgroup.procs"
    exec sleep 1000
  ) &
  companions+=($!)
}

alone() {
  [ ${#companions[@]} -eq 0 ] || kill "${companions[@]}"
  wait "${companions[@]}" 2>/dev/null
  companions=()
}

ROOT=(env)
USER_=(setpriv --reuid=forgetest --regid=forgetest --init-groups env HOME=/tmp)
EAT='busybox head -c 100m /dev/zero | busybox tail -c 99m >/dev/null'
FORK='for i in 1 2 3 4 5 6 7 8 9 10 11 12; do busybox sleep 3 & done; exit 4'
OUT_OF_MEMORY='exit code: 137 \(out of memory: its limit is 33554432 bytes\)'
OUT_OF_PIDS='reached its limit of 10 processes'
CG=/sys/fs/cgroup

# Limits hold, each is named, and a step that asks for nothing has the default one, whatever $who and $cgroup are.
limits_hold() {
  dockerfile "echo limit \$(busybox cat $CG/pids.max) in \$(busybox cat /proc/self/cgroup) >&2; ! echo 1 >$CG/pids.max"
  build
  expect "$1: a step has the default limit, in the root of a namespace, read-only" 0 'limit 16384 in 0::/$'
  ! grep -q 'no limit on processes' <<<"$said" || expect "$1: nothing is said" 0 "^$"
  dockerfile "$EAT"
  build -m 32m
  expect "$1: memory" 1 "$OUT_OF_MEMORY"
  dockerfile "$FORK"
  build --resource pids=10,memory=64m
  expect "$1: processes" 1 "$OUT_OF_PIDS"
}

nothing_is_left() {
  local left
  left=$(find "$CG" -mindepth 1 -type d \( -name forge -o -name '*.*.40265*' \))
  [ -z "$left" ] || { echo "FAILED: $1: left behind: $left"; failed=1; }
}

# What systemd makes for a user who is logged in: a session of root's, and below the user's manager what is the user's.
plant() {
  echo '+memory +pids +cpu' >$CG/cgroup.subtree_control
  slice=$CG/user.slice/user-1000.slice
  app=$slice/user@1000.service/app.slice
  mkdir -p "$app/terminal.scope" "$slice/session-1.scope"
  local level
  for level in "$CG/user.slice" "$slice" "$slice/user@1000.service" "$app"; do
    echo '+memory +pids' >"$level/cgroup.subtree_control"
  done
  chown -R forgetest "$slice/user@1000.service"
}

v2() {
  store=root who=("${ROOT[@]}") cgroup=$CG
  limits_hold "root at the top"
  nothing_is_left "root at the top"
  plant

  cgroup=$slice/session-1.scope
  company "$cgroup"
  limits_hold "root in a session"
  nothing_is_left "root in a session"
  dockerfile 'busybox sleep 3'
  (build) &
  builder=$!
  for _ in $(seq 100); do
    pid=$(pgrep -x -f 'busybox sleep 3') && break
    sleep 0.1
  done
  said=$(cut -d: -f3 "/proc/$pid/cgroup") code=0
  expect "steps stay below the limits of the user" 0 '^/user.slice/user-1000.slice/forge/[0-9.]+$'
  wait $builder

  store=user who=("${USER_[@]}")
  dockerfile true
  build
  expect "a user in a session is told that there is no limit, and how there is one" 0 \
    'no limit on processes: .*session-1.scope.*to have one: systemd-run --user --scope -p Delegate=yes forge'
  build -m 32m
  expect "a limit that cannot be kept is an error" 7 'help: systemd-run --user --scope -p Delegate=yes forge'
  said=$(
    echo "$BASHPID" >"$cgroup/cgroup.procs"
    exec "${who[@]}" /run/forge doctor
  ) code=0
  expect "doctor says so too" 0 'missing limit on memory .*session-1.scope'
  alone

  fresh=$app
  limits_hold "a user alone in a scope"
  build --resource cpus=0.5
  expect "a controller that was not delegated" 7 'no writable cgroup with the cpu controller .*itself has no cpu'
  fresh=''
  company "$app/terminal.scope"
  cgroup=$app/terminal.scope
  limits_hold "a user in a terminal"
  alone
  nothing_is_left "a user"

  # The root of a container's namespace, where its first process is.
  store=root who=(unshare --cgroup --mount sh -c "umount $CG && mount -t cgroup2 none $CG && exec \"\$@\"" sh)
  cgroup=$CG/container
  mkdir "$cgroup"
  company "$cgroup"
  dockerfile true
  build
  expect "root in a container is told" 0 "to have one: mkdir -p $CG/init; for p in"
  build -m 32m
  expect "root in a container" 7 "help: mkdir -p $CG/init; for p in"
  alone
  fresh=$CG
  limits_hold "root alone in a container"
}

hybrid() {
  mount -t tmpfs none $CG
  mkdir $CG/memory $CG/unified
  mount -t cgroup -o memory none $CG/memory
  mount -t cgroup2 none $CG/unified
  [ "$(cat $CG/unified/cgroup.controllers)" = "cpu io pids" ] || echo "unexpected: $(cat $CG/unified/cgroup.controllers)"
  store=root who=("${ROOT[@]}") cgroup=$CG/unified
  dockerfile "$EAT"
  build -m 32m
  expect "hybrid: memory by v1" 1 "$OUT_OF_MEMORY"
  dockerfile "$FORK"
  build --resource pids=10,memory=64m,cpus=0.9
  expect "hybrid: processes by v2" 1 "$OUT_OF_PIDS"
  nothing_is_left hybrid
}

failed=0 companions=() fresh=''
furnish || exit 1
[ "$FORGE_GUEST" = hybrid ] || mount -t cgroup2 none $CG
case $FORGE_GUEST in
v2) v2 ;;
hybrid) hybrid ;;
test)
  # shellcheck disable=SC2046
  "$guest_it" --test-threads 2 $(cat "$FORGE_WHAT") || failed=1
  ;;
shell) bash "$FORGE_WHAT" ;;
esac
[ $failed -eq 0 ] && echo "guest: passed"
echo o >/proc/sysrq-trigger
sleep 10
