//! Who forge is: root of the machine, or root of a user namespace of its own.

use forge_runner::userns::{self, Mapping, Subids};

use crate::args::Command;
use crate::environment;
use crate::failure::{Failure, Kind};
use crate::progress::say;

/// Sees to it that the command has the rights it needs; true for root of the machine.
///
/// Must be called before the program has a second thread: entering a user namespace is for single ones.
pub fn settle(command: &Command) -> Result<bool, Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok(owns_all_ids());
    }
    if matches!(command, Command::Build(_) | Command::Run(_)) {
        enter()?;
    }
    Ok(false)
}

/// True in the first user namespace: there, every id is mapped to itself.
fn owns_all_ids() -> bool {
    std::fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.split_whitespace().eq(["0", "0", "4294967295"]))
}

fn enter() -> Result<(), Failure> {
    let path = environment::search_path().to_string_lossy().into_owned();
    let mapping = match Subids::of_this_user(&path) {
        Ok(subids) => Mapping::Subids(subids),
        Err(why) => {
            say(&format!("warning: only one user id is available here: {why}"));
            Mapping::Single
        }
    };
    userns::enter(&mapping).map_err(|error| {
        Failure::new(
            Kind::Sandbox,
            format!("cannot build without root: {error}"),
            Some("or run forge as root".into()),
        )
    })
}
