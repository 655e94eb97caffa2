"""The contexts that are built, the same bytes, modes and times on every machine.

    workloads.make(directory, name, registry)

`registry` is the prefix of the base images: `FROM {registry}/busybox:latest`, and `/pybase:latest` for w4.
"""

import os
import random

TIME = 1_700_000_000


def tree(out, dirs, files, average, text_percent):
    """`dirs` directories of `files` files, `average` bytes each; no two are equal."""
    r = random.Random(20240229)
    words = [bytes(r.choices(b"etaoinshrdlcumwfgypbvkjxqz", k=r.randint(2, 10))) for _ in range(4000)]
    parts, length = [], 0
    while length < 4 << 20:
        word = r.choice(words) + (b"\n" if r.random() < 0.1 else b" ")
        parts.append(word)
        length += len(word)
    text = b"".join(parts)
    for d in range(dirs):
        path = os.path.join(out, f"d{d:04d}")
        os.makedirs(path, exist_ok=True)
        for f in range(files):
            size = max(16, int(average * (0.1, 0.3, 0.6, 1.0, 1.5, 2.5)[(d * files + f) % 6]))
            head = b"%d/%d %d\n" % (d, f, r.getrandbits(60))
            if r.randrange(100) < text_percent:
                body = b""
                while len(body) < size:
                    o = r.randrange(len(text) - 1)
                    body += text[o : o + size - len(body)]
                name = f"f{f:04d}.txt"
            else:
                body = r.randbytes(size)
                name = f"f{f:04d}.bin"
            file = os.path.join(path, name)
            with open(file, "wb") as handle:
                handle.write((head + body)[:size])
            os.chmod(file, 0o755 if f % 37 == 0 else 0o644)
            os.utime(file, (TIME + f, TIME + f))
        os.utime(path, (TIME, TIME))


def dockerfile(out, lines):
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "Dockerfile"), "w") as handle:
        handle.write("\n".join(lines) + "\n")


def w1(out, base):
    """20 instructions over 2,000 small files, for the fully cached build."""
    tree(f"{out}/src", 40, 50, 1000, 90)
    dockerfile(out, [
        f"FROM {base}/busybox:latest", "ENV A=1", "ENV B=2 PATH=/usr/local/bin:/bin", "WORKDIR /app",
        "ARG VERSION=1.0", "LABEL org.example.version=$VERSION", "RUN echo one > /one", "RUN echo two > /two",
        "COPY src/d0000 /app/a", "COPY src/d0001 src/d0002 /app/b/", "RUN ls /app/a > /list", "COPY src /app/src",
        "RUN find /app/src | wc -l > /count", "ENV C=$A-$B", "EXPOSE 8080/tcp", "VOLUME /data", "USER 1000:1000",
        "STOPSIGNAL SIGTERM", 'ENTRYPOINT ["/bin/sh"]', 'CMD ["-c", "true"]',
    ])


def w2(out, base, steps=100):
    """Trivial RUN steps; the argument BUST makes every build a cold one."""
    lines = [f"FROM {base}/busybox:latest", "ARG BUST=0"]
    for i in range(1, steps // 2 + 1):
        lines += ["RUN true", f"RUN echo {i} > /f{i}"]
    dockerfile(out, lines)


def w3(out, base):
    """COPY of 20,000 files, 500 MB, of which 60 in 100 are text."""
    tree(f"{out}/data", 200, 100, 25000, 60)
    dockerfile(out, [f"FROM {base}/busybox:latest", "COPY data /data"])


def w4(out, base):
    """Pull and unpack of a large base."""
    dockerfile(out, [f"FROM {base}/pybase:latest", "RUN true"])


def w5(out, base):
    """A layer of 500 MB in 64 files, to be pushed."""
    tree(f"{out}/blob", 8, 8, 8065000, 60)
    dockerfile(out, [f"FROM {base}/busybox:latest", "COPY blob /blob"])


def w6(out, base):
    """Eight stages that wait a second each."""
    lines = []
    for i in range(1, 9):
        run = f"RUN sleep 1 && echo {i} > /out{i}"
        lines += [f"FROM {base}/busybox:latest AS s{i}", "ARG BUST=0", run]
    lines.append(f"FROM {base}/busybox:latest")
    dockerfile(out, lines + [f"COPY --from=s{i} /out{i} /out{i}" for i in range(1, 9)])


def w9(out, base):
    """300 stages, over 1,000 instructions, over 100,000 files."""
    tree(f"{out}/ctx", 1000, 100, 1000, 80)
    lines = []
    for i in range(300):
        lines.append(f"FROM {base}/busybox:latest AS s{i}" if i < 100 else f"FROM s{i - 100} AS s{i}")
        lines += [f"ENV V{i}={i}", f"COPY ctx/d{i:04d} /d{i}"]
    lines += [f"FROM {base}/busybox:latest", "LABEL a=1"]
    dockerfile(out, lines + [f"COPY --from=s{i} /d{i}/f0001* /o{i}/" for i in range(200, 300)])


def w9c(out, base):
    """The same 100,000 files in one COPY."""
    tree(f"{out}/ctx", 1000, 100, 1000, 80)
    dockerfile(out, [f"FROM {base}/busybox:latest", "COPY ctx /ctx"])


def make(directory, name, base):
    """Writes one context; gives its directory."""
    out = os.path.join(directory, name)
    os.makedirs(out)
    globals()[name](out, base)
    return out
