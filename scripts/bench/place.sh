# Sourced by the scripts that build the workloads: `place WORKLOAD…` makes a directory in memory with contexts/ and
# stores/, and a registry on loopback with the base images that the named workloads (all, if none is) stand on. It
# sets `work` and `registry`, needs `forge` and `kept` (what is kept between runs), and cleans up at the exit.
# SIZE is the size of the memory in megabytes; with 0 the directory lies in `kept`.

export PYTHONDONTWRITEBYTECODE=1
registry_pid=

place() {
  need busybox-static mmdebstrap docker-registry python3 ca-certificates
  work=$(mktemp -d "$kept/run.XXXXXX")
  trap leave EXIT
  trap 'exit 1' INT TERM HUP
  [ "${SIZE:-6000}" = 0 ] || mount -t tmpfs -o "size=${SIZE:-6000}m,nr_inodes=0,mode=0755" forge-bench "$work"
  mkdir "$work/contexts" "$work/stores" "$work/bases"
  serve
  export FORGE_ROOT=$work/bases/store
  busybox
  if [ $# -eq 0 ] || [[ " $* " = *" w4 "* ]]; then pybase; fi
  rm -rf "$work/bases"
  unset FORGE_ROOT
}

leave() {
  [ -z "$registry_pid" ] || kill "$registry_pid" 2>/dev/null || true
  [ "${SIZE:-6000}" = 0 ] || umount -l "$work" 2>/dev/null || true
  rm -rf --one-file-system "$work"
}

serve() {
  local port
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
}

base() { # base NAME DIRECTORY: builds and pushes an image
  "$forge" build -q -t "$registry/$1:latest" --push "$2" >/dev/null
}

busybox() {
  local applet
  mkdir -p "$work/bases/busybox/bin" "$work/bases/context"
  cp /bin/busybox "$work/bases/busybox/bin/"
  for applet in sh true echo ls find wc sleep cat; do ln -s busybox "$work/bases/busybox/bin/$applet"; done
  tar -C "$work/bases/busybox" -cf "$work/bases/context/rootfs.tar" bin
  printf 'FROM scratch\nADD rootfs.tar /\n' > "$work/bases/context/Dockerfile"
  base busybox "$work/bases/context"
}

# A root filesystem with a few large packages, cut into six layers.
pybase() {
  local rootfs=$kept/pybase.tar n
  [ -e "$rootfs" ] || { mmdebstrap --quiet --variant=minbase --include=python3,python3-pip,gcc,git,perl \
    bookworm "$kept/new.tar" && mv "$kept/new.tar" "$rootfs"; }
  mkdir "$work/bases/pybase"
  python3 scripts/bench/split.py "$rootfs" "$work/bases/pybase" 6
  { echo 'FROM scratch'; for n in 0 1 2 3 4 5; do echo "ADD part$n.tar /"; done; echo 'CMD ["python3"]'; } \
    > "$work/bases/pybase/Dockerfile"
  base pybase "$work/bases/pybase"
}
