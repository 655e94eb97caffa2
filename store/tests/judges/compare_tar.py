# Compares an archive, as Python's tarfile reads it, with the directory it was written from.
import os, stat, sys, tarfile

archive, root = sys.argv[1:]
seen, links, problems = set(), {}, []

def check(name, what, got, expected):
    if got != expected:
        problems.append(f"{name!r}: {what} is {got!r}, not {expected!r}")

TYPES = {
    tarfile.REGTYPE: stat.S_ISREG, tarfile.DIRTYPE: stat.S_ISDIR, tarfile.SYMTYPE: stat.S_ISLNK,
    tarfile.FIFOTYPE: stat.S_ISFIFO, tarfile.CHRTYPE: stat.S_ISCHR, tarfile.BLKTYPE: stat.S_ISBLK,
}
with tarfile.open(archive) as tar:
    for member in tar:
        path = os.path.join(root, member.name)
        st = os.lstat(path)
        seen.add(os.fsencode(member.name))
        check(member.name, "mode", member.mode, stat.S_IMODE(st.st_mode))
        check(member.name, "owner", (member.uid, member.gid), (st.st_uid, st.st_gid))
        check(member.name, "owner's name", (member.uname, member.gname), ("", ""))
        check(member.name, "mtime", member.mtime, st.st_mtime_ns // 10**9)
        if member.islnk():
            first = os.lstat(os.path.join(root, member.linkname))
            check(member.name, "inode", (st.st_dev, st.st_ino), (first.st_dev, first.st_ino))
            check(member.name, "first name seen", os.fsencode(member.linkname) in seen, True)
            continue
        if not TYPES[member.type](st.st_mode):
            problems.append(f"{member.name!r}: type {member.type!r}")
        if st.st_nlink > 1 and not member.isdir():
            check(member.name, "first of its links", links.setdefault(st.st_ino, path), path)
        if member.isreg():
            check(member.name, "content", tar.extractfile(member).read(), open(path, "rb").read())
        if member.issym():
            check(member.name, "target", member.linkname, os.readlink(path))
        if member.isdev() and not member.isfifo():
            check(member.name, "device", (member.devmajor, member.devminor), (os.major(st.st_rdev), os.minor(st.st_rdev)))
        value = member.pax_headers.get("SCHILY.xattr.security.capability")
        value = value and value.encode("utf-8", "surrogateescape")
        expected = None
        if "security.capability" in os.listxattr(path, follow_symlinks=False):
            expected = os.getxattr(path, "security.capability", follow_symlinks=False)
        check(member.name, "capability", value, expected)
    for directory, dirs, files in os.walk(os.fsencode(root)):
        for name in dirs + files:
            path = os.path.relpath(os.path.join(directory, name), os.fsencode(root))
            check(path, "in archive", path in seen, True)

sys.exit(ascii("\n".join(problems)) if problems else 0)
