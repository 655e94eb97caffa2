"""forge and its peers, each as a few commands: a fresh store with the base in it, a build, a build that is pushed."""

import glob
import os
import shutil
import subprocess

import measure

LEVEL = "6"


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


class Forge(Tool):
    name = "forge"

    def __init__(self, work, aside, program):
        super().__init__(work, aside)
        self.program = program

    @property
    def env(self):
        return {"FORGE_ROOT": self.path()}

    def version(self):
        return subprocess.run([self.program, "--version"], capture_output=True, text=True).stdout.strip()

    def build(self, context, tag, args, gzip=True):
        return [[self.program, "build", "-q", "-t", tag, *pairs(args), context]]

    def push(self, context, target, args):
        return [[self.program, "build", "-q", "-t", target, "--push", *pairs(args), context]]


class Buildah(Tool):
    name = "buildah"

    def base(self):
        return ["buildah", "--root", f"{self.path()}/root", "--runroot", f"{self.path()}/run"]

    def version(self):
        return subprocess.run(["buildah", "--version"], capture_output=True, text=True).stdout.strip()

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
        return subprocess.run(["buildctl", "--version"], capture_output=True, text=True).stdout.strip()

    def fresh(self, base):
        subprocess.run(["buildctl", "prune", "--all"], capture_output=True, check=False)
        super().fresh(base)

    def solve(self, context, args, output):
        options = [f"--opt=build-arg:{key}={value}" for key, value in args.items()]
        return ["buildctl", "build", "--progress=plain", "--frontend=dockerfile.v0", f"--local=context={context}",
                f"--local=dockerfile={context}", *options, "--output", output]

    def build(self, context, tag, args, gzip=True):
        gzipped = f",compression=gzip,compression-level={LEVEL}" if gzip else ""
        return [self.solve(context, args, f"type=oci,dest={self.path()}/{tag}.tar{gzipped}" if gzip else "type=image")]

    def push(self, context, target, args):
        output = f"type=image,name={target},push=true,registry.insecure=true,compression=gzip,compression-level={LEVEL}"
        return [self.solve(context, args, output)]


class Docker(Tool):
    """The daemon that answers on Docker's socket. Its store has no gzip; it compresses when it pushes."""

    name = "docker"

    def __init__(self, work, aside):
        super().__init__(work, aside)
        self.daemon = pid_of("dockerd")

    def version(self):
        return subprocess.run(["docker", "--version"], capture_output=True, text=True).stdout.strip()

    def fresh(self, base):
        subprocess.run(["docker", "system", "prune", "--all", "--force"], capture_output=True, check=False)
        super().fresh(base)

    def build(self, context, tag, args, gzip=True):
        return [["docker", "build", "-q", "-t", tag, *pairs(args), context]]

    def push(self, context, target, args):
        return [["docker", "build", "-q", "-t", target, *pairs(args), context], ["docker", "push", "-q", target]]


def pairs(args):
    return [word for key, value in args.items() for word in ("--build-arg", f"{key}={value}")]


def pid_of(name):
    """A daemon by its name; none if it does not run, or elsewhere."""
    found = subprocess.run(["pidof", "-s", name], capture_output=True, text=True).stdout.strip()
    return int(found) if found else None


def answers(*argv):
    if shutil.which(argv[0]) is None:
        return False
    return subprocess.run(argv, capture_output=True, timeout=20).returncode == 0


def found(work, aside, forge):
    """forge, and every peer that can be used here."""
    tools = [Forge(work, aside, forge)]
    if answers("buildctl", "debug", "workers"):
        tools.append(BuildKit(work, aside))
    if answers("docker", "info"):
        tools.append(Docker(work, aside))
    if answers("buildah", "--version"):
        tools.append(Buildah(work, aside))
    only = os.environ.get("TOOLS")
    return [tool for tool in tools if not only or tool.name in only.split()]
