//! What the kernel knows of emulators (binfmt_misc): read on this machine, written in a user namespace of our own.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use super::machines::{Header, Machine};

const REGISTERED: &str = "/proc/sys/fs/binfmt_misc";

/// What the machine has registered for a kind of program.
pub(super) struct Registered {
    pub(super) interpreter: PathBuf,
    /// By flag F: opened when it was registered.
    pub(super) is_held: bool,
}

pub(super) fn registered(machine: &Machine) -> Option<Registered> {
    let entries = fs::read_dir(REGISTERED).ok()?.flatten();
    let texts = entries.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    texts.filter_map(|text| parse(&text, &machine.magic())).next()
}

/// One entry, if it is enabled and for programs with this header.
fn parse(text: &str, header: &Header) -> Option<Registered> {
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if text.lines().next() != Some("enabled") || value("offset") != Some("0") {
        return None;
    }
    let magic = bytes(value("magic")?)?;
    let mask = value("mask").and_then(bytes).unwrap_or_else(|| vec![0xff; magic.len()]);
    let mut compared = header.iter().zip(&magic).zip(&mask);
    if magic.len() > header.len() || !compared.all(|((byte, magic), mask)| byte & mask == magic & mask) {
        return None;
    }
    let is_held = value("flags:").is_some_and(|flags| flags.contains('F'));
    Some(Registered { interpreter: value("interpreter")?.into(), is_held })
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
    (0..hex.len()).step_by(2).map(digits).collect()
}

/// A binfmt_misc of this user namespace's own with one emulator in it, opened by the kernel there and then (F), with
/// the program's own name for it (P) and its credentials (C).
pub(super) fn register_in_this_namespace(machine: &Machine, qemu: &Path) -> io::Result<OwnedFd> {
    let context = fsopen("binfmt_misc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let file = openat(&mount, "register", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    let escaped = |bytes: Header| bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
    let (magic, mask) = (escaped(machine.magic()), escaped(machine.mask()));
    let entry = format!(":forge-{}:M:0:{magic}:{mask}:{}:PCF", machine.qemu, qemu.display());
    // In one call: each write is an entry.
    match File::from(file).write_all(entry.as_bytes()) {
        // Several builds share no namespace, but a second mount of the same one shows the same entries.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(mount),
        other => other.map(|()| mount),
    }
}

#[cfg(test)]
mod tests {
    use super::super::machines::MACHINES;
    use super::*;

    /// What Debian registers for aarch64.
    const DEBIAN: &str = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: POCF\noffset 0\n\
        magic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n";

    fn of(architecture: &str) -> &'static Machine {
        MACHINES.iter().find(|machine| machine.architecture == architecture).unwrap()
    }

    #[test]
    fn an_entry_is_for_the_programs_whose_header_it_has() {
        let found = parse(DEBIAN, &of("arm64").magic()).unwrap();
        assert!(found.is_held);
        assert_eq!(found.interpreter, Path::new("/usr/libexec/qemu-binfmt/aarch64-binfmt-P"));
        for other in ["arm", "riscv64", "s390x", "amd64"] {
            assert!(parse(DEBIAN, &of(other).magic()).is_none(), "{other}");
        }
        assert!(parse(&DEBIAN.replace("enabled", "disabled"), &of("arm64").magic()).is_none());
        assert!(!parse(&DEBIAN.replace("POCF", "POC"), &of("arm64").magic()).unwrap().is_held);
    }
}
