"""growth.py FORGE WORK OUT COUNT BYTES_MAX [NAME...]: see scripts/growth.sh."""

import math
import os
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time


class Growth:
    def __init__(self, forge, work, out, count, bytes_max):
        self.forge, self.work, self.out, self.count, self.bytes_max = forge, work, out, count, bytes_max
        self.stores = 0
        self.fresh()

    def fresh(self):
        """A new store with the base in it."""
        shutil.rmtree(os.path.join(self.work, "store"), ignore_errors=True)
        os.environ["FORGE_ROOT"] = os.path.join(self.work, "store")
        base = os.path.join(self.work, "base")
        if not os.path.exists(base):
            os.makedirs(f"{base}/bin")
            shutil.copy("/bin/busybox", f"{base}/bin/busybox")
            for applet in ("sh", "true", "echo"):
                os.symlink("busybox", f"{base}/bin/{applet}")
            subprocess.run(["tar", "-C", base, "-cf", f"{base}.tar", "bin"], check=True)
            shutil.rmtree(base)
            os.makedirs(base)
            os.rename(f"{base}.tar", f"{base}/rootfs.tar")
            self.dockerfile(base, ["FROM scratch", "ADD rootfs.tar /"])
        self.build(base, "base")

    def dockerfile(self, context, lines):
        os.makedirs(context, exist_ok=True)
        with open(f"{context}/Dockerfile", "w") as handle:
            handle.write("\n".join(lines) + "\n")

    def build(self, context, tag, *args):
        begin = time.monotonic()
        subprocess.run([self.forge, "build", "-q", "-t", tag, *args, context], check=True, stdout=subprocess.DEVNULL)
        return time.monotonic() - begin

    def median(self, once):
        return statistics.median(once(n) for n in range(self.count))

    def context(self):
        path = os.path.join(self.work, "context")
        shutil.rmtree(path, ignore_errors=True)
        os.makedirs(path)
        return path

    def cold(self, context):
        def once(_):
            self.fresh()
            return self.build(context, "cold")

        return self.median(once)

    # ---- What grows ----------------------------------------------------------------------------------------

    def files(self):
        """Files of 1 kB in one COPY: cold, and cached."""
        cold, cached = [], []
        for count in (1_000, 3_000, 10_000, 30_000, 100_000):
            context = self.context()
            for n in range(count):
                if n % 100 == 0:
                    os.makedirs(f"{context}/data/{n // 100}")
                with open(f"{context}/data/{n // 100}/{n}", "w") as handle:
                    handle.write(f"{n}\n" + "some words " * 90)
            self.dockerfile(context, ["FROM base", "COPY data /data"])
            time.sleep(0.1)
            cold.append((count, self.cold(context)))
            cached.append((count, self.median(lambda _: self.build(context, "cold"))))
        return "files", {"cold": cold, "cached": cached}

    def bytes(self):
        """Megabytes in one COPY, half of them noise, gzip -6: cold, and after a change in one file."""
        cold, edited = [], []
        noise = random.Random(1).randbytes(500_000)
        for megabytes in (m for m in (10, 30, 100, 300, 1000, 2000) if m <= self.bytes_max):
            context = self.context()
            os.makedirs(f"{context}/data")
            for n in range(megabytes):
                with open(f"{context}/data/{n}", "wb") as handle:
                    text = b"".join(b"line %d of file %d\n" % (line * 7919 % 10007, n) for line in range(21_000))
                    start = n * 131 % 400_000
                    handle.write(noise[start:] + b"%d" % n + noise[:start] + text[:500_000])
            self.dockerfile(context, ["FROM base", "COPY data /data"])
            cold.append((megabytes, self.cold(context)))

            def edit(turn):
                with open(f"{context}/data/{megabytes // 2}", "a") as handle:
                    handle.write(f"edit {turn}\n")
                return self.build(context, "cold")

            edited.append((megabytes, self.median(edit)))
        return "megabytes", {"cold": cold, "one file changed": edited}

    def steps(self):
        """RUN steps: cold, and cached."""
        cold, cached = [], []
        self.fresh()
        for count in (10, 30, 100, 300, 1000):
            context = self.context()
            self.dockerfile(context, ["FROM base", "ARG BUST"] + ["RUN true"] * count)
            bust = lambda n: ("--build-arg", f"BUST={count}-{n}")
            cold.append((count, self.median(lambda n: self.build(context, "steps", *bust(n)))))
            cached.append((count, self.median(lambda n: self.build(context, "steps", *bust(0)))))
        return "RUN steps", {"cold": cold, "cached": cached}

    def layers(self):
        """Layers below one RUN."""
        points = []
        self.fresh()
        for count in (2, 10, 30, 100, 300):
            below = self.context()
            self.dockerfile(below, ["FROM base"] + [f"RUN echo {n} > /f{n}" for n in range(count - 1)])
            self.build(below, f"layers{count}")
            context = os.path.join(self.work, "above")
            self.dockerfile(context, [f"FROM layers{count}", "ARG BUST", "RUN true"])
            once = lambda n: self.build(context, "above", "--build-arg", f"BUST={n}")
            points.append((count, self.median(once)))
        return "layers", {"one RUN on top": points}

    def records(self):
        """Records in the cache that have nothing to do with the build: 20 RUN, cold, and cached."""
        cold, cached, made = [], [], 0
        self.fresh()
        context = self.context()
        self.dockerfile(context, ["FROM base", "ARG BUST"] + ["RUN true"] * 20)
        for count in (100, 1_000, 10_000, 100_000):
            index = sqlite3.connect(os.path.join(self.work, "store/index.db"))
            [record] = index.execute("SELECT record FROM cache ORDER BY length(record) DESC LIMIT 1").fetchone()
            columns = [row[1] for row in index.execute("PRAGMA table_info(cache)")]
            values = {"key": None, "record": record, "used": int(time.time())}
            for n in range(made, count):
                row = {**values, "key": f"{random.Random(n).randbytes(32).hex()}"}
                names = [name for name in columns if name in row]
                marks = ", ".join("?" * len(names))
                index.execute(f"INSERT INTO cache ({', '.join(names)}) VALUES ({marks})", [row[name] for name in names])
            index.commit()
            index.close()
            made = count
            bust = lambda n: ("--build-arg", f"BUST={count}-{n}")
            cold.append((count, self.median(lambda n: self.build(context, "steps", *bust(n)))))
            cached.append((count, self.median(lambda n: self.build(context, "steps", *bust(0)))))
        return "cache records", {"20 RUN, cold": cold, "cached": cached}


