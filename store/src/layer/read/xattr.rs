//! Extended attributes in PAX records, in the two forms that tar programs write.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use super::error::Fault;
use crate::limits::XATTR_BYTES_MAX;

/// The key of a record that is an extended attribute.
pub(super) enum XattrKey<'a> {
    /// `SCHILY.xattr.NAME`: the value is the attribute's bytes. By star, GNU tar, Go and most others.
    Plain(&'a [u8]),
    /// `LIBARCHIVE.xattr.NAME`: the name is percent-encoded and the value base64. By bsdtar.
    Encoded(&'a [u8]),
}

impl<'a> XattrKey<'a> {
    /// `None` for a key that is something else.
    pub(super) fn parse(key: &'a [u8]) -> Option<Self> {
        let plain = key.strip_prefix(b"SCHILY.xattr.").map(Self::Plain);
        plain.or_else(|| key.strip_prefix(b"LIBARCHIVE.xattr.").map(Self::Encoded))
    }

    pub(super) fn is_encoded(&self) -> bool {
        matches!(self, Self::Encoded(_))
    }

    /// The attribute's name with its namespace.
    pub(super) fn name(&self) -> Result<Vec<u8>, Fault> {
        let name = match self {
            Self::Plain(name) => gnu_decoded(name),
            Self::Encoded(name) => percent_decoded(name)?,
        };
        match name.is_empty() || name.contains(&0) {
            true => Err(Fault::Pax("an extended attribute's name is not valid")),
            false => Ok(name),
        }
    }

    /// The attribute's value, from the record's.
    pub(super) fn value(&self, value: &[u8]) -> Result<Vec<u8>, Fault> {
        let value = match self {
            Self::Plain(_) => value.to_vec(),
            Self::Encoded(_) => {
                BASE64.decode(value).map_err(|_| Fault::Pax("an attribute's base64 is not valid"))?
            }
        };
        match value.len() > XATTR_BYTES_MAX {
            true => Err(Fault::TooLong { what: "extended attribute", limit: XATTR_BYTES_MAX }),
            false => Ok(value),
        }
    }
}

/// GNU tar writes a `=` in a name as `%3D`, and so a `%` as `%25`, and leaves all else alone.
fn gnu_decoded(name: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [first, tail @ ..] = rest {
        let (byte, after) = match rest {
            [b'%', b'3', b'D', after @ ..] => (b'=', after),
            [b'%', b'2', b'5', after @ ..] => (b'%', after),
            _ => (*first, tail),
        };
        decoded.push(byte);
        rest = after;
    }
    decoded
}

fn percent_decoded(name: &[u8]) -> Result<Vec<u8>, Fault> {
    let digit = |b: &u8| char::from(*b).to_digit(16);
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [first, tail @ ..] = rest {
        rest = tail;
        decoded.push(*first);
        if *first == b'%' {
            let [high, low, tail @ ..] = tail else { return Err(Fault::Pax("a name's % code is cut short")) };
            let code = digit(high).zip(digit(low)).ok_or(Fault::Pax("a name's % code is not hexadecimal"))?;
            decoded.pop();
            decoded.push((code.0 << 4 | code.1) as u8);
            rest = tail;
        }
    }
    Ok(decoded)
}

/// bsdtar leaves the padding off.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use super::*;

    fn read(key: &[u8], value: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let key = XattrKey::parse(key)?;
        Some((key.name().ok()?, key.value(value).ok()?))
    }

    #[test]
    fn names_and_values_of_gnu_tar_and_bsdtar() {
        for (key, value, wanted) in [
            (
                &b"SCHILY.xattr.user.a%3Db%25c%20"[..],
                &b"1\0\n2"[..],
                Some((&b"user.a=b%c%20"[..], &b"1\0\n2"[..])),
            ),
            (b"LIBARCHIVE.xattr.user.x%20y", b"AAH/", Some((b"user.x y", b"\0\x01\xff"))),
            (b"LIBARCHIVE.xattr.user.z", b"YQ", Some((b"user.z", b"a"))),
            (b"LIBARCHIVE.xattr.user.z", b"YQ==", Some((b"user.z", b"a"))),
            (b"LIBARCHIVE.xattr.user.z", b"Y!", None),
            (b"LIBARCHIVE.xattr.user.%2", b"YQ", None),
            (b"LIBARCHIVE.xattr.user.%zz", b"YQ", None),
            (b"LIBARCHIVE.xattr.user.%00", b"YQ", None),
            (b"SCHILY.xattr.", b"x", None),
            (b"SCHILY.acl.access", b"x", None),
        ] {
            let read = read(key, value);
            let read = read.as_ref().map(|(name, value)| (&name[..], &value[..]));
            assert_eq!(read, wanted, "{}", key.escape_ascii());
        }
    }
}
