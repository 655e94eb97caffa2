# What Python's tarfile reads in every archive of a directory: a line for each member.
import hashlib, os, sys, tarfile

KINDS = {
    tarfile.REGTYPE: "file", tarfile.AREGTYPE: "file", tarfile.CONTTYPE: "file", tarfile.GNUTYPE_SPARSE: "file",
    tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "symlink", tarfile.LNKTYPE: "link", tarfile.CHRTYPE: "char",
    tarfile.BLKTYPE: "block", tarfile.FIFOTYPE: "fifo",
}

def escape(text):
    raw = os.fsencode(text)
    return "".join(chr(b) if 32 < b < 127 and b != 92 else f"\\x{b:02x}" for b in raw)

for name in sorted(os.listdir(sys.argv[1])):
    with tarfile.open(os.path.join(sys.argv[1], name), encoding="utf-8", errors="surrogateescape") as archive:
        for member in archive:
            kind = KINDS[member.type]
            line = [name, escape(member.name.rstrip("/")), kind, f"{member.mode & 0o7777:o}", str(member.uid), str(member.gid)]
            line.append(f"{member.mtime:.2f}")
            if kind in ("symlink", "link"):
                line.append(escape(member.linkname))
            if kind in ("char", "block"):
                line.append(f"{member.devmajor}:{member.devminor}")
            if kind == "file":
                line.append(str(member.size))
                line.append(hashlib.sha256(archive.extractfile(member).read()).hexdigest()[:12])
            print(*line)
