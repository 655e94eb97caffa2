//! Names that mean "this is gone" (OCI image-spec, layer.md, "Whiteouts").
//!
//! They speak of the layers below and never of their own: so a whiteout becomes overlayfs's mark whatever stands
//! before or after it in the archive, and removes nothing that the same archive adds.

use super::error::Refusal;

const PREFIX: &[u8] = b".wh.";
const RESERVED: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What the last name of an entry's path says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name<'a> {
    /// It is a file's name.
    Plain,
    /// Nothing of this name shows through from below.
    Hides(&'a [u8]),
    /// Nothing of the directory that it is in shows through from below.
    Opaque,
}

impl<'a> Name<'a> {
    /// Reads a name.
    ///
    /// # Errors
    /// [`Refusal::Whiteout`] for the forms that would hide the directory itself or its parent, and for the names
    /// that aufs kept its own files under.
    pub(super) fn of(name: &'a [u8]) -> Result<Self, Refusal> {
        match name.strip_prefix(PREFIX) {
            None => Ok(Self::Plain),
            Some(_) if name == OPAQUE => Ok(Self::Opaque),
            Some(b"" | b"." | b"..") => Err(Refusal::Whiteout),
            Some(_) if name.starts_with(RESERVED) => Err(Refusal::Whiteout),
            Some(hidden) => Ok(Self::Hides(hidden)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whiteouts_are_told_from_names() {
        for (name, meaning) in [
            (&b"a"[..], Ok(Name::Plain)),
            (b".wh", Ok(Name::Plain)),
            (b"a.wh.b", Ok(Name::Plain)),
            (b".wh.a", Ok(Name::Hides(b"a"))),
            (b".wh....", Ok(Name::Hides(b"..."))),
            (b".wh..a", Ok(Name::Hides(b".a"))),
            (b".wh..wh..opq", Ok(Name::Opaque)),
            (b".wh.", Err(Refusal::Whiteout)),
            (b".wh..", Err(Refusal::Whiteout)),
            (b".wh...", Err(Refusal::Whiteout)),
            (b".wh..wh.aufs", Err(Refusal::Whiteout)),
            (b".wh..wh..opq2", Err(Refusal::Whiteout)),
        ] {
            assert_eq!(Name::of(name), meaning, "{}", name.escape_ascii());
        }
    }
}
