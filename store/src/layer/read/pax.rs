//! PAX extended headers: records `LENGTH KEY=VALUE\n`, split by their length (POSIX pax(1), "pax Extended Header").
//!
//! A value may hold anything, newlines too: a reader that splits at newlines loses binary values and can be made
//! to take an attribute's bytes for a path. What does not parse is refused and never skipped.

use std::collections::BTreeMap;

use super::error::Fault;
use super::xattr::XattrKey;
use crate::limits::XATTRS_BYTES_MAX;
use crate::rootdir::Mtime;

/// Extended attributes by name.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// What the extended headers before an entry say of it; `None` where its own header counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Records {
    pub path: Option<Vec<u8>>,
    pub link_path: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<i64>,
    pub gid: Option<i64>,
    pub mtime: Option<Mtime>,
    pub xattrs: Xattrs,
    /// How many attributes there are in forms that are no extended attributes, such as ACLs as text.
    pub foreign_attributes: u64,
    pub sparse: SparseRecords,
}

/// The `GNU.sparse.*` records of all three versions.
#[derive(Debug, Clone, Default)]
pub(super) struct SparseRecords {
    pub version: (Option<Vec<u8>>, Option<Vec<u8>>),
    pub name: Option<Vec<u8>>,
    /// `GNU.sparse.size`, or `GNU.sparse.realsize` as version 1.0 has it.
    pub size: Option<u64>,
    pub real_size: Option<u64>,
    pub segments: Option<u64>,
    /// `GNU.sparse.map`, or the offsets and lengths of version 0.0 in turn.
    pub map: Option<Vec<u64>>,
    old_map: Vec<u64>,
}

impl Records {
    /// Adds the records of an `x` header.
    pub(super) fn apply_local(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        for_each_record(bytes, |key, value| self.set(key, value))?;
        self.sparse.finish()?;
        let total: usize = self.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        match total <= XATTRS_BYTES_MAX {
            true => Ok(()),
            false => Err(Fault::TooLong { what: "set of extended attributes", limit: XATTRS_BYTES_MAX }),
        }
    }

    /// Adds the records of a `g` header, which hold for all entries that follow it.
    ///
    /// Readers differ here: Go's ignores them all, GNU tar's and Python's apply them. Times and owners are applied
    /// as POSIX wants; what would name or size every following file alike has no honest use and is refused.
    pub(super) fn apply_global(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        for_each_record(bytes, |key, value| match key {
            b"path" | b"linkpath" | b"size" => Err(Fault::Ambiguous("a global header names or sizes a file")),
            _ if key.starts_with(b"GNU.sparse.") || XattrKey::parse(key).is_some() => {
                Err(Fault::Ambiguous("a global header describes one file"))
            }
            _ => self.set(key, value),
        })
    }

    /// The last record of a key counts. An empty value takes back what an earlier header said.
    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        match key {
            b"path" => self.path = name(value)?,
            b"linkpath" => self.link_path = name(value)?,
            b"size" => self.size = present(value, unsigned)?,
            b"uid" => self.uid = present(value, signed)?,
            b"gid" => self.gid = present(value, signed)?,
            b"mtime" => self.mtime = present(value, time)?,
            _ => {
                if let Some(key) = XattrKey::parse(key) {
                    return self.set_xattr(key, value);
                }
                if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    return self.sparse.set(key, value);
                }
                if key.starts_with(b"SCHILY.acl.") || key.starts_with(b"RHT.security.") {
                    self.foreign_attributes += 1;
                }
            }
        }
        Ok(())
    }

    fn set_xattr(&mut self, key: XattrKey<'_>, value: &[u8]) -> Result<(), Fault> {
        let name = key.name()?;
        // Writers that use the encoded form write the plain one beside it, which needs no decoding.
        if key.is_encoded() && self.xattrs.contains_key(&name) {
            return Ok(());
        }
        self.xattrs.insert(name, key.value(value)?);
        Ok(())
    }
}

