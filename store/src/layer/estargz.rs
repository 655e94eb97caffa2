//! eStargz: a gzipped tar that can also be read file by file, without the rest of it (stargz-snapshotter's
//! `docs/estargz.md`).
//!
//! ```text
//! member   .no.prefetch.landmark's header        what is between contents: headers, padding
//! member   its one byte                          one for each chunk of a file
//! …
//! member   stargz.index.json                     the table of contents: each entry, and where its chunks begin
//! member   empty, with the table's offset        the footer, of a fixed size
//! ```
//!
//! Members concatenate to one gzip stream of one tar, so every other reader takes it for an ordinary layer, which
//! has two more files. Members are cut by the tar's content alone and compressed each by itself: the bytes do not
//! depend on the number of threads.
//!
//! A tar is taken apart and written anew, so a layer of others loses what layers do not carry (names of owners) and
//! holes of sparse files, which no chunk can express. A name that is not UTF-8 is refused: the table is JSON.

mod toc;

use std::io::{self, Read, Write};

use tar::EntryType;

use self::toc::{Table, TocEntry};
use super::GzipLevel;
use super::blocks::Blocks;
use super::codec::Codec;
use super::gzip::{self, Gzip};
use super::header::{BLOCK, Fields};
use super::pack::Packed;
use super::read::{Entry, EntryKind, ReadError, TarReader};
use crate::Threads;
use crate::digest::{DiffId, Digest, Hashing};
use crate::limits::UNPACKED_BYTES_MAX;
use crate::rootdir::Mtime;

/// Uncompressed bytes of a chunk, but for a file's last: what the reference implementation cuts at.
const CHUNK_BYTES: usize = 4 << 20;
/// The table's name in the tar.
const TOC_NAME: &str = "stargz.index.json";
/// Says that no file is to be fetched ahead of the others.
const LANDMARK: &str = ".no.prefetch.landmark";
/// The opposite, which a layer that is converted may have.
const PREFETCH_LANDMARK: &str = ".prefetch.landmark";
const LANDMARK_CONTENT: [u8; 1] = [0xf];

/// The annotation of a layer that names the digest of its table of contents.
pub const TOC_DIGEST_ANNOTATION: &str = "containerd.io/snapshot/stargz/toc.digest";
/// The annotation of a layer that says how large it is uncompressed.
pub const UNCOMPRESSED_SIZE_ANNOTATION: &str = "io.containers.estargz.uncompressed-size";

/// Why a layer could not be made an eStargz.
#[derive(Debug, thiserror::Error)]
pub enum EstargzError {
    /// The layer's tar is not one.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Reading or writing failed.
    #[error("cannot write estargz: {0}")]
    Io(#[from] io::Error),
    /// The table of contents cannot name a file.
    #[error("file {name} cannot be in an estargz layer: its name is not UTF-8; use another compression")]
    Name {
        /// The name, escaped.
        name: String,
    },
    /// Its files are larger than any layer's may be.
    #[error("files of the layer are larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
}

/// Reads a tar and writes it as eStargz. Gives back the output, what it holds, and the digest of its table of
/// contents.
pub fn to_estargz<W: Write>(
    tar: impl Read,
    level: GzipLevel,
    threads: Threads,
    out: W,
) -> Result<(W, Packed, Digest), EstargzError> {
    let mut writer = Writer::new(level, threads, out)?;
    writer.landmark()?;
    let mut archive = TarReader::new(tar);
    let mut left = UNPACKED_BYTES_MAX;
    while let Some(entry) = archive.next_entry()? {
        left = left.checked_sub(entry.size).ok_or(EstargzError::TooLarge { limit: UNPACKED_BYTES_MAX })?;
        writer.entry(entry, &mut archive)?;
    }
    writer.finish()
}

struct Writer<W> {
    members: Members<W>,
    table: Table,
    level: GzipLevel,
}

impl<W: Write> Writer<W> {
    fn new(level: GzipLevel, threads: Threads, out: W) -> io::Result<Self> {
        Ok(Self { members: Members::new(level, threads, out)?, table: Table::default(), level })
    }

    fn landmark(&mut self) -> Result<(), EstargzError> {
        let entry = plain_file(LANDMARK.into(), LANDMARK_CONTENT.len() as u64);
        self.header(&entry)?;
        let mut file = FileInTable::new(TocEntry::of(&entry, LANDMARK.into()));
        file.chunk(&mut self.members, &LANDMARK_CONTENT, entry.size)?;
        self.members.pad(entry.size)?;
        self.table.extend(file.finish());
        Ok(())
    }

