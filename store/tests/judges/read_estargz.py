# Reads a blob as a lazy puller does: footer, table of contents, then each chunk from its own gzip member.
# Compares that with what an ordinary reader makes of the whole blob. Prints the table's digest.
import base64, gzip, hashlib, io, json, sys, tarfile, zlib

blob = open(sys.argv[1], "rb").read()
sha = lambda data: "sha256:" + hashlib.sha256(data).hexdigest()

# The footer (docs/estargz.md): an empty member of 51 bytes with the offset in its extra field.
footer = blob[-51:]
assert footer[:4] == b"\x1f\x8b\x08\x04" and footer[10:16] == b"\x1a\0SG\x16\0", footer
assert footer[32:38] == b"STARGZ" and gzip.decompress(footer) == b""
offset = int(footer[16:32], 16)

def member(at):
    """The member that begins there, and where it ends."""
    d = zlib.decompressobj(31)
    data = d.decompress(blob[at:])
    assert d.eof, at
    return data, len(blob) - len(d.unused_data)

toc_tar, end = member(offset)
assert end == len(blob) - 51
with tarfile.open(fileobj=io.BytesIO(toc_tar)) as tar:
    assert tar.getnames() == ["stargz.index.json"]
    toc_json = tar.extractfile("stargz.index.json").read()
toc = json.loads(toc_json)
assert toc["version"] == 1

whole = tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob)))
members = {m.name: m for m in whole.getmembers()}
assert whole.getmembers()[0].name == ".no.prefetch.landmark"
assert whole.getmembers()[-1].name == "stargz.index.json"

TYPES = {"reg": tarfile.REGTYPE, "dir": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE,
         "char": tarfile.CHRTYPE, "block": tarfile.BLKTYPE, "fifo": tarfile.FIFOTYPE}
seen, files, current = [], {}, None
for entry in toc["entries"]:
    if entry["type"] != "chunk":
        m = members[entry["name"].rstrip("/")]
        seen.append(m.name)
        assert TYPES[entry["type"]] == m.type, entry
        if entry["type"] != "hardlink":
            assert (entry.get("mode", 0), entry.get("uid", 0), entry.get("gid", 0)) == (m.mode, m.uid, m.gid), entry
        assert entry.get("linkName", "") == m.linkname and entry.get("size", 0) == m.size, entry
        xattrs = {k[len("SCHILY.xattr."):]: v for k, v in m.pax_headers.items() if k.startswith("SCHILY.xattr.")}
        got = {k: base64.b64decode(v) for k, v in entry.get("xattrs", {}).items()}
        assert got == {k: v.encode("utf-8", "surrogateescape") for k, v in xattrs.items()}, entry
        current = entry
    else:
        assert entry["name"] == current["name"]
    if "chunkDigest" in entry:
        data, _ = member(entry["offset"])
        size = entry.get("chunkSize", 0) or current["size"] - entry.get("chunkOffset", 0)
        assert size <= 4 << 20
        chunk = data[:size]
        assert sha(chunk) == entry["chunkDigest"], entry
        content = files.setdefault(current["name"], bytearray())
        assert len(content) == entry.get("chunkOffset", 0), entry
        content += chunk
for entry in toc["entries"]:
    if entry["type"] == "reg":
        content = bytes(files.get(entry["name"], b""))
        assert sha(content) == entry["digest"], entry
        assert content == whole.extractfile(entry["name"]).read(), entry
assert seen == [m.name for m in whole.getmembers()[:-1]]
print(sha(toc_json))