impl SparseRecords {
    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        match key {
            b"major" => self.version.0 = Some(value.to_vec()),
            b"minor" => self.version.1 = Some(value.to_vec()),
            b"name" => self.name = name(value)?,
            b"size" => self.size = present(value, unsigned)?,
            b"realsize" => self.real_size = present(value, unsigned)?,
            b"numblocks" => self.segments = present(value, unsigned)?,
            b"map" => self.map = present(value, numbers)?,
            b"offset" if self.old_map.len().is_multiple_of(2) => self.old_map.push(unsigned(value)?),
            b"numbytes" if !self.old_map.len().is_multiple_of(2) => self.old_map.push(unsigned(value)?),
            b"offset" | b"numbytes" => return Err(Fault::Sparse("offsets and lengths do not alternate")),
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Fault> {
        match (self.old_map.is_empty(), &self.map) {
            (true, _) => Ok(()),
            (false, None) => {
                self.map = Some(std::mem::take(&mut self.old_map));
                Ok(())
            }
            (false, Some(_)) => Err(Fault::Ambiguous("it has two sparse maps")),
        }
    }
}

fn for_each_record(
    mut bytes: &[u8],
    mut record: impl FnMut(&[u8], &[u8]) -> Result<(), Fault>,
) -> Result<(), Fault> {
    while !bytes.is_empty() {
        let (Record { key, value }, rest) = split_record(bytes)?;
        record(key, value)?;
        bytes = rest;
    }
    Ok(())
}

/// The first record, and what follows it.
fn split_record(bytes: &[u8]) -> Result<(Record<'_>, &[u8]), Fault> {
    let space = bytes.iter().take(MAX_LENGTH_DIGITS + 1).position(|b| *b == b' ');
    let space = space.ok_or(Fault::Pax("a record does not begin with its length"))?;
    let length = decimal(&bytes[..space]).and_then(|length| usize::try_from(length).ok());
    let length = length.ok_or(Fault::Pax("a record's length is not a number"))?;
    if length > bytes.len() || length < space + 2 {
        return Err(Fault::Pax("a record's length is wrong"));
    }
    let (record, rest) = bytes.split_at(length);
    let record = record[space + 1..].strip_suffix(b"\n").ok_or(Fault::Pax("a record's length is wrong"))?;
    let equals = record.iter().position(|b| *b == b'=').ok_or(Fault::Pax("a record has no `=`"))?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    if key.is_empty() || key.contains(&0) {
        return Err(Fault::Pax("a record's key is not valid"));
    }
    Ok((Record { key, value }, rest))
}

struct Record<'a> {
    key: &'a [u8],
    value: &'a [u8],
}

/// More digits than the length of any header that is read needs.
const MAX_LENGTH_DIGITS: usize = 20;

fn present<T>(value: &[u8], parse: impl Fn(&[u8]) -> Result<T, Fault>) -> Result<Option<T>, Fault> {
    if value.is_empty() { Ok(None) } else { parse(value).map(Some) }
}

fn name(value: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
    if value.contains(&0) {
        return Err(Fault::Pax("a path holds a NUL byte"));
    }
    Ok(Some(value).filter(|value| !value.is_empty()).map(<[u8]>::to_vec))
}

/// ASCII digits that fit: no sign, no space.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, b| match b {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(b - b'0')),
        _ => None,
    })
}

/// Sizes and offsets: as large as a signed 64-bit file offset.
fn unsigned(value: &[u8]) -> Result<u64, Fault> {
    decimal(value).filter(|n| i64::try_from(*n).is_ok()).ok_or(Fault::Number("extended header's number"))
}

fn signed(value: &[u8]) -> Result<i64, Fault> {
    let negative = value.strip_prefix(b"-");
    let number = unsigned(negative.unwrap_or(value))? as i64;
    Ok(if negative.is_some() { -number } else { number })
}

fn numbers(value: &[u8]) -> Result<Vec<u64>, Fault> {
    value.split(|b| *b == b',').map(unsigned).collect()
}