    fn entry(&mut self, entry: Entry, archive: &mut TarReader<impl Read>) -> Result<(), EstargzError> {
        let name = String::from_utf8(entry.path.clone())
            .map_err(|_| EstargzError::Name { name: entry.path.escape_ascii().to_string() })?;
        // A layer that was converted before has these already.
        let clean = name.trim_start_matches("./").trim_start_matches('/');
        if [TOC_NAME, LANDMARK, PREFETCH_LANDMARK].contains(&clean) {
            return Ok(());
        }
        self.header(&entry)?;
        let in_table = TocEntry::of(&entry, name);
        if entry.kind != EntryKind::Regular || entry.size == 0 {
            self.table.push(in_table);
            return Ok(());
        }
        let mut file = FileInTable::new(in_table);
        let mut content = Content { archive, at: 0, size: entry.size };
        let mut chunk = Vec::new();
        while content.next_chunk(&mut chunk)? {
            file.chunk(&mut self.members, &chunk, entry.size)?;
        }
        self.members.pad(entry.size)?;
        self.table.extend(file.finish());
        Ok(())
    }

    fn header(&mut self, entry: &Entry) -> io::Result<()> {
        let mut bytes = Vec::new();
        fields(entry).encode(&mut bytes);
        self.members.write(&bytes)
    }

