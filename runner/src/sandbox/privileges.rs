//! What the step's process is allowed: ids, capabilities, resource limits. The order is the kernel's, and each
//! function says what must have come before it.

use rustix::fs::Gid;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit as Bounds, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_capabilities_secure_bits, set_thread_groups, set_thread_res_gid,
};

use super::capabilities::Capabilities;
use super::report::{At, Failure, Phase};
use super::spec::{Rlimit, Security};
use crate::guard::Guard;
use crate::user::Ids;

/// More capabilities than any kernel has.
const CAPABILITY_NUMBERS: u32 = 63;

/// The limits every step starts with: soft and hard; the rest is inherited.
const DEFAULT_RLIMITS: [(&str, Option<u64>, Option<u64>); 4] = [
    ("nofile", Some(1024), Some(524_288)),
    ("core", Some(0), Some(0)),
    ("nproc", None, None),
    ("stack", Some(8 << 20), None),
];

/// Takes every other capability out of the bounding set. Needs CAP_SETPCAP, so before the rest is dropped; a poor
/// container may have taken that away, and with it most of what the set could bound.
pub(super) fn limit_bounding_set(keep: Capabilities, may_be_forbidden: bool) -> Result<(), Failure> {
    let keep = if Guard::Capabilities.holds() { keep } else { Capabilities::ALL };
    for index in (0..CAPABILITY_NUMBERS).filter(|index| !keep.contains(*index)) {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << index)) {
            Ok(()) => {}
            // Numbers start at 0 without gaps: the first unknown one ends the list.
            Err(Errno::INVAL) => break,
            Err(Errno::PERM) if may_be_forbidden => break,
            Err(error) => {
                return Err(Failure::new(Phase::Privileges, "capability bounding set", &error.into()));
            }
        }
    }
    Ok(())
}

/// Becomes `user` with exactly its groups. Needs CAP_SETUID and CAP_SETGID.
pub(super) fn become_user(user: &Ids, security: &Security) -> Result<(), Failure> {
    set_groups(user)?;
    let gid = Gid::from_raw(user.gid);
    set_thread_res_gid(gid, gid, gid).at(Phase::Privileges, format!("group id {}", user.gid))?;
    if security.ambient {
        set_capabilities_secure_bits(CapabilitiesSecureBits::KEEP_CAPS)
            .at(Phase::Privileges, "keep capabilities")?;
    }
    crate::sys::set_user_ids(user.uid).at(Phase::Privileges, format!("user id {}", user.uid))
}

/// In a user namespace with one id `setgroups` is forbidden; there no supplementary group exists to be dropped, and
/// none may be asked for.
fn set_groups(user: &Ids) -> Result<(), Failure> {
    if !Guard::ExactGroups.holds() {
        return Ok(());
    }
    let groups: Vec<Gid> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    match set_thread_groups(&groups) {
        Err(Errno::PERM) if groups.is_empty() || user.groups == [user.gid] => Ok(()),
        other => other.at(Phase::Privileges, "supplementary groups"),
    }
}

/// The last step: permitted and effective sets become `security`'s (the kernel has emptied them already for a user
/// other than root), inheritable and ambient ones empty unless asked for.
pub(super) fn drop_capabilities(user: &Ids, security: &Security) -> Result<(), Failure> {
    let had = capabilities(None).at(Phase::Privileges, "capabilities")?;
    let wanted = if Guard::Capabilities.holds() { security.capabilities } else { Capabilities::ALL };
    let wanted = CapabilitySet::from_bits_retain(wanted.bits());
    let permitted =
        if user.uid == 0 || security.ambient { had.permitted & wanted } else { CapabilitySet::empty() };
    let inheritable =
        if security.ambient || !Guard::NotInheritable.holds() { permitted } else { CapabilitySet::empty() };
    let sets = CapabilitySets { effective: permitted, permitted, inheritable };
    set_capabilities(None, sets).at(Phase::Privileges, "capabilities")?;
    if security.ambient {
        for index in (0..CAPABILITY_NUMBERS).filter(|index| permitted.bits() & (1 << index) != 0) {
            let one = CapabilitySet::from_bits_retain(1 << index);
            configure_capability_in_ambient_set(one, true).at(Phase::Privileges, "ambient capabilities")?;
        }
        Ok(())
    } else {
        clear_ambient_capability_set().at(Phase::Privileges, "ambient capabilities")
    }
}