/// Seconds with an optional fraction, of which nine digits count; the sign is the whole's.
fn time(value: &[u8]) -> Result<Mtime, Fault> {
    const SECOND: u32 = 1_000_000_000;
    let fault = Fault::Number("time");
    let negative = value.first() == Some(&b'-');
    let value = if negative { &value[1..] } else { value };
    let point = value.iter().position(|b| *b == b'.');
    let whole = &value[..point.unwrap_or(value.len())];
    let fraction = point.map_or(&b""[..], |at| &value[at + 1..]);
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(fault);
    }
    let sec = decimal(whole).and_then(|sec| i64::try_from(sec).ok()).ok_or(fault)?;
    let digits = fraction.iter().chain(std::iter::repeat(&b'0')).take(9);
    let nsec = digits.fold(0, |nsec, b| nsec * 10 + u32::from(b - b'0'));
    Ok(match (negative, nsec) {
        (false, _) => Mtime { sec, nsec },
        (true, 0) => Mtime { sec: -sec, nsec },
        (true, _) => Mtime { sec: -sec - 1, nsec: SECOND - nsec },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
        let length = (1..).find(|n| n.to_string().len() + body.len() == *n).unwrap_or_default();
        [length.to_string().into_bytes(), body].concat()
    }

    fn parsed(bytes: &[u8]) -> Result<Records, Fault> {
        let mut records = Records::default();
        records.apply_local(bytes).map(|()| records)
    }

    #[test]
    fn records_are_split_by_length_and_not_by_newline() {
        let value = b"a\n20 path=etc/evil.cfg\nb";
        let records = parsed(&[record("SCHILY.xattr.user.x", value), record("size", b"7")].concat()).unwrap();
        assert_eq!(records.path, None);
        assert_eq!(records.size, Some(7));
        assert_eq!(records.xattrs[&b"user.x"[..]], value);
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for bad in [
            &b"path=x\n"[..],
            b"12 path=xxx",
            b"13 path=xxx\n",
            b"11 path=xxx\n",
            b"99 path=xxx\n",
            b"4 =\n",
            b"3 \n",
            b"0 \n",
            b" 9 path=x\n",
            b"+9 path=x\n",
            b"-9 path=x\n",
            b"999999999999999999999999 path=x\n",
            b"7 path\n",
            b"10 path=a\0\n",
            b"9 pa\0h=x\n",
            b"11 size=-1\n",
            b"10 size=+1\n",
            b"10 size=1a\n",
            b"28 size=9223372036854775808\n",
            b"13 mtime=1.x\n",
            b"12 mtime=.5\n",
            b"11 mtime=-\n",
            b"23 GNU.sparse.offset=0\n25 GNU.sparse.offset=100\n",
            b"25 GNU.sparse.map=0,1,,2\n",
            b"23 SCHILY.xattr.=value\n",
            b"\0\0\0\0",
        ] {
            assert!(parsed(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn times_before_1970_and_fractions() {
        for (text, sec, nsec) in [
            ("0", 0, 0),
            ("1.5", 1, 500_000_000),
            ("1.", 1, 0),
            ("-1", -1, 0),
            ("-1.25", -2, 750_000_000),
            ("-0.5", -1, 500_000_000),
            ("7.1234567899", 7, 123_456_789),
        ] {
            assert_eq!(time(text.as_bytes()), Ok(Mtime { sec, nsec }), "{text}");
        }
    }

    #[test]
    fn the_last_record_counts_and_an_empty_one_takes_back() {
        let both = [record("path", b"one"), record("path", b"two"), record("uid", b"5")].concat();
        assert_eq!(parsed(&both).unwrap().path.as_deref(), Some(&b"two"[..]));
        let mut records = Records::default();
        records.apply_global(&record("uid", b"5")).unwrap();
        assert_eq!(records.uid, Some(5));
        records.apply_local(&record("uid", b"")).unwrap();
        assert_eq!(records.uid, None);
    }
}
