"""forge and its peers, each as a few commands: a fresh store with the base in it, a build, a build that is pushed."""

import glob
import os
import shutil
import subprocess
import sys
import time

import measure

LEVEL = "6"
GZIP = f"compression=gzip,compression-level={LEVEL}"


class Tool:
    """`fresh(base)` gives an empty cache that holds the base image, if one is named. `build` and `push` are commands
    that leave the same behind: an image with gzip -6 layers."""

    name = ""
    daemon = None
    env = {}

    def __init__(self, work, aside):
        self.work, self.aside, self.stores = work, aside, 0

    def path(self):
        return os.path.join(self.work, f"{self.name}-{self.stores}")

    def fresh(self, base):
        """Old stores are moved away on a disk (deleting many files slows creating them for minutes) and removed in
        memory, where that costs nothing and the space is needed."""
        if os.path.exists(self.path()):
            self.forget(self.path())
        self.stores += 1
        os.makedirs(self.path())
        if base:
            self.prime(base)

    def forget(self, path):
        if self.aside:
            os.rename(path, os.path.join(self.aside, os.path.basename(path)))
        else:
            subprocess.run(["rm", "-rf", "--one-file-system", path], check=False)

    def prime(self, base):
        context = os.path.join(self.work, f"{self.name}-prime")
        os.makedirs(context, exist_ok=True)
        with open(os.path.join(context, "Dockerfile"), "w") as handle:
            handle.write(f"FROM {base}\nRUN true\n")
        for command in self.build(context, "prime", {}, gzip=False):
            measure.run(command, self.env, self.daemon)

    def close(self):
        if os.path.exists(self.path()):
            self.forget(self.path())

    def stop(self):
        """Ends what this tool keeps running."""


class Forge(Tool):
    name = "forge"

    def __init__(self, work, aside, program):
        super().__init__(work, aside)
        self.program = program

    @property
    def env(self):
        return {"FORGE_ROOT": self.path()}

    def version(self):
        return output(self.program, "--version")

    def build(self, context, tag, args, gzip=True):
        return [[self.program, "build", "-q", "-t", tag, *pairs(args), context]]

    def push(self, context, target, args):
        return [[self.program, "build", "-q", "-t", target, "--push", *pairs(args), context]]


class Buildah(Tool):
    name = "buildah"

    def base(self):
        return ["buildah", "--root", f"{self.path()}/root", "--runroot", f"{self.path()}/run"]

    def version(self):
        return " ".join(output("buildah", "--version").split()[::2][:2])

    def build(self, context, tag, args, gzip=True):
        commands = [self.base() + ["bud", "-q", "--layers", "--tls-verify=false", "-t", tag, *pairs(args), context]]
        if gzip:
            layout = f"oci:{self.path()}/layout-{tag}"
            commands.append(self.base() + ["push", "-q", "-f", "oci", "--compression-format", "gzip",
                                           "--compression-level", LEVEL, tag, layout])
        return commands

    def push(self, context, target, args):
        build = self.base() + ["bud", "-q", "--layers", "--tls-verify=false", "-t", target, *pairs(args), context]
        push = self.base() + ["push", "-q", "--tls-verify=false", "--compression-format", "gzip",
                              "--compression-level", LEVEL, target, f"docker://{target}"]
        return [build, push]

    def forget(self, path):
        subprocess.run(self.base() + ["umount", "--all"], capture_output=True)
        for mount in sorted(glob.glob(f"{path}/root/overlay*"), reverse=True):
            subprocess.run(["umount", "-q", mount], capture_output=True)
        super().forget(path)


class BuildKit(Tool):
    """A buildkitd that runs already; its own defaults apply. Its cache is pruned, not replaced."""

    name = "buildkit"

    def __init__(self, work, aside):
        super().__init__(work, aside)
        self.daemon = pid_of("buildkitd")

    def version(self):
        return output("buildctl", "--version")

    def fresh(self, base):
        subprocess.run(["buildctl", "prune", "--all"], capture_output=True, check=False)
        super().fresh(base)

    def solve(self, context, args, output):
        options = [f"--opt=build-arg:{key}={value}" for key, value in args.items()]
        return ["buildctl", "build", "--progress=plain", "--frontend=dockerfile.v0", f"--local=context={context}",
                f"--local=dockerfile={context}", *options, "--output", output]

    def build(self, context, tag, args, gzip=True):
        return [self.solve(context, args, f"type=image,name={tag},unpack=false,{GZIP}")]

    def push(self, context, target, args):
        return [self.solve(context, args, f"type=image,name={target},push=true,registry.insecure=true,{GZIP}")]


