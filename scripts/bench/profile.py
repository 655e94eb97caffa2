"""profile.py WORK REGISTRY FORGE OUT [ROW...]: see scripts/profile.sh."""

import collections
import glob
import os
import re
import shutil
import subprocess
import sys

import measure
import workloads

FREQUENCY = "499"
# A short build is repeated under the sampler until there is something to see, or it has taken long enough.
ENOUGH_CPU_SECONDS, LONG_SECONDS = 1.0, 12
SHOWN = 14


class Row:
    """One row of the table: the context, whether gzip and a push belong to it, and what the cache holds before."""

    def __init__(self, workload, title, state, push=False, floor=()):
        self.workload, self.title, self.state, self.push, self.floor = workload, title, state, push, floor


ROWS = {
    "w1": Row("w1", "20 steps, 2,000 files, cached", "cached", floor=["exec", "stat"]),
    "w2": Row("w2", "100 RUN, cold", "bust", floor=["clone"]),
    "w3": Row("w3", "COPY of 20,000 files, 500 MB, cold", "cold", floor=["stat", "hash", "deflate"]),
    "w3-edit": Row("w3", "one file of it changed", "edited", floor=["stat", "hash"]),
    "w3-same": Row("w3", "unchanged", "cached", floor=["exec", "stat"]),
    "w4": Row("w4", "pull and unpack of a 6-layer base, RUN true", "empty", floor=["inflate", "untar"]),
    "w5": Row("w5", "500 MB layer, built and pushed, cold", "cold", push=True, floor=["hash", "deflate"]),
    "w5-again": Row("w5", "built and pushed again", "cached", push=True, floor=["exec"]),
    "w6": Row("w6", "8 stages of sleep 1", "bust", floor=["sleep"]),
    "w9": Row("w9", "300 stages over 100,000 files, cold", "cold", floor=["stat", "hash"]),
    "w9-cached": Row("w9", "the same, cached", "cached", floor=["exec", "stat"]),
    "w9c": Row("w9c", "one COPY of 100,000 files, cold", "cold", floor=["stat", "hash", "deflate"]),
    "w9c-cached": Row("w9c", "the same, cached", "cached", floor=["exec", "stat"]),
}