# ---- Drawing -----------------------------------------------------------------------------------------------

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 400, 70, 50, 40, 20
COLOURS = ["#1f6feb", "#d1242f", "#2da44e"]


def draw(title, label, series):
    """A chart with logarithmic axes; the grey line is what linear growth looks like."""
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    x_low, x_high = math.log10(min(xs)), math.log10(max(xs))
    y_low, y_high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))
    place_x = lambda x: LEFT + (math.log10(x) - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
    place_y = lambda y: HEIGHT - BOTTOM - (math.log10(y) - y_low) / (y_high - y_low) * (HEIGHT - BOTTOM - TOP)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="14">{title}</text>',
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 12}" text-anchor="end">{label}</text>',
    ]
    for power in range(y_low, y_high + 1):
        y = place_y(10**power)
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{10**power:g} s</text>')
    for x in sorted(set(xs)):
        out.append(f'<text x="{place_x(x):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{x:,}</text>')
    last_x, last_y = next(iter(series.values()))[-1]
    first_x = max(min(xs), last_x * 10**y_low / last_y)
    first_y = last_y * first_x / last_x
    out.append(
        f'<line x1="{place_x(first_x):.1f}" y1="{place_y(first_y):.1f}" x2="{place_x(last_x):.1f}" '
        f'y2="{place_y(last_y):.1f}" stroke="#999" stroke-dasharray="4 4"/>'
    )
    for colour, (name, points) in zip(COLOURS, series.items()):
        line = " ".join(f"{place_x(x):.1f},{place_y(y):.1f}" for x, y in points)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{place_x(x):.1f}" cy="{place_y(y):.1f}" r="3" fill="{colour}"/>' for x, y in points]
        x, y = points[-1]
        text = f"{name}: {y:.3g} s"
        out.append(f'<text x="{place_x(x):.1f}" y="{place_y(y) - 8:.1f}" text-anchor="end" fill="{colour}">{text}</text>')
    return "\n".join(out + ["</svg>", ""])


def main():
    forge, work, out, count, bytes_max, *names = sys.argv[1:]
    growth = Growth(forge, work, out, int(count), int(bytes_max))
    for name in names or ["files", "bytes", "steps", "layers", "records"]:
        label, series = getattr(growth, name)()
        title = getattr(Growth, name).__doc__.rstrip(".")
        with open(os.path.join(out, f"{name}.svg"), "w") as handle:
            handle.write(draw(title, label, series))
        for line, points in series.items():
            (x0, y0), (x1, y1) = points[-2:]
            slope = math.log(y1 / y0) / math.log(x1 / x0)
            shown = ", ".join(f"{x:,}: {y:.3f} s" for x, y in points)
            print(f"{name}, {line}: {shown}; the last stretch grows with the power {slope:.2f}", flush=True)


main()
