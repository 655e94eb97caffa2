# What the kernel shows in directories, as a process with such a directory as its root sees it. For each directory
# given, the file DIRECTORY.probes has paths, and DIRECTORY.dump gets a line for every file, then for every probe
# what it leads to with its symlinks.
import os, stat, sys

def describe(path, follow):
    st = os.stat(path) if follow else os.lstat(path)
    kind = stat.S_IFMT(st.st_mode)
    size = 0 if stat.S_ISDIR(kind) else st.st_size
    line = f"{kind:o} {stat.S_IMODE(st.st_mode):o} {size} {st.st_mtime_ns}"
    if stat.S_ISLNK(kind):
        line += " -> " + os.readlink(path)
    if stat.S_ISREG(kind):
        line += " " + open(path).read()
    return line

def walk(directory, out):
    for name in sorted(os.listdir("/" + directory)):
        path = os.path.join(directory, name)
        try:
            print(path, describe("/" + path, False), file=out)
        except FileNotFoundError:
            continue  # a whiteout in a directory that no other layer has is listed, and is not there
        if stat.S_ISDIR(os.lstat("/" + path).st_mode):
            walk(path, out)

def dump(root):
    probes = open(root + ".probes").read().splitlines()
    out = open(root + ".dump", "w")
    os.chroot(root)
    os.chdir("/")
    walk("", out)
    for probe in probes:
        for follow in False, True:
            try:
                found = describe(probe, follow)
            except OSError as error:
                found = {2: "nothing", 20: "not a directory", 40: "too many links"}[error.errno]
            print("probe", probe, follow, found, file=out)
    out.close()

for root in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        dump(root)
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        sys.exit(1)
