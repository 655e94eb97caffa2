//! A streaming tar reader for archives that others wrote, hostile ones too.
//!
//! Reads v7, ustar, PAX, GNU and what star and bsdtar add, with sparse files in all four forms. It gives entries as
//! they are written: names are bytes, not yet judged as paths (`unpack` does that). It ends where Go's archive/tar
//! ends, since every builder and runtime before us bound a DiffID to what that reader saw: at two zero blocks
//! whatever follows them, or where the bytes end between two entries.
//!
//! Where readers are known to differ over what an archive holds, it is refused ([`Fault::Ambiguous`]) rather than
//! read in one of the ways: an image must not hold one thing for a scanner and another for us. A PAX size always
//! counts for the file that it stands before, never for a GNU long name in between (CVE-2025-62518).
//!
//! It allocates no more than [`crate::limits`] allow, whatever sizes the archive claims, and cannot panic.

mod entry;
mod error;
mod header;
mod input;
mod pax;
mod sparse;
mod xattr;

use std::io::Read;

pub use entry::{Entry, EntryKind};
pub use error::{Fault, ReadError};
pub use pax::Xattrs;
pub use sparse::Segment;

use self::entry::{agree, check_path, kind, owner};
use self::header::{BLOCK, Block, Dialect, Header};
use self::input::{Input, Shortage};
use self::pax::{Records, SparseRecords};
use self::sparse::{PaxForm, SparseMap};
use crate::limits::EXTENDED_HEADER_BYTES_MAX;
use crate::rootdir::Mtime;

/// Reads a tar archive, entry by entry. After an error nothing more can be read from it.
pub struct TarReader<R> {
    input: Input<R>,
    /// From `g` headers, for all entries that follow.
    global: Records,
    data: Data,
    ended: bool,
}

/// Some of a file's bytes.
#[derive(Debug)]
pub struct Piece<'a> {
    /// Where in the file they belong: pieces come in order, and what lies between them is holes.
    pub offset: u64,
    /// At least one.
    pub bytes: &'a [u8],
}

/// What is still to come of the entry that the reader is at.
#[derive(Default)]
struct Data {
    /// Bytes of the archive, without the padding.
    packed: u64,
    padding: u64,
    /// Where they belong in the file, last first.
    segments: Vec<Segment>,
}

/// The headers that stood before an entry's own.
#[derive(Default)]
struct Prelude {
    records: Option<Records>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: Read> TarReader<R> {
    /// Reads from the first byte of an uncompressed archive.
    pub fn new(archive: R) -> Self {
        Self { input: Input::new(archive), global: Records::default(), data: Data::default(), ended: false }
    }

    /// The next entry, past what was not read of the last one; `None` at the archive's end.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ReadError> {
        if self.ended {
            return Ok(None);
        }
        let mut prelude = Prelude::default();
        loop {
            if !self.finish_data()? {
                return self.end(&prelude);
            }
            let offset = self.input.offset();
            let at = |fault| ReadError::Entry { offset, fault };
            let Some(block) = self.header_block(offset)? else { return self.end(&prelude) };
            let header = Header::parse(&block).map_err(at)?;
            if matches!(header.type_flag, b'x' | b'g' | b'L' | b'K') {
                let bytes = self.extended(&header, offset)?;
                self.extend(&mut prelude, header.type_flag, bytes).map_err(at)?;
            } else {
                return self.entry(&block, header, prelude, offset).map(Some);
            }
        }
    }

