"""Runs the workloads with every tool, in turn, and prints the table of docs/performance.md.

    run.py WORK ASIDE REGISTRY FORGE COUNT TABLE [WORKLOAD...]

WORK is where contexts and stores go; ASIDE, if not empty, is where old stores are moved instead of being removed.
"""

import os
import shutil
import statistics
import sys

import measure
import tools
import workloads

# Peers take much longer than forge; after so many runs the median stands.
PEER_COUNT = 3
# A tool that takes so many seconds says nothing more by repeating it: one run counts.
SLOW_SECONDS = 30
# From so many seconds on, looking at memory does not show in the time.
LONG_SECONDS = 5


class Runs:
    """One tool's runs of one row: so many that count, and what memory they took."""

    def __init__(self, count):
        self.count, self.timed, self.peak, self.is_over = count, [], 0.0, False

    def wants_memory(self):
        return len(self.timed) == self.count

    def add(self, took):
        self.peak = max(self.peak, took.peak)
        if len(self.timed) < self.count:
            self.timed.append(took)
        enough = len(self.timed) == self.count and self.peak > 0
        self.is_over = enough or self.timed[0].seconds > SLOW_SECONDS

    def median(self, field="seconds"):
        return statistics.median(getattr(run, field) for run in self.timed) if self.timed else None

    def spread(self):
        seconds = [run.seconds for run in self.timed]
        return f"{show(min(seconds))}–{show(max(seconds))}" if len(seconds) > 1 else "–"


class Bench:
    def __init__(self, work, aside, registry, count):
        self.work, self.aside, self.registry, self.count = work, aside, registry, count
        self.rows, self.number = [], 0

    def base(self):
        return f"{self.registry}/busybox:latest"

    def timed(self, tool, commands, memory=False):
        total = measure.Took(0.0, 0.0)
        for command in commands:
            took = measure.run(command, tool.env, tool.daemon, 0.0 if memory else LONG_SECONDS)
            total.seconds += took.seconds
            total.cpu += took.cpu
            total.peak = max(total.peak, took.peak)
        return total

    def row(self, title, users, once):
        """`once(tool)` prepares what the row states, and gives the commands that are measured. Tools take turns. A
        short run is repeated once more to look at the memory."""
        results = {tool.name: Runs(self.count if tool.name == "forge" else min(self.count, PEER_COUNT)) for tool in users}
        while any(not runs.is_over for runs in results.values()):
            for tool in users:
                runs = results[tool.name]
                if runs.is_over:
                    continue
                self.number += 1
                try:
                    took = self.timed(tool, once(tool), runs.wants_memory())
                except (measure.Failed, OSError) as error:
                    runs.is_over = True
                    print(f"  {title}: {tool.name} failed: {error}", file=sys.stderr)
                    continue
                runs.add(took)
                print(f"  {title}: {tool.name} {took.seconds:.3f} s", file=sys.stderr)
        self.rows.append((title, results))

    # ---- The workloads -------------------------------------------------------------------------------------

    def w1(self, context, users):
        self.primed(users, context, gzip=False)
        self.row("w1: 20 steps, 2,000 files, cached", users, lambda t: t.build(context, "w1", {}, gzip=False))

    def w2(self, context, users):
        for tool in users:
            tool.fresh(self.base())
        once = lambda t: t.build(context, "w2", {"BUST": self.number}, gzip=False)
        self.row("w2: 100 RUN, cold", users, once)

    def w3(self, context, users):
        self.cold("w3: COPY of 20,000 files, 500 MB, gzip, cold", users, context, "w3")
        self.row("w3, unchanged", users, lambda t: t.build(context, "w3", {}))

        def edited(tool):
            # The first build after an edit by somebody else is not the one to measure: this one edits for itself.
            with open(f"{context}/data/d0100/f0000.txt", "a") as handle:
                handle.write(f"{self.number}\n")
            return tool.build(context, "w3", {})

        self.row("w3, one file changed", users, edited)

    def w4(self, context, users):
        def once(tool):
            tool.fresh(None)
            return tool.build(context, "w4", {}, gzip=False)

        self.row("w4: pull and unpack of a 6-layer base, RUN true", users, once)

    def w5(self, context, users):
        names = {}

        def cold(tool):
            tool.fresh(self.base())
            names[tool.name] = f"{self.registry}/w5-{tool.name}-{self.number}:latest"
            return tool.push(context, names[tool.name], {})

        self.row("w5: 500 MB layer, built and pushed, cold", users, cold)
        again = [tool for tool in users if tool.name in names]
        self.row("w5, again", again, lambda t: t.push(context, names[t.name], {}))

    def w6(self, context, users):
        for tool in users:
            tool.fresh(self.base())
        self.row("w6: 8 stages of sleep 1", users, lambda t: self.jobs(t, context))

    def jobs(self, tool, context):
        commands = tool.build(context, "w6", {"BUST": self.number}, gzip=False)
        # buildah builds one stage after the other unless it is told otherwise.
        return [c[:-1] + ["--jobs", "8", c[-1]] for c in commands] if tool.name == "buildah" else commands

    def w9(self, context, users):
        self.cold("w9: 300 stages over 100,000 files, cold", users, context, "w9", gzip=False)
        self.row("w9, cached", users, lambda t: t.build(context, "w9", {}, gzip=False))

    def w9c(self, context, users):
        self.cold("w9c: one COPY of 100,000 files, cold", users, context, "w9c")
        self.row("w9c, cached", users, lambda t: t.build(context, "w9c", {}))

    # ---- States of caches ----------------------------------------------------------------------------------

    def primed(self, users, context, gzip):
        for tool in users:
            tool.fresh(self.base())
            self.timed(tool, tool.build(context, "w1", {}, gzip=gzip))

    def cold(self, title, users, context, tag, gzip=True):
        """The base is there, nothing else is."""

        def once(tool):
            tool.fresh(self.base())
            return tool.build(context, tag, {}, gzip=gzip)

        self.row(title, users, once)


