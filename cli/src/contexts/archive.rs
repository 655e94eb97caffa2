//! A stream that is a build context: a tar, compressed or not, or a single Dockerfile.
//!
//! Nothing of it is spooled: what is an archive is unpacked as it comes, and only a Dockerfile is kept. Both what
//! comes and what it unpacks to are bounded, holes counted.

use std::io::{self, Cursor, Read};

use forge_store::layer::unpack::Owner;
use forge_store::layer::{Accept, Decompressed, UnpackLimits, UnpackOptions, is_archive, unpack};
use forge_store::{Draft, RootDir, Store};

use crate::failure::{Failure, Kind};
use crate::limits::{
    ARCHIVE_TRAILER_BYTES_MAX, CONTEXT_HEAD_BYTES, CONTEXT_PACKED_BYTES_MAX, CONTEXT_UNPACKED_BYTES_MAX,
    DOCKERFILE_BYTES_MAX,
};

/// What a stream turned out to be.
pub enum Content {
    /// Files, in the draft.
    Archive,
    /// A Dockerfile.
    Dockerfile(Vec<u8>),
}

/// What a stream may cost, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// As they come.
    pub packed: u64,
    /// Unpacked.
    pub unpacked: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { packed: CONTEXT_PACKED_BYTES_MAX, unpacked: CONTEXT_UNPACKED_BYTES_MAX }
    }
}

/// Takes in a whole stream; the files of an archive go into `draft`. `what` names it in messages.
pub fn take_in(
    stream: impl Read + Send,
    draft: &Draft,
    store: &Store,
    bounds: Bounds,
    what: &str,
) -> Result<Content, Failure> {
    let cannot = |verb: &str, e: &dyn std::fmt::Display| {
        Failure::new(Kind::Input, format!("cannot {verb} the context from {what}: {e}"), None)
    };
    let mut stream = Capped { inner: stream, left: bounds.packed, most: bounds.packed };
    let mut head = Vec::new();
    let read = stream.by_ref().take(CONTEXT_HEAD_BYTES).read_to_end(&mut head);
    read.map_err(|e| cannot("read", &e))?;
    if !is_archive(head.as_slice()) {
        let read = stream.take((DOCKERFILE_BYTES_MAX + 1).saturating_sub(CONTEXT_HEAD_BYTES));
        { read }.read_to_end(&mut head).map_err(|e| cannot("read", &e))?;
        if head.len() as u64 > DOCKERFILE_BYTES_MAX {
            let reason = format!(
                "it is no tar archive, and too large for a Dockerfile: more than {DOCKERFILE_BYTES_MAX} bytes"
            );
            return Err(cannot("use", &reason));
        }
        return Ok(Content::Dockerfile(head));
    }
    let root = RootDir::open_host(draft.tree()).map_err(|e| Failure::new(Kind::System, e, None))?;
    let options = UnpackOptions {
        owner: Owner::OfProcess,
        limits: UnpackLimits { bytes: bounds.unpacked, ..UnpackLimits::default() },
        ..UnpackOptions::archive(store.layers().xattrs())
    };
    let whole = Cursor::new(head).chain(stream);
    let mut archive = Decompressed::new(whole, Accept::Archive).map_err(|e| cannot("unpack", &e))?;
    unpack(&mut archive, &root, &options).map_err(|e| cannot("unpack", &e))?;
    // Whoever writes into a pipe is not cut off before its padding, and a compressed stream proves itself at its end.
    let trailer = io::copy(&mut archive.take(ARCHIVE_TRAILER_BYTES_MAX + 1), &mut io::sink());
    if trailer.map_err(|e| cannot("unpack", &e))? > ARCHIVE_TRAILER_BYTES_MAX {
        let reason = format!("more than {ARCHIVE_TRAILER_BYTES_MAX} bytes follow the archive's end");
        return Err(cannot("unpack", &reason));
    }
    Ok(Content::Archive)
}

/// A stream with an end: what goes on past it is an error and no silent cut.
struct Capped<R> {
    inner: R,
    left: u64,
    most: u64,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !buffer.is_empty() {
            return match self.inner.read(&mut [0])? {
                0 => Ok(0),
                _ => Err(io::Error::other(format!("it is larger than {} bytes", self.most))),
            };
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.inner.read(&mut buffer[..most])?;
        self.left -= n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use forge_store::tree::OverlayXattrs;

    use super::*;

    /// A tar with one file of so many zeros, or of one hole of that size.
    fn tar(size: u64, sparse: bool) -> Vec<u8> {
        let mut header = [0_u8; 512];
        header[..4].copy_from_slice(b"file");
        header[100..107].copy_from_slice(b"0000644");
        header[108..115].copy_from_slice(b"0000000");
        header[116..123].copy_from_slice(b"0000000");
        let stored = if sparse { 0 } else { size };
        header[124..135].copy_from_slice(format!("{stored:011o}").as_bytes());
        header[136..147].copy_from_slice(b"00000000000");
        header[156] = if sparse { b'S' } else { b'0' };
        header[257..265].copy_from_slice(b"ustar  \0");
        if sparse {
            // GNU's old form, numbers in base 256: a last, empty segment says where the file ends.
            header[398..409].copy_from_slice(b"00000000000");
            for at in [386, 483] {
                header[at] = 0x80;
                header[at + 4..at + 12].copy_from_slice(&size.to_be_bytes());
            }
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut bytes = header.to_vec();
        bytes.resize(512 + stored.next_multiple_of(512) as usize + 1024, 0);
        bytes
    }

    fn outcome(bytes: &[u8], bounds: Bounds) -> Result<usize, String> {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), OverlayXattrs::Trusted).unwrap();
        let draft = store.draft().unwrap();
        match take_in(bytes, &draft, &store, bounds, "here") {
            Ok(Content::Archive) => Ok(0),
            Ok(Content::Dockerfile(bytes)) => Ok(bytes.len()),
            Err(failure) => Err(failure.to_string()),
        }
    }

    #[test]
    fn what_comes_and_what_it_unpacks_to_are_bounded() {
        let bounds = |packed, unpacked| Bounds { packed, unpacked };
        let plain = tar(100_000, false);
        assert_eq!(outcome(&plain, bounds(200_000, 200_000)), Ok(0));
        let more = outcome(&plain, bounds(50_000, 200_000)).unwrap_err();
        assert_eq!(more, "cannot read the context from here: it is larger than 50000 bytes");
        let more = outcome(&plain, bounds(200_000, 50_000)).unwrap_err();
        assert_eq!(more, "cannot unpack the context from here: archive holds more than 50000 bytes of files");
        // A hole of a tebibyte costs nothing to send, and counts.
        let sparse = tar(1 << 40, true);
        assert!(sparse.len() < 4_096);
        let more = outcome(&sparse, Bounds::default()).unwrap_err();
        assert_eq!(
            more,
            "cannot unpack the context from here: archive holds more than 68719476736 bytes of files"
        );
        assert_eq!(outcome(b"FROM scratch\n", Bounds::default()), Ok(13));
    }

    #[test]
    fn an_endless_stream_that_is_no_archive_ends_at_the_dockerfiles_bound() {
        struct Endless;
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                buffer.fill(b'x');
                Ok(buffer.len())
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), OverlayXattrs::Trusted).unwrap();
        let draft = store.draft().unwrap();
        let Err(failure) = take_in(Endless, &draft, &store, Bounds::default(), "here") else {
            panic!("taken in")
        };
        assert!(failure.to_string().ends_with("more than 16777216 bytes"), "{failure}");
    }
}
