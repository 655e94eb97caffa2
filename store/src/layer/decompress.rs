//! What a blob or an archive is compressed with, and its bytes without that.
//!
//! The first bytes decide, never the media type or a file's name: BuildKit and containerd do so, registries are
//! full of layers whose media type says gzip and whose bytes are zstd or plain tar, and the DiffID is what binds a
//! layer to its image. What no builder unpacks from a layer is refused there ([`Accept::Layer`]).
//!
//! Every stream is read to its end: all members of a gzip, all frames of a zstd with the skippable ones between
//! them. One that is cut short or followed by something else is an error, and so is one that needs more memory than
//! [`crate::limits`] allow.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use crate::limits::{XZ_MEMORY_BYTES_MAX, ZSTD_WINDOW_LOG_MAX};

/// A compression format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// None: the bytes are what they are.
    Identity,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
}

/// Which encodings are unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// Those of OCI's layer media types: none, gzip and zstd.
    Layer,
    /// Those of archives that ADD unpacks: bzip2 and xz too.
    Archive,
}

/// A stream without its compression.
pub struct Decompressed<'a> {
    encoding: Encoding,
    inner: Box<dyn Read + Send + 'a>,
}

/// As many first bytes as tell all formats apart.
const MAGIC_BYTES: usize = 10;
/// For compressed bytes.
const BUFFER_BYTES: usize = 128 * 1024;

impl Encoding {
    /// The format that a stream with these first bytes is in; ten are enough.
    pub fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, 0x08, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            // With the first block's mark, or the end's: `BZh` alone may well begin a file's name in a plain tar.
            [b'B', b'Z', b'h', b'1'..=b'9', block @ ..]
                if block.starts_with(b"\x31\x41\x59\x26\x53\x59")
                    || block.starts_with(b"\x17\x72\x45\x38\x50\x90") =>
            {
                Self::Bzip2
            }
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            _ => Self::Identity,
        }
    }

    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "no compression",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
        }
    }
}

impl<'a> Decompressed<'a> {
    /// Looks at the first bytes of a stream and gets ready to read it.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] when a layer is compressed by what no layer may be.
    pub fn new(mut stream: impl Read + Send + 'a, accept: Accept) -> io::Result<Self> {
        let mut head = Vec::with_capacity(MAGIC_BYTES);
        stream.by_ref().take(MAGIC_BYTES as u64).read_to_end(&mut head)?;
        let encoding = Encoding::of(&head);
        let stream = Cursor::new(head).chain(stream);
        if accept == Accept::Layer && matches!(encoding, Encoding::Bzip2 | Encoding::Xz) {
            let message = format!("layers are not compressed with {}: use gzip or zstd", encoding.name());
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        let inner = match encoding {
            Encoding::Identity => Box::new(stream),
            encoding => decoder(encoding, BufReader::with_capacity(BUFFER_BYTES, stream))?,
        };
        Ok(Self { encoding, inner })
    }

    /// What the stream is compressed with.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }
}

impl Read for Decompressed<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.inner.read(bytes).map_err(|error| match self.encoding {
            Encoding::Identity => error,
            encoding => {
                io::Error::new(error.kind(), format!("cannot decompress {}: {error}", encoding.name()))
            }
        })
    }
}

fn decoder<'a>(
    encoding: Encoding,
    stream: impl BufRead + Send + 'a,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    Ok(match encoding {
        Encoding::Identity => Box::new(stream),
        Encoding::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(stream)),
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(stream)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
        Encoding::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(stream)),
        Encoding::Xz => {
            let flags = liblzma::stream::CONCATENATED;
            let decoder = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY_BYTES_MAX, flags)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(stream, decoder))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_their_first_bytes() {
        for (head, encoding) in [
            (&b""[..], Encoding::Identity),
            (b"\x1f\x8b\x08\0", Encoding::Gzip),
            (b"\x1f\x8b", Encoding::Identity),
            (b"\x28\xb5\x2f\xfd", Encoding::Zstd),
            (b"\x5f\x2a\x4d\x18\0\0\0\0", Encoding::Zstd),
            (b"BZh91AY&SY", Encoding::Bzip2),
            (b"BZh9\x17\x72\x45\x38\x50\x90", Encoding::Bzip2),
            (b"BZhang.txt\0", Encoding::Identity),
            (b"\xfd7zXZ\0", Encoding::Xz),
            (b"etc/passwd", Encoding::Identity),
        ] {
            assert_eq!(Encoding::of(head), encoding, "{}", head.escape_ascii());
        }
    }
}
