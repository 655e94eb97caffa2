//! One 512-byte header block, in any of the dialects: v7, ustar (POSIX.1-1988 and pax), GNU, star.
//!
//! Field by field as Go's archive/tar reads it, which is what builders and runtimes unpack layers with.

use super::error::Fault;

/// Bytes of a header, and the unit that data is padded to.
pub(super) const BLOCK: usize = 512;
pub(super) type Block = [u8; BLOCK];

/// Which fields a header has beyond v7's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    V7,
    Ustar,
    Star,
    Gnu,
}

/// A header's fields, unjudged.
#[derive(Debug, Clone)]
pub(super) struct Header {
    pub dialect: Dialect,
    pub type_flag: u8,
    pub name: Vec<u8>,
    pub link_name: Vec<u8>,
    pub mode: i64,
    pub uid: i64,
    pub gid: i64,
    pub size: u64,
    pub mtime_sec: i64,
    pub dev_major: i64,
    pub dev_minor: i64,
}

impl Header {
    /// Reads a block that is not all zeros.
    pub(super) fn parse(block: &Block) -> Result<Self, Fault> {
        check_sum(block)?;
        let dialect = dialect(block);
        let mut header = Self {
            dialect,
            type_flag: block[156],
            name: text(&block[..100]).to_vec(),
            link_name: text(&block[157..257]).to_vec(),
            mode: number(&block[100..108], "mode")?,
            uid: number(&block[108..116], "owner")?,
            gid: number(&block[116..124], "group")?,
            size: u64::try_from(number(&block[124..136], "size")?).map_err(|_| Fault::Number("size"))?,
            mtime_sec: number(&block[136..148], "time")?,
            dev_major: 0,
            dev_minor: 0,
        };
        if dialect != Dialect::V7 {
            header.dev_major = number(&block[329..337], "device number")?;
            header.dev_minor = number(&block[337..345], "device number")?;
            header.add_prefix(prefix(dialect, block));
        }
        Ok(header)
    }

    fn add_prefix(&mut self, prefix: &[u8]) {
        if !prefix.is_empty() {
            self.name = [prefix, b"/", &self.name].concat();
        }
    }
}

fn dialect(block: &Block) -> Dialect {
    match &block[257..265] {
        b"ustar  \0" => Dialect::Gnu,
        magic if magic.starts_with(b"ustar\0") && block[508..] == *b"tar\0" => Dialect::Star,
        magic if magic.starts_with(b"ustar\0") => Dialect::Ustar,
        _ => Dialect::V7,
    }
}

/// The part of the name that did not fit into its first field.
fn prefix(dialect: Dialect, block: &Block) -> &[u8] {
    match dialect {
        Dialect::V7 => &[],
        Dialect::Ustar => text(&block[345..500]),
        Dialect::Star => text(&block[345..476]),
        Dialect::Gnu if gnu_time(&block[345..357]) && gnu_time(&block[357..369]) => &[],
        // Go before 1.8, and so the Docker of that time, wrote long names with a prefix into GNU headers, which
        // have times there. What is no time is therefore the prefix.
        Dialect::Gnu => Some(text(&block[345..500])).filter(|prefix| prefix.is_ascii()).unwrap_or_default(),
    }
}

fn gnu_time(field: &[u8]) -> bool {
    field[0] == 0 || number(field, "time").is_ok()
}

/// The sum of all bytes with the sum's own field taken as spaces. Old writers added them up as signed bytes.
fn check_sum(block: &Block) -> Result<(), Fault> {
    let wanted = octal(&block[148..156]).ok_or(Fault::Checksum)?;
    let bytes = || block[..148].iter().chain(b"        ").chain(&block[156..]);
    let unsigned: i64 = bytes().map(|b| i64::from(*b)).sum();
    let signed: i64 = bytes().map(|b| i64::from(*b as i8)).sum();
    if wanted == unsigned || wanted == signed { Ok(()) } else { Err(Fault::Checksum) }
}

/// Up to the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or_default()
}

/// Octal digits, or GNU's base-256: big-endian two's complement behind a set first bit.
pub(super) fn number(field: &[u8], what: &'static str) -> Result<i64, Fault> {
    let value = if field[0] & 0x80 != 0 { base_256(field) } else { octal(field) };
    value.ok_or(Fault::Number(what))
}

fn base_256(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    // The sign's bit is the second one; with it spread over the first, the field is plain two's complement.
    let first = if negative { field[0] | 0x80 } else { field[0] & 0x7f };
    let start = if negative { -1i128 } else { 0 };
    let value = [first].iter().chain(&field[1..]).try_fold(start, |value, b| {
        let value = value << 8 | i128::from(*b);
        i64::try_from(value).is_ok().then_some(value)
    })?;
    i64::try_from(value).ok()
}

/// Padded with NULs and spaces on both sides by one writer or another; an unused field is all padding.
fn octal(field: &[u8]) -> Option<i64> {
    let padding = |b: &u8| matches!(b, b' ' | 0);
    let Some(start) = field.iter().position(|b| !padding(b)) else { return Some(0) };
    let digits = &field[start..];
    let end = digits.iter().position(padding).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    // A NUL ends the number whatever follows; a space must be padding to the end.
    if rest.first() == Some(&b' ') && !rest.iter().take_while(|b| **b != 0).all(|b| *b == b' ') {
        return None;
    }
    digits.iter().try_fold(0i64, |value, b| match b {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(b - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_writer() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0  7   ", Some(7)),
            (b"7\0garbage", Some(7)),
            (b"        ", Some(0)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"77777777", Some(0o77777777)),
            (b"0000648\0", None),
            (b"-0000001", None),
            (b"12 34   ", None),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\xff\xff\xff\xff\x80\0\0\0\0\0\0\0", Some(i64::MIN)),
            (b"\xff\xff\xff\xff\x7f\xff\xff\xff\xff\xff\xff\xff", None),
            (b"\x81\0\0\0\0\0\0\0\0\0\0\0", None),
        ] {
            assert_eq!(number(field, "x").ok(), value, "{}", field.escape_ascii());
        }
    }
}