    /// The next bytes of the regular file that [`TarReader::next_entry`] gave last; `None` at its end.
    pub fn next_piece(&mut self) -> Result<Option<Piece<'_>>, ReadError> {
        self.next_piece_before(u64::MAX)
    }

    /// The next of those bytes that lie before `end` in the file; `None` where there are no more.
    pub fn next_piece_before(&mut self, end: u64) -> Result<Option<Piece<'_>>, ReadError> {
        let Some(segment) = self.data.segments.last_mut().filter(|segment| segment.offset < end) else {
            return Ok(None);
        };
        let start = self.input.offset();
        let offset = segment.offset;
        let most = segment.length.min(end - offset);
        let bytes = self.input.take(most).map_err(|short| shortage(short, start, "a file"))?;
        let taken = bytes.len() as u64;
        segment.offset += taken;
        segment.length -= taken;
        if segment.length == 0 {
            self.data.segments.pop();
        }
        self.data.packed -= taken;
        Ok(Some(Piece { offset, bytes }))
    }

    /// Bytes of the archive that were read and used so far.
    pub fn offset(&self) -> u64 {
        self.input.offset()
    }

    /// The source, of which some bytes past the archive's end may have been read.
    pub fn into_inner(self) -> R {
        self.input.into_inner()
    }

    /// Headers that announce an entry, and none comes.
    fn end(&mut self, prelude: &Prelude) -> Result<Option<Entry>, ReadError> {
        self.ended = true;
        match prelude.is_empty() {
            true => Ok(None),
            false => Err(self.truncated("an extended header's entry")),
        }
    }

    fn truncated(&self, what: &'static str) -> ReadError {
        ReadError::Entry { offset: self.input.offset(), fault: Fault::Truncated(what) }
    }

    /// Passes over the rest of the entry. Its padding may be missing at the archive's end: `false`.
    fn finish_data(&mut self) -> Result<bool, ReadError> {
        let start = self.input.offset();
        let data = std::mem::take(&mut self.data);
        self.input.skip(data.packed).map_err(|short| shortage(short, start, "a file"))?;
        match self.input.skip(data.padding) {
            Err(Shortage::End) => Ok(false),
            skipped => skipped.map(|()| true).map_err(|short| shortage(short, start, "a file")),
        }
    }

    /// The next header; `None` at the archive's end, which is two zero blocks, or one and then nothing, or nothing.
    fn header_block(&mut self, offset: u64) -> Result<Option<Block>, ReadError> {
        let zeros = |block: &Block| block.iter().all(|b| *b == 0);
        let mut block = || self.input.block().map_err(|short| shortage(short, offset, "a header"));
        match block()? {
            Some(first) if zeros(&first) => match block()? {
                Some(second) if !zeros(&second) => {
                    Err(ReadError::Entry { offset: offset + BLOCK as u64, fault: Fault::LoneZeroBlock })
                }
                _ => Ok(None),
            },
            block => Ok(block),
        }
    }

    /// The data of an extended header, grown as it arrives.
    fn extended(&mut self, header: &Header, offset: u64) -> Result<Vec<u8>, ReadError> {
        if header.size > EXTENDED_HEADER_BYTES_MAX {
            let fault = Fault::TooLong { what: "extended header", limit: EXTENDED_HEADER_BYTES_MAX as usize };
            return Err(ReadError::Entry { offset, fault });
        }
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < header.size {
            let piece = self.input.take(header.size - bytes.len() as u64);
            bytes.extend_from_slice(piece.map_err(|short| shortage(short, offset, "an extended header"))?);
        }
        self.data.padding = padding(header.size);
        Ok(bytes)
    }

    fn extend(&mut self, prelude: &mut Prelude, type_flag: u8, bytes: Vec<u8>) -> Result<(), Fault> {
        match type_flag {
            b'g' if !prelude.is_empty() => Err(Fault::Ambiguous("a global header follows another")),
            b'g' => self.global.apply_global(&bytes),
            b'x' => {
                let mut records = self.global.clone();
                records.apply_local(&bytes)?;
                set_once(&mut prelude.records, records)
            }
            b'L' => set_once(&mut prelude.long_name, header::text(&bytes).to_vec()),
            _ => set_once(&mut prelude.long_link, header::text(&bytes).to_vec()),
        }
    }

    /// Puts an entry together from its headers, and gets ready to read its data.
    fn entry(
        &mut self,
        block: &Block,
        header: Header,
        prelude: Prelude,
        offset: u64,
    ) -> Result<Entry, ReadError> {
        let at = |fault| ReadError::Entry { offset, fault };
        let records = prelude.records.unwrap_or_else(|| self.global.clone());
        let name = agree(prelude.long_name, records.path, "two long names").map_err(at)?;
        let link = agree(prelude.long_link, records.link_path, "two long link targets").map_err(at)?;
        let sparse = records.sparse;
        let path = sparse.name.clone().or(name).unwrap_or(header.name);
        let link = link.unwrap_or(header.link_name);
        check_path(&path).map_err(at)?;

        let packed = records.size.unwrap_or(header.size);
        let device = (header.dev_major, header.dev_minor);
        let kind = kind(header.type_flag, &path, packed, link, device).map_err(at)?;
        let map = match kind {
            EntryKind::Regular => {
                self.data = Data { packed, padding: padding(packed), segments: Vec::new() };
                self.sparse_map(block, header.dialect, &sparse, offset)?
            }
            _ => None,
        };
        let size = self.plan_data(map).map_err(at)?;
        Ok(Entry {
            kind,
            path,
            mode: (header.mode & 0o7777) as u32,
            uid: owner(records.uid.unwrap_or(header.uid), "owner").map_err(at)?,
            gid: owner(records.gid.unwrap_or(header.gid), "group").map_err(at)?,
            mtime: records.mtime.unwrap_or(Mtime { sec: header.mtime_sec, nsec: 0 }),
            size,
            xattrs: records.xattrs,
            foreign_attributes: records.foreign_attributes,
        })
    }

    /// Lays out where the data of a regular file goes; gives the file's size.
    fn plan_data(&mut self, map: Option<SparseMap>) -> Result<u64, Fault> {
        let packed = self.data.packed;
        let map = match map {
            Some(map) => map,
            None => SparseMap { size: packed, segments: vec![Segment { offset: 0, length: packed }] },
        };
        map.check(packed)?;
        self.data.segments = map.segments;
        self.data.segments.retain(|segment| segment.length > 0);
        self.data.segments.reverse();
        Ok(map.size)
    }

    fn sparse_map(
        &mut self,
        header: &Block,
        dialect: Dialect,
        records: &SparseRecords,
        offset: u64,
    ) -> Result<Option<SparseMap>, ReadError> {
        let at = |fault| ReadError::Entry { offset, fault };
        let form = records.form().map_err(at)?;
        match (header[156], form) {
            (b'S', PaxForm::None) if dialect == Dialect::Gnu => {
                sparse::old_gnu(header, || required_block(&mut self.input, offset), at).map(Some)
            }
            (b'S', PaxForm::None) => Err(at(Fault::Sparse("it is not GNU's"))),
            (b'S', _) => Err(at(Fault::Ambiguous("it has two sparse maps"))),
            (_, PaxForm::None) => Ok(None),
            (_, PaxForm::Header) => records.header_map().map(Some).map_err(at),
            (_, PaxForm::Data) => {
                let size = records.full_size().map_err(at)?;
                let (input, packed) = (&mut self.input, &mut self.data.packed);
                let next = || {
                    *packed = packed.checked_sub(BLOCK as u64).ok_or(at(Fault::Truncated("a sparse map")))?;
                    required_block(input, offset)
                };
                sparse::data_map(size, next, at).map(Some)
            }
        }
    }
}

impl Prelude {
    fn is_empty(&self) -> bool {
        self.records.is_none() && self.long_name.is_none() && self.long_link.is_none()
    }
}

fn required_block<R: Read>(input: &mut Input<R>, offset: u64) -> Result<Block, ReadError> {
    let block = input.block().map_err(|short| shortage(short, offset, "a sparse map"))?;
    block.ok_or(ReadError::Entry { offset, fault: Fault::Truncated("a sparse map") })
}

fn shortage(shortage: Shortage, offset: u64, what: &'static str) -> ReadError {
    match shortage {
        Shortage::End => ReadError::Entry { offset, fault: Fault::Truncated(what) },
        Shortage::Io(error) => ReadError::Io(error),
    }
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

fn set_once<T>(slot: &mut Option<T>, value: T) -> Result<(), Fault> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Fault::Ambiguous("it has the same extended header twice")),
    }
}
