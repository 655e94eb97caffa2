//! Programs of another kind of machine: the kernel hands them to an emulator (binfmt_misc), which must be registered.
//!
//! What the machine has registered is used as it is; an emulator that the kernel would look for inside the step's tree
//! is shown there. Where nothing is registered and forge is in a user namespace, it mounts a binfmt_misc of that
//! namespace's own (Linux 6.7) and registers a static qemu from the search path: nobody else notices, and it goes with
//! forge. In the first namespace that would change the whole machine, which is not a build's to do.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use forge_solver::{TroubleKind, WorldError};
use forge_store::Platform;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use crate::isolation::Rung;
use crate::sandbox::spec::{Mount, MountSource, SandboxSpec};
use crate::userns::find_program;
use crate::{Failure, Phase, detach};

const REGISTERED: &str = "/proc/sys/fs/binfmt_misc";

/// A machine: its name in images, in qemu, and in ELF headers (class, byte order, number).
struct Machine {
    architecture: &'static str,
    qemu: &'static str,
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

const MACHINES: [Machine; 9] = [
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
type Header = [u8; 20];

impl Machine {
    /// The header of its programs, of type ET_EXEC.
    fn magic(&self) -> Header {
        let mut header = [0; 20];
        header[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', self.class, self.order, 1]);
        let half = |value: u16| if self.order == 2 { value.to_be_bytes() } else { value.to_le_bytes() };
        header[16..18].copy_from_slice(&half(2));
        header[18..].copy_from_slice(&half(self.number));
        header
    }

    /// Which bits count: not the system, and ET_DYN is as good as ET_EXEC.
    fn mask(&self) -> Header {
        let mut mask = [0xff; 20];
        mask[7] = 0;
        mask[if self.order == 2 { 17 } else { 16 }] = 0xfe;
        mask
    }
}

/// The emulators of one build.
#[derive(Debug)]
pub(crate) struct Emulators {
    rung: Rung,
    search_path: String,
    /// Registered by us, by architecture; the mount of the namespace's own binfmt_misc keeps them.
    own: Mutex<HashMap<String, OwnedFd>>,
}

impl Emulators {
    pub(crate) fn new(rung: Rung, search_path: &str) -> Emulators {
        Emulators { rung, search_path: search_path.to_owned(), own: Mutex::default() }
    }

    /// Sees to it that programs for `platform` can run in the sandbox. Gives what to say if the kernel then refuses
    /// one: an image may claim another machine than its programs are for, and those run as they always did.
    pub(crate) fn provide(
        &self,
        platform: &Platform,
        spec: &mut SandboxSpec,
        handles: &mut Vec<OwnedFd>,
    ) -> Option<WorldError> {
        self.try_to_provide(platform, spec, handles).err()
    }

    fn try_to_provide(
        &self,
        platform: &Platform,
        spec: &mut SandboxSpec,
        handles: &mut Vec<OwnedFd>,
    ) -> Result<(), WorldError> {
        if is_native(&platform.architecture) {
            return Ok(());
        }
        let known = MACHINES.iter().find(|machine| machine.architecture == platform.architecture);
        let machine = known.ok_or_else(|| {
            let message = format!("cannot run programs for {platform} here: forge knows no emulator for it");
            WorldError::new(TroubleKind::Sandbox, message)
        })?;
        match registered(machine) {
            // The kernel holds it open, wherever the step's root is.
            Some(Registered { is_held: true, .. }) => Ok(()),
            Some(Registered { interpreter, .. }) if is_static(&interpreter) && self.rung.has_namespaces() => {
                show(&interpreter, spec, handles)
            }
            Some(Registered { interpreter, .. }) => {
                let message = format!(
                    "cannot run programs for {platform} here: their emulator {} is not static, and not registered \
                     with the flag F",
                    interpreter.display()
                );
                Err(WorldError::new(TroubleKind::Sandbox, message).hint(self.remedy(machine)))
            }
            None => self.register(machine, platform),
        }
    }

    /// Registers a qemu of the search path for this user namespace alone.
    fn register(&self, machine: &Machine, platform: &Platform) -> Result<(), WorldError> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if own.contains_key(machine.architecture) {
            return Ok(());
        }
        let lacking = |why: String| {
            let message = format!("cannot run programs for {platform} here: {why}");
            WorldError::new(TroubleKind::Sandbox, message).hint(self.remedy(machine))
        };
        let names = [format!("qemu-{}-static", machine.qemu), format!("qemu-{}", machine.qemu)];
        let found = names.iter().filter_map(|name| find_program(name, &self.search_path));
        let Some(qemu) = found.into_iter().find(|path| is_static(path)) else {
            return Err(lacking("no emulator is registered, and no static qemu is installed".into()));
        };
        if !matches!(self.rung, Rung::Userns | Rung::UsernsSingle) {
            return Err(lacking(format!("{} is installed, but not registered", qemu.display())));
        }
        let mount = register_in_this_namespace(machine, &qemu).map_err(|error| {
            lacking(format!("the kernel does not let us register {}: {error}", qemu.display()))
        })?;
        own.insert(machine.architecture.to_owned(), mount);
        Ok(())
    }

    fn remedy(&self, machine: &Machine) -> String {
        let install = "as root: apt-get install qemu-user-static binfmt-support";
        match self.rung {
            Rung::Root => format!(
                "{install}; or only qemu-user-static, and build with --isolation=userns: forge then registers \
                 qemu-{}-static for itself",
                machine.qemu
            ),
            _ => install.to_owned(),
        }
    }
}

/// Whether a program did not start because it is for another machine.
pub(crate) fn is_foreign(failure: &Failure) -> bool {
    failure.phase == Phase::Exec && failure.errno == libc::ENOEXEC
}

/// Whether the processor itself runs them.
fn is_native(architecture: &str) -> bool {
    let host = Platform::host().architecture;
    architecture.is_empty()
        || architecture == host
        || matches!((host.as_str(), architecture), ("amd64", "386") | ("arm64", "arm"))
}

/// What the machine has registered for a kind of program.
struct Registered {
    interpreter: PathBuf,
    /// By flag F: opened when it was registered.
    is_held: bool,
}

fn registered(machine: &Machine) -> Option<Registered> {
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

/// Shows the emulator at its own path inside, where the kernel looks for it.
fn show(interpreter: &Path, spec: &mut SandboxSpec, handles: &mut Vec<OwnedFd>) -> Result<(), WorldError> {
    let opened = rustix::fs::open(interpreter, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let handle = opened.map_err(io::Error::from).and_then(|file| detach(file.as_fd(), false));
    handles.push(handle.map_err(|error| {
        let message = format!("cannot show the emulator {} to the step: {error}", interpreter.display());
        WorldError::new(TroubleKind::Sandbox, message)
    })?);
    let target = interpreter.display().to_string();
    spec.mounts.push(Mount { target, source: MountSource::Handle(handles.len() - 1), read_only: true });
    Ok(())
}

/// A binfmt_misc of this user namespace's own with one emulator in it, opened by the kernel there and then (F), with
/// the program's own name for it (P) and its credentials (C).
fn register_in_this_namespace(machine: &Machine, qemu: &Path) -> io::Result<OwnedFd> {
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

/// Whether a program needs no loader, which would be looked for inside the step's tree.
fn is_static(path: &Path) -> bool {
    const PT_INTERP: u32 = 3;
    let headers = || -> io::Result<bool> {
        let mut file = File::from(openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?);
        let mut header = [0; 64];
        file.read_exact(&mut header)?;
        if header[..5] != [0x7f, b'E', b'L', b'F', 2] {
            return Ok(false);
        }
        let number = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let mut offset = [0; 8];
        offset.copy_from_slice(&header[32..40]);
        file.seek(SeekFrom::Start(u64::from_le_bytes(offset)))?;
        let mut segment = vec![0; usize::from(number(54)).max(4)];
        for _ in 0..number(56) {
            file.read_exact(&mut segment)?;
            if u32::from_le_bytes([segment[0], segment[1], segment[2], segment[3]]) == PT_INTERP {
                return Ok(false);
            }
        }
        Ok(true)
    };
    headers().unwrap_or(false)
}

#[cfg(test)]
mod tests {
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
