//! The table of contents: what `stargz.index.json` says, in the reference implementation's words.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::digest::Digest;
use crate::layer::read::{Entry, EntryKind};

/// Entries in the tar's order; a file of several chunks has one for each.
#[derive(Default)]
pub(super) struct Table {
    entries: Vec<TocEntry>,
}

/// One entry. What is zero or empty is left out, as Go does.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TocEntry {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    size: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    modtime: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    link_name: String,
    #[serde(skip_serializing_if = "is_zero")]
    mode: u64,
    #[serde(skip_serializing_if = "is_zero")]
    uid: u64,
    #[serde(skip_serializing_if = "is_zero")]
    gid: u64,
    #[serde(skip_serializing_if = "is_zero")]
    offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    dev_major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    dev_minor: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<String, String>,
    /// Of the whole file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) digest: Option<Digest>,
    #[serde(skip_serializing_if = "is_zero")]
    chunk_offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) chunk_size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk_digest: Option<Digest>,
    /// The member that holds the chunk; its offset is known once it is compressed.
    #[serde(skip)]
    member: Option<usize>,
}

#[derive(Serialize)]
struct Document {
    version: u32,
    entries: Vec<TocEntry>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Table {
    pub(super) fn push(&mut self, entry: TocEntry) {
        self.entries.push(entry);
    }

    pub(super) fn extend(&mut self, entries: Vec<TocEntry>) {
        self.entries.extend(entries);
    }

    /// The document. `offsets` are those of the members.
    pub(super) fn finish(mut self, offsets: &[u64]) -> Vec<u8> {
        for entry in &mut self.entries {
            entry.offset = entry.member.map_or(0, |member| offsets[member]);
        }
        crate::image::to_json(&Document { version: 1, entries: self.entries })
    }
}

impl TocEntry {
    /// An entry of the tar, called `name`.
    pub(super) fn of(entry: &Entry, name: String) -> Self {
        let (kind, link, device) = match &entry.kind {
            EntryKind::Regular => ("reg", None, None),
            EntryKind::HardLink(target) => ("hardlink", Some(target), None),
            EntryKind::Symlink(target) => ("symlink", Some(target), None),
            EntryKind::Directory => ("dir", None, None),
            EntryKind::Char(device) => ("char", None, Some(device)),
            EntryKind::Block(device) => ("block", None, Some(device)),
            EntryKind::Fifo => ("fifo", None, None),
        };
        let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
        let empty = entry.kind == EntryKind::Regular && entry.size == 0;
        Self {
            name,
            kind,
            size: entry.size,
            modtime: modtime(entry.mtime.sec),
            link_name: link.map(text).unwrap_or_default(),
            mode: entry.mode.into(),
            uid: entry.uid.into(),
            gid: entry.gid.into(),
            offset: 0,
            dev_major: device.map_or(0, |device| device.major.into()),
            dev_minor: device.map_or(0, |device| device.minor.into()),
            xattrs: entry.xattrs.iter().map(|(name, value)| (text(name), STANDARD.encode(value))).collect(),
            digest: empty.then(|| Digest::of(b"")),
            chunk_offset: 0,
            chunk_size: 0,
            chunk_digest: None,
            member: None,
        }
    }

    /// The chunk after this one, of the same file.
    pub(super) fn following(entry: &Self) -> Self {
        Self {
            name: entry.name.clone(),
            kind: "chunk",
            size: 0,
            modtime: String::new(),
            link_name: String::new(),
            mode: 0,
            uid: 0,
            gid: 0,
            xattrs: BTreeMap::new(),
            digest: None,
            ..entry.clone()
        }
    }

    /// Says where the chunk is, where in the file it belongs, and what it is.
    pub(super) fn at_member(&mut self, member: usize, chunk_offset: u64, digest: Digest) {
        self.member = Some(member);
        self.chunk_offset = chunk_offset;
        self.chunk_digest = Some(digest);
    }
}

/// RFC 3339, and nothing for the epoch, as Go's zero time.
fn modtime(seconds: i64) -> String {
    if seconds == 0 {
        return String::new();
    }
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Year, month and day of a number of days since 1970 (Howard Hinnant's `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates() {
        for (seconds, text) in [
            (0, ""),
            (1, "1970-01-01T00:00:01Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (-86_400, "1969-12-31T00:00:00Z"),
        ] {
            assert_eq!(modtime(seconds), text);
        }
    }
}
