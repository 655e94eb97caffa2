"""split.py ROOTFS.TAR DIRECTORY COUNT: cuts a tar into `part0.tar` … of about equal size, directories first.

Hard links stay in the part of the file they name, so that each part can be unpacked over the ones before it.
"""

import sys
import tarfile

source, directory, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
with tarfile.open(source) as archive:
    members = [m for m in archive.getmembers() if not m.ischr() and not m.isblk()]
    limit = sum(m.size for m in members) / count
    parts = [tarfile.open(f"{directory}/part{n}.tar", "w", format=tarfile.PAX_FORMAT) for n in range(count)]
    where, at, filled = {}, 0, 0
    for member in members:
        if filled > limit and at < count - 1:
            at, filled = at + 1, 0
        part = 0 if member.isdir() else where.get(member.linkname, at) if member.islnk() else at
        where[member.name] = part
        filled += member.size
        parts[part].addfile(member, archive.extractfile(member) if member.isreg() else None)
    for part in parts:
        part.close()
