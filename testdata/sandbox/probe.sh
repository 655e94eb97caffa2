# Prints what a step sees of its sandbox. Parts that differ between hosts are left out or made alike.
echo "uid $(id -u), gid $(id -g), groups $(id -G), host $(hostname), umask $(umask), cwd $PWD, HOME $HOME"
echo "== status"
grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp|SigBlk|SigIgn|SigCgt):' /proc/self/status
echo "== limits"
echo "core $(ulimit -c), open files $(ulimit -n)"
echo "== descriptors"
ls /proc/$$/fd
echo "== processes"
ls /proc | grep -c '^[0-9]'
echo "== cgroups"
sed 's/^.*:/cgroup /' /proc/self/cgroup | sort -u
echo "== interfaces"
ls /sys/class/net
echo "== mounts"
awk '{ for (i = 7; $i != "-"; i++); print $5, $6, $(i + 1) }' /proc/self/mountinfo |
    grep -v -E '^(/sys/fs/cgroup|/proc/[a-z]|/sys/[a-z])' | sed 's/devtmpfs\|devfs\|tmpfs/tmpfs/'
echo "== /dev"
for file in /dev/*; do
    if [ -L "$file" ]; then echo "$file -> $(readlink "$file")"; else stat -c '%n %F %a %t:%T' "$file"; fi
done
echo "== hidden or absent"
for file in /proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/sched_debug \
    /proc/scsi /proc/timer_list /proc/timer_stats /sys/firmware /sys/devices/virtual/powercap /sys/dev; do
    if [ -d "$file" ]; then [ -z "$(ls -A $file)" ] || echo "$file has entries"
    elif [ -e "$file" ]; then [ -z "$(head -c 1 $file)" ] || echo "$file has contents"; fi
done
echo "== writable"
for file in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/sys/kernel/hostname /proc/irq/default_smp_affinity \
    /sys/kernel/mm/ksm/run /etc/resolv.conf /etc/hosts; do
    if [ -e "$file" ] && (: >>"$file") 2>/dev/null; then echo "$file is writable"; fi
done
cat /etc/resolv.conf
