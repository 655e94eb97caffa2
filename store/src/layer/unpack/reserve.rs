//! What a file system keeps free while archives are unpacked: a small blob may unpack to more than any disk holds,
//! and a machine with a full disk is in worse trouble than a build that fails.

use crate::limits::{FREE_BYTES_RESERVED_MIN, FREE_PERCENT_RESERVED, FREE_RESERVED_OF_SMALL_DISKS};
use crate::rootdir::Dir;

use super::UnpackError;

/// How many bytes are written between two looks at the file system, at least and at most.
const LOOK_BYTES: (u64, u64) = (1 << 20, 64 << 20);

/// Watches the free space below a tree.
pub(super) struct Reserve {
    dir: Dir,
    bytes: u64,
    unlooked: u64,
}

impl Reserve {
    pub(super) fn new(dir: &Dir) -> Self {
        // Where nobody can tell, the kernel's own limit is left.
        let total = rustix::fs::fstatvfs(dir).map_or(0, |fs| fs.f_blocks.saturating_mul(fs.f_frsize));
        Self { dir: dir.clone(), bytes: reserved(total), unlooked: 0 }
    }

    /// Before this many more bytes are written.
    pub(super) fn before(&mut self, bytes: u64) -> Result<(), UnpackError> {
        self.unlooked = self.unlooked.saturating_add(bytes);
        if self.bytes == 0 || self.unlooked < (self.bytes / 4).clamp(LOOK_BYTES.0, LOOK_BYTES.1) {
            return Ok(());
        }
        self.unlooked = 0;
        let Ok(fs) = rustix::fs::fstatvfs(&self.dir) else { return Ok(()) };
        match fs.f_bavail.saturating_mul(fs.f_frsize) < self.bytes {
            true => Err(UnpackError::Reserve { reserved: self.bytes }),
            false => Ok(()),
        }
    }
}

/// Bytes that stay free on a file system of this size.
fn reserved(total: u64) -> u64 {
    FREE_BYTES_RESERVED_MIN.max(total / 100 * FREE_PERCENT_RESERVED).min(total / FREE_RESERVED_OF_SMALL_DISKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_disks_keep_a_part_and_large_ones_a_share() {
        const GIB: u64 = 1 << 30;
        assert_eq!(reserved(0), 0);
        assert_eq!(reserved(160 << 20), 10 << 20);
        assert_eq!(reserved(16 * GIB), GIB);
        assert_eq!(reserved(20 * GIB), GIB);
        assert_eq!(reserved(1000 * GIB), 50 * GIB);
    }
}