class Profiler:
    def __init__(self, work, registry, forge, out):
        self.work, self.registry, self.forge, self.out = work, registry, forge, out
        self.turn = 0
        self.context = None

    # ---- What is run ---------------------------------------------------------------------------------------

    def enter(self, row):
        """The context of a row; the last one goes."""
        path = os.path.join(self.work, "contexts", row.workload)
        if self.context == path:
            return
        if self.context:
            shutil.rmtree(self.context)
        self.context = workloads.make(os.path.join(self.work, "contexts"), row.workload, self.registry)

    def store(self):
        return os.path.join(self.work, "stores/store")

    def fresh(self, base=True):
        shutil.rmtree(self.store(), ignore_errors=True)
        os.makedirs(self.store())
        os.environ["FORGE_ROOT"] = self.store()
        if base:
            prime = os.path.join(self.work, "contexts/prime")
            workloads.dockerfile(prime, [f"FROM {self.registry}/busybox:latest", "RUN true"])
            measure.run([self.forge, "build", "-q", "-t", "prime", prime])

    def command(self, row):
        tag = f"{self.registry}/{row.workload}:latest" if row.push else row.workload
        push = ["--push"] if row.push else []
        return [self.forge, "build", "-q", "-t", tag, *push, "--build-arg", f"BUST={self.turn}", self.context]

    def ready(self, row):
        """Brings the cache into the row's state, and gives the command to look at."""
        self.turn += 1
        if row.state in ("cold", "empty"):
            self.fresh(base=row.state == "cold")
        elif row.state == "edited":
            with open(f"{self.context}/data/d0100/f0000.txt", "a") as handle:
                handle.write(f"{self.turn}\n")
        elif row.state == "cached":
            self.turn = 0
        return self.command(row)

    def look(self, name):
        row = ROWS[name]
        self.enter(row)
        if row.state not in ("cold", "empty"):
            self.fresh()
            self.turn = 0
            measure.run(self.command(row))
        took = measure.run(self.ready(row), memory_after=3600)
        repeat = max(1, min(round(ENOUGH_CPU_SECONDS / took.cpu), int(LONG_SECONDS / took.seconds)))
        if row.state in ("cold", "empty"):
            repeat = 1
        with open(os.path.join(self.out, f"{name}.txt"), "w") as report:
            self.report = report
            self.say(f"{name}: {row.title}")
            self.say(f"  {took.seconds:.3f} s, {took.cpu:.3f} s of CPU")
            self.sampled(name, row, repeat)
            self.calls(row)
            self.floors(row)

    def say(self, line):
        print(line, flush=True)
        self.report.write(line + "\n")

    # ---- On a core -----------------------------------------------------------------------------------------

    def sampled(self, name, row, repeat):
        files = []
        for n in range(repeat):
            files.append(os.path.join(self.work, f"perf-{n}"))
            subprocess.run(
                ["perf", "record", "-q", "-e", "cpu-clock", "-F", FREQUENCY, "--call-graph", "dwarf,8192", "-o", files[-1],
                 "--", *self.ready(row)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stacks = collections.Counter()
        for file in files:
            for stack in self.stacks(file):
                stacks[stack] += 1
            os.remove(file)
        total = sum(stacks.values())
        if not total:
            return
        self.say(f"  sampled in {repeat} builds: {total / int(FREQUENCY) / repeat:.3f} s on a core")
        self.shares("thread", stacks, lambda stack: stack[0], total)
        self.shares("function", stacks, lambda stack: stack[-1], total)
        self.shares("what lies within", stacks, own, total, all_of_them=True)
        self.draw(name, stacks)

    def stacks(self, file):
        """Every sample as a tuple: the thread, then the functions from the outermost in."""
        found = subprocess.run(["perf", "script", "-i", file, "-F", "comm,ip,sym", "--no-inline"], capture_output=True,
                               text=True, errors="replace").stdout
        for sample in found.split("\n\n"):
            lines = sample.strip("\n").split("\n")
            if not lines[0].strip():
                continue
            thread = lines[0].strip()
            frames = [short(line.split(None, 1)[1]) for line in lines[1:] if len(line.split(None, 1)) == 2]
            yield (thread, *reversed(frames or ["?"]))

    def shares(self, what, stacks, key, total, all_of_them=False):
        counts = collections.Counter()
        for stack, count in stacks.items():
            for name in key(stack) if all_of_them else [key(stack)]:
                counts[name] += count
        shown = [f"    {count * 100 / total:5.1f} %  {name}" for name, count in counts.most_common(SHOWN)
                 if count * 100 / total >= 1]
        self.say("\n".join([f"  by {what}:", *shown]))

    def draw(self, name, stacks):
        folded = "".join(f"{';'.join(stack)} {count}\n" for stack, count in stacks.items())
        with open(os.path.join(self.out, f"{name}.folded"), "w") as handle:
            handle.write(folded)
        if shutil.which("inferno-flamegraph"):
            svg = subprocess.run(["inferno-flamegraph", "--title", f"{name}: {ROWS[name].title}"], input=folded,
                                 capture_output=True, text=True, check=True).stdout
            with open(os.path.join(self.out, f"{name}.svg"), "w") as handle:
                handle.write(svg)

    # ---- In the kernel, waiting included -------------------------------------------------------------------

    def calls(self, row):
        """System calls by the time between entry and return, over all threads and processes."""
        traced = subprocess.run(["perf", "trace", "-s", "-o", os.path.join(self.work, "trace"), "--", *self.ready(row)],
                                capture_output=True)
        if traced.returncode:
            self.say("  system calls: perf trace does not work here")
            return
        times, counts = collections.Counter(), collections.Counter()
        with open(os.path.join(self.work, "trace"), errors="replace") as handle:
            for line in handle:
                # name, calls, errors, total in ms, and more
                found = re.match(r"\s+([a-z_0-9]+)\s+(\d+)\s+\d+\s+([\d.]+)\s", line)
                if found:
                    times[found[1]] += float(found[3])
                    counts[found[1]] += int(found[2])
        waits = ("futex", "epoll_wait", "poll", "ppoll", "wait4", "waitid", "clock_nanosleep", "restart_syscall")
        shown = [f"{name} {ms:.0f} ms in {counts[name]:,}" for name, ms in times.most_common(12) if name not in waits]
        waited = [f"{name} {times[name]:.0f} ms" for name in waits if times[name] >= 1]
        self.say(f"  system calls, traced, all threads: {', '.join(shown)}; waiting: {', '.join(waited) or 'none'}")

    # ---- The floor -----------------------------------------------------------------------------------------

    def floors(self, row):
        told = [getattr(self, f"floor_{name}")() for name in row.floor]
        self.say(f"  floor: {'; '.join(told)}\n")

    def floor(self, *words):
        return float(subprocess.run([f"{self.work}/floor", *words], capture_output=True, text=True, check=True).stdout)

    def shell(self, script):
        return measure.run(["sh", "-c", script], memory_after=3600).seconds

    def floor_exec(self):
        return f"start of `forge --version` {min(self.shell(f'exec {self.forge} --version') for _ in range(9)):.4f} s"

    def floor_stat(self):
        return f"lstat of all files {min(self.floor('stat', self.context) for _ in range(5)):.3f} s"

    def floor_hash(self):
        tar = f"tar -C {self.context} -cf - ."
        return f"GNU tar and openssl's SHA-256 of it all {self.shell(f'{tar} | openssl dgst -sha256 -r'):.2f} s"

    def floor_deflate(self):
        """libdeflate reads its whole input into memory, so the files are given to it one process at a time."""
        tar = os.path.join(self.work, "floor.tar")
        subprocess.run(["tar", "-C", self.context, "-cf", tar, "."], check=True)
        seconds = self.shell(f"libdeflate-gzip -6 -c {tar} > /dev/null")
        size = os.path.getsize(tar) / 1e6
        os.remove(tar)
        cores = os.cpu_count()
        return (f"libdeflate-gzip -6 of {size:.0f} MB {seconds:.2f} s of one core ({size / seconds:.0f} MB/s), "
                f"{seconds / cores:.2f} s on {cores}")

    def blobs(self):
        """The layers of the large base, as the registry keeps them."""
        found = glob.glob(f"{self.work}/registry/docker/registry/v2/blobs/sha256/*/*/data")
        return [path for path in found if os.path.getsize(path) > 1e6]

    def floor_inflate(self):
        names = " ".join(self.blobs())
        seconds = self.shell(f"for f in {names}; do gzip -dc $f; done > /dev/null")
        return f"gzip -dc of {sum(map(os.path.getsize, self.blobs())) / 1e6:.0f} MB {seconds:.2f} s"

    def floor_untar(self):
        tar, out = os.path.join(self.work, "floor.tar"), os.path.join(self.work, "floor.out")
        total = 0.0
        for blob in self.blobs():
            os.makedirs(out, exist_ok=True)
            self.shell(f"gzip -dc {blob} > {tar}")
            total += self.shell(f"tar -C {out} -xpf {tar} 2>/dev/null || true")
            os.remove(tar)
        shutil.rmtree(out, ignore_errors=True)
        return f"GNU tar -x of the inflated layers {total:.2f} s"

    def floor_clone(self):
        dir = os.path.join(self.work, "clones")
        os.makedirs(f"{dir}/lower")
        os.makedirs(f"{dir}/root")
        shutil.copy("/bin/busybox", f"{dir}/true")
        seconds = self.floor("clone", "100", dir)
        shutil.rmtree(dir)
        return f"100 × (clone with namespaces, overlay mount, exec) {seconds:.2f} s"

    def floor_sleep(self):
        return f"`sleep 1` {self.shell('exec sleep 1'):.3f} s"


def own(stack):
    """Functions of forge and its crates that are anywhere on the stack, once each; outermost frames say nothing."""
    return {frame for frame in stack[1:] if frame.startswith(("forge", "sha2", "blake3", "libdeflate", "rusqlite"))}


def short(symbol):
    """Without hashes, generic arguments and closures."""
    symbol = re.sub(r"::h[0-9a-f]{16}$", "", symbol.strip())
    symbol = re.sub(r"::\{\{closure\}\}|\{closure#\d+\}", "", symbol)
    symbol = re.sub(r"^<(.*) as .*>::", r"\1::", symbol)
    while (shorter := re.sub(r"<[^<>]*>", "", symbol)) != symbol:
        symbol = shorter
    return symbol.replace(";", ":")


def main():
    work, registry, forge, out, *names = sys.argv[1:]
    profiler = Profiler(work, registry, forge, out)
    for name in names or ROWS:
        profiler.look(name)


main()
