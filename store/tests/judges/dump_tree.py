# What the kernel shows in a directory, as a process with that directory as its root sees it: a line for every file,
# then a line for every path given on stdin, resolved with its symlinks.
import encodings.idna, hashlib, os, stat, sys  # noqa: all that is needed before chroot

probes = sys.stdin.read().splitlines()
os.chdir(sys.argv[1])
os.chroot(".")

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

def walk(directory):
    for name in sorted(os.listdir("/" + directory)):
        path = os.path.join(directory, name)
        try:
            print(path, describe("/" + path, False))
        except FileNotFoundError:
            continue  # a whiteout in a directory that no other layer has is listed, and is not there
        if stat.S_ISDIR(os.lstat("/" + path).st_mode):
            walk(path)

walk("")
for probe in probes:
    for follow in False, True:
        try:
            found = describe(probe, follow)
        except OSError as error:
            found = {2: "nothing", 20: "not a directory", 40: "too many links"}[error.errno]
        print("probe", probe, follow, found)