    fn finish(mut self) -> Result<(W, Packed, Digest), EstargzError> {
        self.members.flush()?;
        let toc_offset = self.members.out.count();
        let json = self.table.finish(&self.members.offsets);
        let mut tar = Vec::new();
        fields(&plain_file(TOC_NAME.into(), json.len() as u64)).encode(&mut tar);
        tar.extend_from_slice(&json);
        tar.resize(tar.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
        let Members { mut out, mut diff, .. } = self.members;
        diff.write_all(&tar)?;
        out.write_all(&Gzip::new(self.level).compress(&tar)?)?;
        out.write_all(&footer(toc_offset))?;
        let (_, diff_digest, uncompressed_size) = diff.finish();
        let (out, blob_digest, blob_size) = out.finish();
        let (diff_id, blocks) = (DiffId::new(diff_digest), Vec::new());
        let packed = Packed { diff_id, uncompressed_size, blob_digest, blob_size, blocks };
        Ok((out, packed, Digest::of(&json)))
    }
}

/// gzip members on their way: cut, compressed side by side, written in order.
struct Members<W> {
    out: Hashing<W>,
    /// Hashes what is uncompressed.
    diff: Hashing<io::Sink>,
    blocks: Blocks,
    member: Vec<u8>,
    /// How many members were handed to the threads.
    cut: usize,
    /// Where those that came back begin in the blob.
    offsets: Vec<u64>,
}

impl<W: Write> Members<W> {
    fn new(level: GzipLevel, threads: Threads, out: W) -> io::Result<Self> {
        Ok(Self {
            out: Hashing::new(out),
            diff: Hashing::new(io::sink()),
            blocks: Blocks::new(Codec::Gzip(level), threads, &None)?,
            member: Vec::new(),
            cut: 0,
            offsets: Vec::new(),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Long runs of empty files and directories are cut too, to bound memory.
        if self.member.len() + bytes.len() > 2 * CHUNK_BYTES {
            self.cut()?;
        }
        self.diff.write_all(bytes)?;
        self.member.extend_from_slice(bytes);
        Ok(())
    }

    /// What fills a file of this size up to the next header.
    fn pad(&mut self, size: u64) -> io::Result<()> {
        let padding = size.next_multiple_of(BLOCK as u64) - size;
        self.write(&[0; BLOCK][..padding as usize])
    }

    /// Ends the member; gives the number of the next.
    fn cut(&mut self) -> io::Result<usize> {
        if !self.member.is_empty() {
            let member = std::mem::take(&mut self.member);
            self.blocks.push(&std::sync::Arc::new(member));
            self.cut += 1;
            while self.blocks.is_full() {
                self.take()?;
            }
        }
        Ok(self.cut)
    }

    fn take(&mut self) -> io::Result<bool> {
        let Some(done) = self.blocks.pop() else { return Ok(false) };
        self.offsets.push(self.out.count());
        self.out.write_all(&done?.bytes)?;
        Ok(true)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.cut()?;
        while self.take()? {}
        Ok(())
    }
}

/// A regular file while its chunks are written.
struct FileInTable {
    entries: Vec<TocEntry>,
    next: TocEntry,
    written: u64,
    digest: Hashing<io::Sink>,
}

impl FileInTable {
    fn new(entry: TocEntry) -> Self {
        Self { entries: Vec::new(), next: entry, written: 0, digest: Hashing::new(io::sink()) }
    }

    fn chunk(&mut self, members: &mut Members<impl Write>, bytes: &[u8], size: u64) -> io::Result<()> {
        let member = members.cut()?;
        members.write(bytes)?;
        self.digest.write_all(bytes)?;
        let length = bytes.len() as u64;
        let following = TocEntry::following(&self.next);
        let mut entry = std::mem::replace(&mut self.next, following);
        entry.at_member(member, self.written, Digest::of(bytes));
        // Without a size a chunk goes to the file's end.
        if self.written + length < size {
            entry.chunk_size = length;
        }
        self.written += length;
        self.entries.push(entry);
        Ok(())
    }

    fn finish(mut self) -> Vec<TocEntry> {
        let (_, digest, _) = self.digest.finish();
        if let Some(first) = self.entries.first_mut() {
            first.digest = Some(digest);
        }
        self.entries
    }
}

/// A file's bytes in an archive, its holes as zeros.
struct Content<'a, R> {
    archive: &'a mut TarReader<R>,
    at: u64,
    size: u64,
}

impl<R: Read> Content<'_, R> {
    /// Fills `chunk` with the next bytes; `false` at the file's end.
    fn next_chunk(&mut self, chunk: &mut Vec<u8>) -> Result<bool, ReadError> {
        chunk.clear();
        let start = self.at;
        self.at = self.size.min(start + CHUNK_BYTES as u64);
        while let Some(piece) = self.archive.next_piece_before(self.at)? {
            chunk.resize((piece.offset - start) as usize, 0);
            chunk.extend_from_slice(piece.bytes);
        }
        chunk.resize((self.at - start) as usize, 0);
        Ok(self.at > start)
    }
}

fn plain_file(path: Vec<u8>, size: u64) -> Entry {
    Entry {
        kind: EntryKind::Regular,
        path,
        mode: 0o444,
        uid: 0,
        gid: 0,
        mtime: Mtime::default(),
        size,
        xattrs: Default::default(),
        foreign_attributes: 0,
    }
}

/// An entry's headers, as forge writes them.
fn fields(entry: &Entry) -> Fields<'_> {
    let (kind, link, device): (_, &[u8], _) = match &entry.kind {
        EntryKind::Regular => (EntryType::Regular, b"", None),
        EntryKind::HardLink(target) => (EntryType::Link, target, None),
        EntryKind::Symlink(target) => (EntryType::Symlink, target, None),
        EntryKind::Directory => (EntryType::Directory, b"", None),
        EntryKind::Char(device) => (EntryType::Char, b"", Some((device.major, device.minor))),
        EntryKind::Block(device) => (EntryType::Block, b"", Some((device.major, device.minor))),
        EntryKind::Fifo => (EntryType::Fifo, b"", None),
    };
    Fields {
        path: &entry.path,
        link,
        kind,
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        size: entry.size,
        mtime: entry.mtime,
        device,
        xattrs: entry.xattrs.iter().map(|(name, value)| (&name[..], &value[..])).collect(),
    }
}

/// The last member: empty, with the table's offset in its header, and always of 51 bytes, so that a reader finds
/// it from the blob's end.
fn footer(toc_offset: u64) -> Vec<u8> {
    let mut footer = gzip::HEADER.to_vec();
    // The header has an extra field.
    footer[3] = 4;
    let subfield = format!("{toc_offset:016x}STARGZ");
    footer.extend_from_slice(&(4 + subfield.len() as u16).to_le_bytes());
    footer.extend_from_slice(b"SG");
    footer.extend_from_slice(&(subfield.len() as u16).to_le_bytes());
    footer.extend_from_slice(subfield.as_bytes());
    // One stored block, the last, of no bytes; then checksum and size.
    footer.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
    footer.extend_from_slice(&[0; 8]);
    footer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_footer_is_the_reference_implementations() {
        let footer = footer(0x1234);
        assert_eq!(footer.len(), 51);
        assert_eq!(&footer[12..16], b"SG\x16\0");
        assert_eq!(&footer[16..38], b"0000000000001234STARGZ");
        let mut empty = Vec::new();
        flate2::read::GzDecoder::new(&footer[..]).read_to_end(&mut empty).unwrap();
        assert!(empty.is_empty());
    }
}
