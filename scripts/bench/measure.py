"""What a command takes: seconds, CPU seconds, and the memory of all that it starts."""

import os
import resource
import subprocess
import threading
import time


class Took:
    def __init__(self, seconds, cpu, peak=0.0):
        self.seconds, self.cpu, self.peak = seconds, cpu, peak


class Failed(Exception):
    pass


def run(argv, env=None, daemon=None, memory_after=0.0):
    """Runs a command to its end. `daemon` is the process that works for it elsewhere; its CPU time and memory count.
    Memory is sampled from so many seconds on, which costs a little time."""
    before, daemon_before = resource.getrusage(resource.RUSAGE_CHILDREN), ticks(daemon)
    begin = time.monotonic()
    process = subprocess.Popen(
        argv, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    sampler = Sampler([process.pid] + ([daemon] if daemon else []), memory_after)
    stderr = process.communicate()[1]
    seconds = time.monotonic() - begin
    sampler.stop()
    if process.returncode != 0:
        raise Failed(f"{' '.join(argv)}: exit code {process.returncode}\n{stderr.decode(errors='replace')[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime + ticks(daemon) - daemon_before
    return Took(seconds, cpu, sampler.peak)


def children():
    """Every process's children."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as handle:
                parent = int(handle.read().rsplit(")", 1)[1].split()[1])
        except (OSError, IndexError):
            continue
        found.setdefault(parent, []).append(int(pid))
    return found


def family(roots):
    """Processes and all that descends from them."""
    found, tree = list(roots), children()
    for pid in found:
        found.extend(tree.get(pid, []))
    return found


def ticks(root):
    """CPU seconds of a daemon and of what it started, the ended ones it waited for included."""
    if root is None:
        return 0.0
    total = 0
    for pid in family([root]):
        try:
            with open(f"/proc/{pid}/stat") as handle:
                total += sum(int(field) for field in handle.read().rsplit(")", 1)[1].split()[11:15])
        except OSError:
            continue
    return total / os.sysconf("SC_CLK_TCK")


class Sampler:
    """The greatest sum of proportional set sizes seen, in MiB: pages that processes share count once."""

    def __init__(self, roots, after):
        self.roots, self.after, self.peak, self.over = roots, after, 0.0, threading.Event()
        self.thread = threading.Thread(target=self.sample)
        self.thread.start()

    def sample(self):
        """Every 10 ms, or seldom enough to take a twentieth of one core."""
        if self.over.wait(self.after):
            return
        pause = 0.01
        while not self.over.wait(pause):
            begin = time.monotonic()
            self.peak = max(self.peak, sum(map(pss, family(self.roots))))
            pause = max(0.01, 20 * (time.monotonic() - begin))

    def stop(self):
        self.over.set()
        self.thread.join()


def pss(pid):
    try:
        with open(f"/proc/{pid}/smaps_rollup") as handle:
            return sum(int(line.split()[1]) for line in handle if line.startswith("Pss:")) / 1024
    except OSError:
        return 0.0
