//! Sparse files: which parts of a file the archive holds, in the four forms that GNU tar has written them.
//!
//! Old GNU: type `S`, four segments in the header and more in blocks after it. PAX 0.0 and 0.1: in the extended
//! header. PAX 1.0: as decimal lines before the data, padded to a block. See "Storing Sparse Files" in GNU tar's
//! manual. Whatever the form, the segments must be in order, inside the file, and as long as the data there is.

use super::error::{Fault, ReadError};
use super::header::{BLOCK, Block, number};
use super::pax::{SparseRecords, decimal};
use crate::limits::{EXTENDED_HEADER_BYTES_MAX, SPARSE_SEGMENTS_MAX};

/// A part of a file whose bytes the archive holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins in the file.
    pub offset: u64,
    /// How many bytes it has.
    pub length: u64,
}

/// A file's full size and its data; all else of it is holes.
#[derive(Debug)]
pub(super) struct SparseMap {
    pub size: u64,
    pub segments: Vec<Segment>,
}

/// Where an entry's sparse map is, by its extended header.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PaxForm {
    /// It is no sparse file.
    None,
    /// In the extended header itself (0.0, 0.1).
    Header,
    /// At the start of its data (1.0).
    Data,
}

impl SparseMap {
    /// Checks the map against the bytes that the archive holds for the file.
    pub(super) fn check(&self, packed: u64) -> Result<(), Fault> {
        let mut end = 0;
        let mut held = 0u64;
        for segment in &self.segments {
            if segment.offset < end {
                return Err(Fault::Sparse("segments overlap or are out of order"));
            }
            end = segment.offset.checked_add(segment.length).ok_or(Fault::Sparse("a segment has no end"))?;
            // Cannot overflow: the segments do not overlap and `end` did not.
            held += segment.length;
        }
        match (end <= self.size, held == packed) {
            (true, true) => Ok(()),
            (false, _) => Err(Fault::Sparse("a segment lies behind the file's end")),
            (_, false) => Err(Fault::Sparse("its segments are not as long as its data")),
        }
    }

    fn push(&mut self, offset: u64, length: u64) -> Result<(), Fault> {
        if self.segments.len() >= SPARSE_SEGMENTS_MAX {
            return Err(Fault::TooLong { what: "sparse map", limit: SPARSE_SEGMENTS_MAX });
        }
        self.segments.push(Segment { offset, length });
        Ok(())
    }
}

/// Reads an old GNU map that begins in `header`; `next` gives the blocks after it.
pub(super) fn old_gnu(
    header: &Block,
    mut next: impl FnMut() -> Result<Block, ReadError>,
    fault: impl Fn(Fault) -> ReadError,
) -> Result<SparseMap, ReadError> {
    let size = file_offset(&header[483..495]).map_err(&fault)?;
    let mut map = SparseMap { size, segments: Vec::new() };
    old_gnu_rows(&mut map, &header[386..482]).map_err(&fault)?;
    let mut more = header[482] != 0;
    while more {
        let block = next()?;
        old_gnu_rows(&mut map, &block[..504]).map_err(&fault)?;
        more = block[504] != 0;
    }
    Ok(map)
}

fn old_gnu_rows(map: &mut SparseMap, rows: &[u8]) -> Result<(), Fault> {
    for row in rows.chunks_exact(24).take_while(|row| row[0] != 0) {
        map.push(file_offset(&row[..12])?, file_offset(&row[12..])?)?;
    }
    Ok(())
}

fn file_offset(field: &[u8]) -> Result<u64, Fault> {
    u64::try_from(number(field, "sparse map")?).map_err(|_| Fault::Number("sparse map"))
}

impl SparseRecords {
    /// Which form the records announce.
    pub(super) fn form(&self) -> Result<PaxForm, Fault> {
        let (major, minor) = (self.version.0.as_deref(), self.version.1.as_deref());
        match (major, minor) {
            (Some(b"0"), Some(b"0" | b"1")) => Ok(PaxForm::Header),
            (Some(b"1"), Some(b"0")) => Ok(PaxForm::Data),
            (None, None) if self.map.is_some() => Ok(PaxForm::Header),
            (None, None) if self.name.is_none() && self.size.is_none() && self.real_size.is_none() => {
                Ok(PaxForm::None)
            }
            (None, None) => Err(Fault::Ambiguous("it is described as sparse and has no map")),
            _ => Err(Fault::Sparse("its version is not known")),
        }
    }

    /// The file's full size.
    pub(super) fn full_size(&self) -> Result<u64, Fault> {
        match (self.size, self.real_size) {
            (Some(size), Some(real)) if size != real => Err(Fault::Ambiguous("it has two full sizes")),
            (size, real) => size.or(real).ok_or(Fault::Sparse("the file's full size is missing")),
        }
    }

    /// The map of the forms 0.0 and 0.1.
    pub(super) fn header_map(&self) -> Result<SparseMap, Fault> {
        let numbers = self.map.as_deref().unwrap_or_default();
        if !numbers.len().is_multiple_of(2) || self.segments != Some(numbers.len() as u64 / 2) {
            return Err(Fault::Sparse("it does not have as many rows as it says"));
        }
        let mut map = SparseMap { size: self.full_size()?, segments: Vec::new() };
        for pair in numbers.chunks_exact(2) {
            map.push(pair[0], pair[1])?;
        }
        Ok(map)
    }
}

/// Reads the map of form 1.0; `next` gives the blocks of the entry's data.
pub(super) fn data_map(
    size: u64,
    mut next: impl FnMut() -> Result<Block, ReadError>,
    fault: impl Fn(Fault) -> ReadError,
) -> Result<SparseMap, ReadError> {
    let mut lines = Lines { bytes: Vec::new(), at: 0, total: 0 };
    let rows = lines.number(&mut next, &fault)?;
    if rows > SPARSE_SEGMENTS_MAX as u64 {
        return Err(fault(Fault::TooLong { what: "sparse map", limit: SPARSE_SEGMENTS_MAX }));
    }
    let mut map = SparseMap { size, segments: Vec::new() };
    for _ in 0..rows {
        let offset = lines.number(&mut next, &fault)?;
        let length = lines.number(&mut next, &fault)?;
        map.push(offset, length).map_err(&fault)?;
    }
    Ok(map)
}

/// Decimal numbers, each ended by a newline, over blocks that are read as needed.
struct Lines {
    /// The last block, with what was left of the one before it.
    bytes: Vec<u8>,
    at: usize,
    total: u64,
}

/// More digits than any 64-bit number has.
const LINE_BYTES_MAX: usize = 20;

impl Lines {
    fn number(
        &mut self,
        next: &mut impl FnMut() -> Result<Block, ReadError>,
        fault: &impl Fn(Fault) -> ReadError,
    ) -> Result<u64, ReadError> {
        loop {
            let rest = &self.bytes[self.at..];
            if let Some(end) = rest.iter().position(|b| *b == b'\n') {
                let value = decimal(&rest[..end]).filter(|n| i64::try_from(*n).is_ok());
                self.at += end + 1;
                return value.ok_or_else(|| fault(Fault::Sparse("a row is not a number")));
            }
            self.total += BLOCK as u64;
            if rest.len() > LINE_BYTES_MAX || self.total > EXTENDED_HEADER_BYTES_MAX {
                return Err(fault(Fault::Sparse("a row has no end")));
            }
            self.bytes.drain(..self.at);
            self.at = 0;
            self.bytes.extend_from_slice(&next()?);
        }
    }
}
