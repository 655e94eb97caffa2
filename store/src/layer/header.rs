//! The tar headers of one entry: a ustar header (POSIX.1-1988), before it a PAX extended header (POSIX.1-2001)
//! with whatever the old fields cannot hold. No GNU extensions: every reader of images knows PAX.
//!
//! Same entry, same bytes: records are sorted by key, and no field tells of the machine, the user's name or the
//! time of packing.

use tar::EntryType;

use crate::rootdir::Mtime;

/// Size of a header, and what content is padded to.
pub(super) const BLOCK: usize = 512;

/// The name that readers without PAX would extract the records to; GNU tar and Python use the same.
const PAX_NAME: &[u8] = b"././@PaxHeader";

/// The largest numbers that fit into 7 and 11 octal digits.
const OCTAL_7_MAX: u64 = 0o7_777_777;
const OCTAL_11_MAX: u64 = 0o77_777_777_777;

/// What a header says.
pub(super) struct Fields<'a> {
    /// Name with `/` after a directory's; any bytes but NUL.
    pub(super) path: &'a [u8],
    /// Target of a symlink, or the first name of a hard link; else empty.
    pub(super) link: &'a [u8],
    pub(super) kind: EntryType,
    /// `0o7777`.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Bytes of content that follow.
    pub(super) size: u64,
    /// Since 1970-01-01 UTC. Layers made here have whole seconds.
    pub(super) mtime: Mtime,
    /// Major and minor number of a device.
    pub(super) device: Option<(u32, u32)>,
    /// Names and values of extended attributes, sorted by name.
    pub(super) xattrs: Vec<(&'a [u8], &'a [u8])>,
}

impl Fields<'_> {
    /// Appends the headers to `out`.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut pax = Pax::default();
        let header = self.ustar(&mut pax);
        if !pax.records.is_empty() {
            pax.encode(out);
        }
        out.extend_from_slice(header.as_bytes());
    }

    /// The ustar header; what does not fit becomes a record, and its field zero or cut.
    fn ustar(&self, pax: &mut Pax) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        let raw = header.as_ustar_mut().expect("made as ustar");
        for (name, value) in &self.xattrs {
            pax.add(&[b"SCHILY.xattr.", *name].concat(), value);
        }
        octal(&mut raw.gid, pax.number("gid", self.gid.into(), OCTAL_7_MAX));
        put_text(&mut raw.linkname, "linkpath", self.link, pax);
        octal(&mut raw.mtime, pax.time("mtime", self.mtime));
        if !put_split(raw, self.path) {
            put_text(&mut raw.name, "path", self.path, pax);
        }
        octal(&mut raw.size, pax.number("size", self.size as i64, OCTAL_11_MAX));
        octal(&mut raw.uid, pax.number("uid", self.uid.into(), OCTAL_7_MAX));
        octal(&mut raw.mode, self.mode.into());
        let (major, minor) = self.device.unwrap_or_default();
        octal(&mut raw.dev_major, major.into());
        octal(&mut raw.dev_minor, minor.into());
        raw.typeflag = [self.kind.as_byte()];
        header.set_cksum();
        header
    }
}

/// The records of an extended header, added in order of their keys.
#[derive(Default)]
struct Pax {
    records: Vec<u8>,
}

impl Pax {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        // A record's length counts its own digits: "13 path=abcde\n".
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length += 1;
        }
        self.records.extend_from_slice(format!("{length} ").as_bytes());
        self.records.extend_from_slice(key);
        self.records.push(b'=');
        self.records.extend_from_slice(value);
        self.records.push(b'\n');
    }

    /// The number for the field: itself, or zero when only a record can hold it.
    fn number(&mut self, key: &str, value: i64, max: u64) -> u64 {
        match u64::try_from(value) {
            Ok(number) if number <= max => number,
            _ => {
                self.add(key.as_bytes(), value.to_string().as_bytes());
                0
            }
        }
    }

    /// The whole seconds for the field; a fraction goes into a record.
    fn time(&mut self, key: &str, time: Mtime) -> u64 {
        if time.nsec == 0 {
            return self.number(key, time.sec, OCTAL_11_MAX);
        }
        let ns = i128::from(time.sec) * 1_000_000_000 + i128::from(time.nsec);
        let (sign, ns) = (if ns < 0 { "-" } else { "" }, ns.unsigned_abs());
        let text = format!("{sign}{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000);
        self.add(key.as_bytes(), text.trim_end_matches('0').as_bytes());
        u64::try_from(time.sec).ok().filter(|sec| *sec <= OCTAL_11_MAX).unwrap_or(0)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let mut header = tar::Header::new_ustar();
        let raw = header.as_ustar_mut().expect("made as ustar");
        raw.name[..PAX_NAME.len()].copy_from_slice(PAX_NAME);
        raw.typeflag = [EntryType::XHeader.as_byte()];
        octal(&mut raw.size, self.records.len() as u64);
        for field in [&mut raw.mode, &mut raw.uid, &mut raw.gid, &mut raw.dev_major, &mut raw.dev_minor] {
            octal(field, 0);
        }
        octal(&mut raw.mtime, 0);
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(&self.records);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
}

/// Octal digits with leading zeros and a NUL at the end. The number fits: see the callers.
fn octal(field: &mut [u8], mut number: u64) {
    let (end, digits) = field.split_last_mut().expect("fields are not empty");
    *end = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number & 7) as u8;
        number >>= 3;
    }
}

