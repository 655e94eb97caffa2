//! What would give a user the cgroup that is missing, as a command.

use std::io;
use std::path::Path;

use super::hierarchy::{Hierarchy, Version};
use crate::userns;

/// What to do about `error`, met while `family` was to be made in a hierarchy.
pub(super) fn of(error: &io::Error, hierarchy: &Hierarchy, family: &Path) -> String {
    let is_machine_root = userns::is_first() && rustix::process::geteuid().is_root();
    match (error.kind(), hierarchy.version) {
        (io::ErrorKind::ReadOnlyFilesystem, _) => "docker run --privileged".into(),
        (io::ErrorKind::PermissionDenied, Version::V1) if !is_machine_root => {
            format!("as root: install -d -o {} {}", userns::outer_uid(), family.display())
        }
        (
            io::ErrorKind::PermissionDenied | io::ErrorKind::ResourceBusy | io::ErrorKind::NotFound,
            Version::V2,
        ) if !is_machine_root => "systemd-run --user --scope -p Delegate=yes forge build …".into(),
        // The root of a container's own cgroup namespace: nothing is above it, and its first process is in it.
        (io::ErrorKind::ResourceBusy, Version::V2) if hierarchy.own == hierarchy.root => {
            let root = hierarchy.root.display();
            format!(
                "mkdir -p {root}/init; for p in $(cat {root}/cgroup.procs); do echo $p >{root}/init/cgroup.procs; done"
            )
        }
        (io::ErrorKind::ResourceBusy, Version::V2) => {
            "systemd-run --scope -p Delegate=yes forge build …".into()
        }
        _ => String::new(),
    }
}
