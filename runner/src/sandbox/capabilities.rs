//! Sets of Linux capabilities, and the three that forge gives to a step.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A set of capabilities, one bit each, as capabilities(7) numbers them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Capabilities(u64);

const CHOWN: u64 = 1 << 0;
const DAC_OVERRIDE: u64 = 1 << 1;
const FOWNER: u64 = 1 << 3;
const FSETID: u64 = 1 << 4;
const KILL: u64 = 1 << 5;
const SETGID: u64 = 1 << 6;
const SETUID: u64 = 1 << 7;
const SETPCAP: u64 = 1 << 8;
const NET_BIND_SERVICE: u64 = 1 << 10;
const NET_RAW: u64 = 1 << 13;
const SYS_CHROOT: u64 = 1 << 18;
const MKNOD: u64 = 1 << 27;
const AUDIT_WRITE: u64 = 1 << 29;
const SETFCAP: u64 = 1 << 31;

impl Capabilities {
    /// None.
    pub const EMPTY: Capabilities = Capabilities(0);

    /// The eleven of podman: the default without MKNOD, NET_RAW and AUDIT_WRITE (800405fb).
    pub const HARDENED: Capabilities = Capabilities(
        CHOWN
            | DAC_OVERRIDE
            | FOWNER
            | FSETID
            | KILL
            | SETGID
            | SETUID
            | SETPCAP
            | NET_BIND_SERVICE
            | SYS_CHROOT
            | SETFCAP,
    );

    /// The fourteen of Docker and BuildKit (a80425fb).
    pub const DEFAULT: Capabilities = Capabilities(Self::HARDENED.0 | NET_RAW | MKNOD | AUDIT_WRITE);

    /// All that forge itself has.
    pub const ALL: Capabilities = Capabilities(u64::MAX);

    /// What PID 1 keeps while the step runs: to signal processes of other users, and to take back the mount points
    /// it made in directories that it does not own.
    pub(crate) const INIT: Capabilities = Capabilities(KILL | DAC_OVERRIDE | FOWNER);

    /// The set with these bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Capabilities {
        Capabilities(bits)
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether capability number `index` is in the set.
    #[must_use]
    pub const fn contains(self, index: u32) -> bool {
        index < u64::BITS && self.0 & (1 << index) != 0
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sets_are_those_of_the_other_builders() {
        assert_eq!(Capabilities::DEFAULT.bits(), 0xa804_25fb);
        assert_eq!(Capabilities::HARDENED.bits(), 0x8004_05fb);
        assert_eq!(Capabilities::DEFAULT.bits().count_ones(), 14);
    }
}
