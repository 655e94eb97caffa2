//! Programs of another kind of machine: the kernel hands them to an emulator (binfmt_misc), which must be registered.
//!
//! What the machine has registered is used as it is; an emulator that the kernel would look for inside the step's tree
//! is shown there. Where nothing is registered and forge is in a user namespace, it mounts a binfmt_misc of that
//! namespace's own (Linux 6.7) and registers a static qemu from the search path: nobody else notices, and it goes with
//! forge. In the first namespace that would change the whole machine, which is not a build's to do.

mod machines;
mod program;
mod registry;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use forge_solver::{TroubleKind, WorldError};
use forge_store::Platform;
use rustix::fs::{Mode, OFlags};

use crate::isolation::Rung;
use crate::sandbox::spec::{Mount, MountSource, SandboxSpec};
use crate::userns::find_program;
use crate::{Failure, Phase, detach};
use machines::{MACHINES, Machine, is_native};
use program::is_static;
use registry::{Registered, register_in_this_namespace, registered};

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