def table(rows):
    names = {name for _, results in rows for name in results}
    order = [name for name in ("forge", "buildkit", "docker", "buildah") if name in names]
    head = "| work | tool | median | spread | CPU | peak memory | forge takes |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    for title, results in rows:
        own = results["forge"].median() if "forge" in results else None
        for name in order:
            runs = results.get(name)
            if runs is None or not runs.timed:
                continue
            ratio = "" if name == "forge" or own is None else f"{own / runs.median():.3f} ×"
            peak = f"{runs.peak:.0f} MiB" if runs.peak else "–"
            lines.append(
                f"| {title} | {name} | {show(runs.median())} | {runs.spread()} | {runs.median('cpu'):.2f} s | {peak} | {ratio} |"
            )
            title = ""
    return "\n".join(lines)


def show(seconds):
    return f"{seconds:.3f} s" if seconds < 1 else f"{seconds:.2f} s"


def machine(users):
    def first(path, key):
        with open(path) as handle:
            return next((line.split(":", 1)[1].strip() for line in handle if line.startswith(key)), "?")

    load = os.getloadavg()[0]
    memory = int(first("/proc/meminfo", "MemTotal").split()[0]) >> 20
    what = f"{os.cpu_count()} × {first('/proc/cpuinfo', 'model name')}, {memory} GiB, Linux {os.uname().release}"
    versions = ", ".join(filter(None, (tool.version() for tool in users)))
    return f"{what}; load {load:.1f} at the end. {versions}."


def write_into(document, text):
    """Puts the table where the document has the last one."""
    with open(document) as handle:
        before, _, rest = handle.read().partition("<!-- table -->")
    _, _, after = rest.partition("<!-- end of the table -->")
    with open(document, "w") as handle:
        handle.write(f"{before}<!-- table -->\n{text}<!-- end of the table -->{after}")


def main():
    work, aside, registry, forge, count, out, *names = sys.argv[1:]
    document = os.environ.get("WRITE") and os.path.abspath(os.environ["WRITE"])
    os.chdir(work)
    os.makedirs(os.path.join(work, "stores"), exist_ok=True)
    users = tools.found(os.path.join(work, "stores"), aside, forge)
    bench = Bench(work, aside, registry, int(count))
    try:
        for name in names or ["w1", "w2", "w3", "w4", "w5", "w6", "w9", "w9c"]:
            print(f"{name}: {workloads.__dict__[name].__doc__}", file=sys.stderr)
            context = workloads.make(os.path.join(work, "contexts"), name, registry)
            getattr(bench, name)(context, users)
            for tool in users:
                tool.close()
            shutil.rmtree(context)
            text = f"{table(bench.rows)}\n\n{machine(users)}\n"
            with open(out, "w") as handle:
                handle.write(text)
    finally:
        for tool in users:
            tool.stop()
    if document:
        write_into(document, text)
    print(text)


main()