/// Text in a field of its own, or in a record with what fits of it in the field.
fn put_text(field: &mut [u8], key: &str, text: &[u8], pax: &mut Pax) {
    if text.len() > field.len() || !text.is_ascii() {
        pax.add(key.as_bytes(), text);
    }
    for (to, from) in field.iter_mut().zip(text) {
        *to = if from.is_ascii() { *from } else { b'?' };
    }
}

/// A path too long for the name field alone, cut at a `/` into prefix and name. `false` when it needs no cut or
/// cannot be cut.
fn put_split(raw: &mut tar::UstarHeader, path: &[u8]) -> bool {
    if path.len() <= raw.name.len() || !path.is_ascii() {
        return false;
    }
    // The last `/` that leaves a name, within reach of the prefix field.
    let reach = (path.len() - 1).min(raw.prefix.len() + 1);
    let Some(cut) = path[..reach].iter().rposition(|b| *b == b'/') else { return false };
    let (prefix, name) = (&path[..cut], &path[cut + 1..]);
    if prefix.is_empty() || name.len() > raw.name.len() {
        return false;
    }
    raw.prefix[..prefix.len()].copy_from_slice(prefix);
    raw.name[..name.len()].copy_from_slice(name);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(path: &[u8], change: impl FnOnce(&mut Fields)) -> Vec<u8> {
        let mut fields = Fields {
            path,
            link: b"",
            kind: EntryType::Regular,
            mode: 0o4755,
            uid: 1,
            gid: 2,
            size: 3,
            mtime: Mtime { sec: 4, nsec: 0 },
            device: None,
            xattrs: Vec::new(),
        };
        change(&mut fields);
        let mut out = Vec::new();
        fields.encode(&mut out);
        out
    }

    /// The records of a header that has any.
    fn records(path: &[u8], change: impl FnOnce(&mut Fields)) -> Vec<u8> {
        let out = encode(path, change);
        let size = tar::Header::from_byte_slice(&out[..BLOCK]).entry_size().unwrap() as usize;
        assert_eq!(out[156], b'x');
        out[BLOCK..BLOCK + size].to_vec()
    }

    #[test]
    fn what_ustar_can_hold_needs_no_records() {
        let out = encode(b"a/b", |f| (f.uid, f.mtime.sec) = (0o7_777_777, 0o77_777_777_777));
        assert_eq!(out.len(), BLOCK);
        let header = tar::Header::from_byte_slice(&out);
        assert_eq!(header.path_bytes().as_ref(), b"a/b");
        assert_eq!((header.mode().unwrap(), header.uid().unwrap()), (0o4755, 0o7_777_777));
        assert_eq!(&out[257..265], b"ustar\x0000");
    }

    #[test]
    fn a_record_counts_its_own_length() {
        for length in 80..120 {
            let path = [b"\xe9".repeat(length)].concat();
            let record = records(&path, |_| {});
            let text = [format!("{} path=", record.len()).as_bytes(), &path, b"\n"].concat();
            assert_eq!(record, text);
        }
    }

    #[test]
    fn records_are_sorted_and_only_where_needed() {
        let text = records(b"\xff\n", |f| {
            (f.uid, f.gid, f.size, f.mtime.sec) = (u32::MAX - 1, 2_097_152, 1 << 33, -1);
            (f.link, f.xattrs) = (&[b'l'; 101], vec![(&b"security.capability"[..], &b"\x01\n\0="[..])]);
        });
        let expected = [
            &b"41 SCHILY.xattr.security.capability=\x01\n\0=\n15 gid=2097152\n"[..],
            b"115 linkpath=",
            &[b'l'; 101],
            b"\n12 mtime=-1\n11 path=\xff\n\n19 size=8589934592\n18 uid=4294967294\n",
        ];
        assert_eq!(String::from_utf8_lossy(&text), String::from_utf8_lossy(&expected.concat()));
    }

    #[test]
    fn fractions_of_seconds_go_into_a_record() {
        for (sec, nsec, text) in [(1, 500_000_000, "1.5"), (-1, 500_000_000, "-0.5"), (-2, 1, "-1.999999999")]
        {
            let record = records(b"a", |f| f.mtime = Mtime { sec, nsec });
            assert!(String::from_utf8(record).unwrap().ends_with(&format!(" mtime={text}\n")), "{text}");
        }
    }

    #[test]
    fn long_paths_are_cut_at_a_slash_when_they_can_be() {
        let long = |parts: &[usize]| parts.iter().map(|n| "x".repeat(*n)).collect::<Vec<_>>().join("/");
        for (parts, cut) in [
            (&[50, 50][..], true),
            (&[155, 100], true),
            (&[1, 100], true),
            (&[156, 100], false),
            (&[155, 101], false),
            (&[101], false),
        ] {
            let path = long(parts);
            let out = encode(path.as_bytes(), |_| {});
            assert_eq!(out.len() == BLOCK, cut, "{parts:?}");
            if cut {
                let header = tar::Header::from_byte_slice(&out);
                assert_eq!(header.path_bytes().as_ref(), path.as_bytes());
            }
        }
        let directory = long(&[155, 99]) + "/";
        assert_eq!(encode(directory.as_bytes(), |_| {}).len(), BLOCK);
        assert_eq!(encode((long(&[101]) + "/").as_bytes(), |_| {}).len(), 3 * BLOCK);
    }
}