/// Leaves this process (PID 1) with `keep` only.
pub(super) fn keep_only(keep: Capabilities) -> Result<(), Failure> {
    let had = capabilities(None).at(Phase::Privileges, "capabilities of init")?;
    let kept = had.permitted & CapabilitySet::from_bits_retain(keep.bits());
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).at(Phase::Privileges, "capabilities of init")
}

/// Sets the default limits and then `asked` ones. A hard limit that may not be raised stays as it is.
pub(super) fn set_rlimits(asked: &[Rlimit]) -> Result<(), Failure> {
    for (name, soft, hard) in DEFAULT_RLIMITS {
        let hard = if name == "stack" { getrlimit(Resource::Stack).maximum } else { hard };
        set_rlimit(name, soft, hard)?;
    }
    for Rlimit { name, soft, hard } in asked {
        set_rlimit(name, *soft, *hard)?;
    }
    Ok(())
}

fn set_rlimit(name: &str, soft: Option<u64>, hard: Option<u64>) -> Result<(), Failure> {
    let Some(resource) = resource(name) else {
        return Err(Failure::new(Phase::Privileges, format!("limit {name}"), &Errno::INVAL.into()));
    };
    match setrlimit(resource, Bounds { current: soft, maximum: hard }) {
        Err(Errno::PERM) => {
            let ceiling = getrlimit(resource).maximum;
            let hard = lower(hard, ceiling);
            setrlimit(resource, Bounds { current: lower(soft, hard), maximum: hard })
                .at(Phase::Privileges, format!("limit {name}"))
        }
        other => other.at(Phase::Privileges, format!("limit {name}")),
    }
}

/// The smaller of two limits, `None` being none.
fn lower(left: Option<u64>, right: Option<u64>) -> Option<u64> {
    match (left, right) {
        (Some(left), Some(right)) => Some(left.min(right)),
        (one, other) => one.or(other),
    }
}

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "as" => Resource::As,
        "core" => Resource::Core,
        "cpu" => Resource::Cpu,
        "data" => Resource::Data,
        "fsize" => Resource::Fsize,
        "locks" => Resource::Locks,
        "memlock" => Resource::Memlock,
        "msgqueue" => Resource::Msgqueue,
        "nice" => Resource::Nice,
        "nofile" => Resource::Nofile,
        "nproc" => Resource::Nproc,
        "rss" => Resource::Rss,
        "rtprio" => Resource::Rtprio,
        "rttime" => Resource::Rttime,
        "sigpending" => Resource::Sigpending,
        "stack" => Resource::Stack,
        _ => return None,
    })
}

/// What this process may raise a hard limit to, if it is bounded: by its own one, without CAP_SYS_RESOURCE in the
/// first user namespace.
pub(crate) fn ceiling(name: &str) -> Option<u64> {
    let of_this_process = resource(name).and_then(|resource| getrlimit(resource).maximum)?;
    let may = crate::userns::is_first()
        && capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_RESOURCE));
    if may { None } else { Some(of_this_process) }
}

/// The names of limits that [`set_rlimits`] knows.
#[must_use]
pub fn is_rlimit_name(name: &str) -> bool {
    resource(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::lower;

    #[test]
    fn no_limit_is_above_every_limit() {
        assert_eq!(lower(None, Some(5)), Some(5));
        assert_eq!(lower(Some(7), Some(5)), Some(5));
        assert_eq!(lower(Some(7), None), Some(7));
        assert_eq!(lower(None, None), None);
    }
}
