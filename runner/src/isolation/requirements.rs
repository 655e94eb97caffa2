//! What each rung needs of the kernel and of this process, tried where that is harmless and cheap.

use std::io;

use rustix::process::{WaitOptions, geteuid, waitpid};
use rustix::thread::{CapabilitySet, capabilities};

use super::{Refusal, Rung};
use crate::sys::{self, Cloned};
use crate::userns::{self, UsernsError};

/// Capabilities that decide about rungs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// Namespaces and mounts.
    SysAdmin,
    /// Another root directory.
    SysChroot,
    /// Files of other owners.
    Chown,
    /// Other user ids.
    Setuid,
    /// Other group ids.
    Setgid,
}

impl Capability {
    const fn bits(self) -> u64 {
        1 << match self {
            Capability::Chown => 0,
            Capability::Setgid => 6,
            Capability::Setuid => 7,
            Capability::SysChroot => 18,
            Capability::SysAdmin => 21,
        }
    }
}

/// Whether this process has a capability in effect.
#[must_use]
pub fn has_capability(capability: Capability) -> bool {
    let wanted = CapabilitySet::from_bits_retain(capability.bits());
    capabilities(None).is_ok_and(|sets| sets.effective.contains(wanted))
}

const NAMESPACES: libc::c_int =
    libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;

pub(super) fn of_root() -> Result<(), Refusal> {
    let refuse = |reason: String, remedy: &str| Err(Refusal::new(Rung::Root, reason, remedy));
    let uid = geteuid();
    if !uid.is_root() {
        return refuse(format!("uid {} is not root", uid.as_raw()), "sudo forge");
    }
    if !has_capability(Capability::SysAdmin) {
        return refuse("root lacks CAP_SYS_ADMIN".into(), "docker run --privileged, or --cap-add=SYS_ADMIN");
    }
    // A capability that nothing filters is enough; a try costs more than the rest of a cached build.
    if !is_filtered() && !is_confined() {
        return Ok(());
    }
    if let Err(error) = in_a_child(|| sys::unshare(NAMESPACES)) {
        return refuse(
            format!("create namespaces: {error} (a seccomp profile forbids it)"),
            "docker run --security-opt seccomp=unconfined",
        );
    }
    match in_a_child(crate::sandbox::try_mounts) {
        Ok(()) => Ok(()),
        Err(error) => refuse(
            format!("mount a file system: {error} (a seccomp or AppArmor profile forbids it)"),
            "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined",
        ),
    }
}

/// Both steps are tried: AppArmor lets the first pass and refuses the second.
pub(super) fn of_userns(rung: Rung) -> Result<(), Refusal> {
    let tried =
        in_a_child(|| sys::unshare(libc::CLONE_NEWUSER).and_then(|()| sys::unshare(libc::CLONE_NEWNS)));
    match (tried, userns::forbidden()) {
        (Ok(()), _) if is_filtered() || is_confined() => mounts_in_userns(rung),
        (Ok(()), _) => Ok(()),
        (Err(_), Some(UsernsError::Forbidden { setting, value, remedy })) => {
            Err(Refusal::new(rung, format!("{setting} is {value}"), remedy))
        }
        (Err(error), _) => Err(Refusal::new(
            rung,
            format!("create user namespace: {error} (a seccomp profile, or a kernel without them)"),
            "in a container: docker run --security-opt seccomp=unconfined",
        )),
    }
}

/// A profile may let namespaces be made and forbid what they are for.
fn mounts_in_userns(rung: Rung) -> Result<(), Refusal> {
    let mount = || {
        userns::enter(&userns::Mapping::Single).map_err(|_| io::Error::from_raw_os_error(libc::EPERM))?;
        crate::sandbox::try_mounts()
    };
    in_a_child(mount).map_err(|error| {
        let reason =
            format!("mount a file system in a user namespace: {error} (a seccomp or AppArmor profile)");
        Refusal::new(
            rung,
            reason,
            "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined",
        )
    })
}

pub(super) fn of_chroot() -> Result<(), Refusal> {
    if has_capability(Capability::SysChroot) {
        return Ok(());
    }
    let (reason, remedy) = match geteuid().as_raw() {
        0 => ("root lacks CAP_SYS_CHROOT".to_owned(), "docker run --cap-add=SYS_CHROOT"),
        uid => {
            (format!("uid {uid} lacks CAP_SYS_CHROOT"), "run forge as root of the container (runAsUser: 0)")
        }
    };
    Err(Refusal::new(Rung::Chroot, reason, remedy))
}

/// Whether a seccomp filter is on this process.
pub(crate) fn is_filtered() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() != "0"))
}

/// Whether a policy of a security module, such as AppArmor's for containers, is on this process.
fn is_confined() -> bool {
    let label = std::fs::read_to_string("/proc/self/attr/current").unwrap_or_default();
    !matches!(label.trim_end_matches(['\0', '\n']), "" | "unconfined" | "kernel")
}

/// Tries something in a cloned process, so that this one stays where it is. The exit code carries the error number.
pub(crate) fn in_a_child(attempt: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    match sys::clone_process(0, None)? {
        Cloned::Child => {
            let number = attempt().map_or_else(|error| error.raw_os_error().unwrap_or(libc::EIO), |()| 0);
            crate::zygote::leave(number)
        }
        Cloned::Parent { pid, .. } => {
            let status = waitpid(Some(pid), WaitOptions::empty())?.map(|(_, status)| status);
            match status.and_then(|status| status.exit_status()) {
                Some(0) => Ok(()),
                Some(number) => Err(io::Error::from_raw_os_error(number)),
                None => Err(io::ErrorKind::Other.into()),
            }
        }
    }
}
