//! Kinds of machines: their names, and how the programs for them begin.

use forge_store::Platform;

/// A machine: its name in images, in qemu, and in ELF headers (class, byte order, number).
pub(super) struct Machine {
    pub(super) architecture: &'static str,
    pub(super) qemu: &'static str,
    class: u8,
    order: u8,
    number: u16,
}

const fn machine(
    architecture: &'static str,
    qemu: &'static str,
    class: u8,
    order: u8,
    number: u16,
) -> Machine {
    Machine { architecture, qemu, class, order, number }
}

pub(super) const MACHINES: [Machine; 9] = [
    machine("amd64", "x86_64", 2, 1, 62),
    machine("arm64", "aarch64", 2, 1, 183),
    machine("arm", "arm", 1, 1, 40),
    machine("386", "i386", 1, 1, 3),
    machine("riscv64", "riscv64", 2, 1, 243),
    machine("ppc64le", "ppc64le", 2, 1, 21),
    machine("s390x", "s390x", 2, 2, 22),
    machine("mips64le", "mips64el", 2, 1, 8),
    machine("loong64", "loongarch64", 2, 1, 258),
];

/// The first bytes of an executable, so far as they are compared.
pub(super) type Header = [u8; 20];

impl Machine {
    /// The header of its programs, of type ET_EXEC.
    pub(super) fn magic(&self) -> Header {
        let mut header = [0; 20];
        header[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', self.class, self.order, 1]);
        let half = |value: u16| if self.order == 2 { value.to_be_bytes() } else { value.to_le_bytes() };
        header[16..18].copy_from_slice(&half(2));
        header[18..].copy_from_slice(&half(self.number));
        header
    }

    /// Which bits count: not the system, and ET_DYN is as good as ET_EXEC.
    pub(super) fn mask(&self) -> Header {
        let mut mask = [0xff; 20];
        mask[7] = 0;
        mask[if self.order == 2 { 17 } else { 16 }] = 0xfe;
        mask
    }
}

/// Whether the processor itself runs them.
pub(super) fn is_native(architecture: &str) -> bool {
    let host = Platform::host().architecture;
    architecture.is_empty()
        || architecture == host
        || matches!((host.as_str(), architecture), ("amd64", "386") | ("arm64", "arm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(architecture: &str) -> &'static Machine {
        MACHINES.iter().find(|machine| machine.architecture == architecture).unwrap()
    }

    #[test]
    fn our_own_headers_are_those_of_qemu() {
        let hex = |bytes: Header| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(of("arm64").magic()), "7f454c460201010000000000000000000200b700");
        assert_eq!(hex(of("arm64").mask()), "ffffffffffffff00fffffffffffffffffeffffff");
        assert_eq!(hex(of("s390x").magic()), "7f454c4602020100000000000000000000020016");
        assert_eq!(hex(of("s390x").mask()), "ffffffffffffff00fffffffffffffffffffeffff");
    }

    #[test]
    fn the_processors_own_programs_need_nobody() {
        assert!(is_native(&Platform::host().architecture));
        assert!(is_native(""));
        assert!(!is_native("s390x"));
    }
}
