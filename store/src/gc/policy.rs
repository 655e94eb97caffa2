//! How much the store may take, as BuildKit's collector has it.

use std::path::Path;

use crate::StoreError;
use crate::error::At;
use crate::limits::{FREE_MIN_PERCENT, RESERVED, USED_MAX};

/// Limits of the store's size, in bytes. What is not given does not limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The store may always take this much.
    pub reserved: Option<u64>,
    /// The store may never take more than this.
    pub max_used: Option<u64>,
    /// This much of the disk is to stay free.
    pub min_free: Option<u64>,
}

/// Sizes of a disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// All of it.
    pub total: u64,
    /// What may still be written.
    pub free: u64,
}

impl Disk {
    /// The disk that `path` is on.
    pub fn of(path: &Path) -> Result<Self, StoreError> {
        let stat = rustix::fs::statvfs(path).at("ask for the free space of", path)?;
        Ok(Self { total: stat.f_blocks * stat.f_frsize, free: stat.f_bavail * stat.f_frsize })
    }
}

impl Limits {
    /// What applies on a disk if nobody says anything.
    pub fn of_disk(disk: Disk) -> Self {
        let part = |percent: u64| disk.total / 100 * percent;
        Self {
            reserved: Some(part(RESERVED.0).min(RESERVED.1)),
            max_used: Some(part(USED_MAX.0).min(USED_MAX.1)),
            min_free: Some(part(FREE_MIN_PERCENT)),
        }
    }

    /// These, where they say something, or else those.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            reserved: self.reserved.or(other.reserved),
            max_used: self.max_used.or(other.max_used),
            min_free: self.min_free.or(other.min_free),
        }
    }

    /// True if nothing is limited.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }

    /// What a store that takes `used` may take.
    pub fn allowed(self, used: u64, disk: Disk) -> u64 {
        let wanted_free = self.min_free.unwrap_or(0).saturating_sub(disk.free);
        let allowed = match (self.max_used, self.min_free) {
            // Only what is reserved was given: that is how much may stay.
            (None, None) => 0,
            (max_used, _) => max_used.unwrap_or(u64::MAX).min(used.saturating_sub(wanted_free)),
        };
        allowed.max(self.reserved.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: Disk = Disk { total: 1_000, free: 100 };

    fn allowed(reserved: Option<u64>, max_used: Option<u64>, min_free: Option<u64>) -> u64 {
        Limits { reserved, max_used, min_free }.allowed(500, DISK)
    }

    #[test]
    fn the_least_limit_counts_but_what_is_reserved_stays() {
        assert_eq!(allowed(None, Some(300), None), 300);
        assert_eq!(allowed(None, Some(900), None), 500, "nothing to do");
        assert_eq!(allowed(None, None, Some(150)), 450, "50 are wanted");
        assert_eq!(allowed(None, Some(470), Some(150)), 450);
        assert_eq!(allowed(Some(480), Some(470), Some(150)), 480);
        assert_eq!(allowed(Some(200), None, None), 200);
        assert_eq!(allowed(Some(50), Some(600), Some(700)), 50);
    }

    #[test]
    fn by_default_it_is_ten_and_eighty_and_twenty_percent_with_caps() {
        let small = Limits::of_disk(Disk { total: 20_000_000_000, free: 0 });
        assert_eq!(
            small,
            Limits {
                reserved: Some(2_000_000_000),
                max_used: Some(16_000_000_000),
                min_free: Some(4_000_000_000)
            }
        );
        let large = Limits::of_disk(Disk { total: 1_000_000_000_000, free: 0 });
        assert_eq!((large.reserved, large.max_used), (Some(10_000_000_000), Some(100_000_000_000)));
        let mine = Limits { max_used: Some(7), ..Limits::default() };
        assert_eq!(mine.or(large), Limits { max_used: Some(7), ..large });
    }
}