class Docker(Tool):
    """A Docker daemon of the benchmark's own, from PATH or from another Debian root (`docker.sh`). It stays warm; its
    caches are pruned. A daemon since 25 is BuildKit over containerd's store: it is driven by buildx, and its steps get
    the host's network, since one of their own costs it as much again. An older one has no gzip before it pushes."""

    name = "docker"

    def __init__(self, work, aside, root):
        super().__init__(work, aside)
        self.root, self.home = root, os.path.join(work, "docker")
        os.makedirs(self.home, exist_ok=True)
        inside = [] if root == "/" else ["chroot", root]
        self.release = output(*inside, "dockerd", "--version").split()[2].split("+")[0].rstrip(",")
        self.is_modern = int(self.release.split(".")[0]) >= 25
        options = ["--feature", "containerd-snapshotter=true"] if self.is_modern else []
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "docker.sh")
        with open(f"{self.home}/log", "wb") as log:
            self.process = subprocess.Popen(
                ["unshare", "--mount", "bash", script, self.home, os.path.dirname(work), root, *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        self.daemon = self.process.pid
        for _ in range(300):
            if self.process.poll() is not None:
                raise OSError(f"dockerd ended: {open(f'{self.home}/log').read()[-1000:]}")
            if os.path.exists(f"{self.home}/docker.pid") and self.ask("info").returncode == 0:
                return
            time.sleep(0.1)
        raise OSError("dockerd does not answer")

    @property
    def env(self):
        return {"DOCKER_HOST": f"unix://{self.home}/docker.sock", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
                "DOCKER_BUILDKIT": "1"}

    def client(self, *words):
        """The client lives where the daemon does; Debian's own comes before another on PATH, which may lack buildx."""
        inside = ["nsenter", "-m", "-t", str(self.daemon)]
        program = "/usr/bin/docker" if os.path.exists(f"{self.root}/usr/bin/docker") else "docker"
        return [*inside, program, *words]

    def ask(self, *words):
        return subprocess.run(self.client(*words), env={**os.environ, **self.env}, capture_output=True, text=True)

    def version(self):
        return f"Docker {self.release}" + (", which is BuildKit" if self.is_modern else "")

    def fresh(self, base):
        self.ask("image", "prune", "--all", "--force")
        self.ask("builder", "prune", "--all", "--force")
        super().fresh(base)

    def build(self, context, tag, args, gzip=True):
        if not self.is_modern:
            return [self.client("build", "--network=host", "-q", "-t", tag, *pairs(args), context)]
        return [self.buildx(context, args, f"type=image,name={tag},unpack=false,{GZIP}")]

    def push(self, context, target, args):
        if not self.is_modern:
            build = self.client("build", "--network=host", "-q", "-t", target, *pairs(args), context)
            return [build, self.client("push", "-q", target)]
        return [self.buildx(context, args, f"type=image,name={target},push=true,registry.insecure=true,{GZIP}")]

    def buildx(self, context, args, output):
        return self.client("buildx", "build", "-q", "--network=host", *pairs(args), "--output", output, context)

    def stop(self):
        self.process.terminate()
        self.process.wait()


def pairs(args):
    return [word for key, value in args.items() for word in ("--build-arg", f"{key}={value}")]


def output(*argv):
    return subprocess.run(argv, capture_output=True, text=True).stdout.strip()


def pid_of(name):
    """A daemon by its name; none if it does not run, or elsewhere."""
    found = output("pidof", "-s", name)
    return int(found) if found else None


def answers(*argv):
    if shutil.which(argv[0]) is None:
        return False
    return subprocess.run(argv, capture_output=True, timeout=20).returncode == 0


def found(work, aside, forge):
    """forge, and every peer that can be used here. DOCKER_ROOT is the root of another system to take Docker from."""
    only = os.environ.get("TOOLS", "").split()
    wanted = lambda name: not only or name in only
    tools = [Forge(work, aside, forge)] if wanted("forge") else []
    if wanted("buildkit") and answers("buildctl", "debug", "workers"):
        tools.append(BuildKit(work, aside))
    root = os.environ.get("DOCKER_ROOT") or "/"
    if wanted("docker") and (root != "/" or answers("dockerd", "--version")):
        try:
            tools.append(Docker(work, aside, root))
        except OSError as error:
            print(f"docker is left out: {error}", file=sys.stderr)
    if wanted("buildah") and answers("buildah", "--version"):
        tools.append(Buildah(work, aside))
    return tools
