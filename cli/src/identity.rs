//! Who forge is: root of the machine, root of a user namespace of its own, or nobody in particular.

use forge_runner::isolation::{self, Capability, Climbed, Rung, has_capability};
use forge_runner::userns;
use forge_store::tree::OverlayXattrs;

use crate::args::Command;
use crate::environment;
use crate::failure::{Failure, Kind};
use crate::isolation_flags::IsolationMode;

/// What the command may do on this machine.
pub struct Identity {
    /// Whether it is root of the machine.
    pub is_machine_root: bool,
    /// How layers may be marked in trees, the preferred way first.
    pub marks: &'static [OverlayXattrs],
    /// How far steps are set apart.
    pub isolation: Climbed,
}

/// Sees to it that the command has the rights it needs.
///
/// Must be called before the program has a second thread: entering a user namespace is for single ones.
pub fn settle(command: &Command) -> Result<Identity, Failure> {
    let is_root = rustix::process::geteuid().is_root();
    let is_machine_root = is_root && userns::is_first();
    let wanted = match command {
        Command::Build(args) => args.isolation.isolation,
        Command::Run(args) => args.isolation.isolation,
        Command::Shell(args) => args.isolation.isolation,
        Command::Replay(args) => args.isolation.isolation,
        Command::Verify(args) => args.isolation.isolation,
        // Layers hold files of other ids: measuring and removing them takes the rights of whoever made them. Where
        // those are not to be had, what is in the way says so.
        Command::Du(_) | Command::Prune(_) | Command::Rmi(_) | Command::Store(_) if !is_machine_root => {
            IsolationMode::Auto
        }
        _ => {
            let isolation = Climbed { rung: Rung::None, refused: Vec::new() };
            // Nothing is unpacked by the others.
            let marks = if is_machine_root { OF_ROOT } else { OF_MANY };
            return Ok(Identity { is_machine_root, marks, isolation });
        }
    };
    let path = environment::search_path().to_string_lossy().into_owned();
    // Before a namespace is entered, in which every process has every capability.
    let is_full_root = is_machine_root && has_capability(Capability::SysAdmin);
    let isolation = isolation::climb(wanted.rung(), &path).map_err(|refusal| {
        let message = format!("isolation `{}` is not to be had here: {}", refusal.rung, refusal.reason);
        Failure::new(Kind::Sandbox, message, Some(refusal.remedy))
    })?;
    Ok(Identity { is_machine_root, marks: marks(is_full_root, isolation.rung), isolation })
}

const OF_ROOT: &[OverlayXattrs] = &[OverlayXattrs::Trusted, OverlayXattrs::User];
const OF_MANY: &[OverlayXattrs] = &[OverlayXattrs::User];
const OF_ONE: &[OverlayXattrs] = &[OverlayXattrs::Single];

fn marks(is_full_root: bool, rung: Rung) -> &'static [OverlayXattrs] {
    match rung {
        Rung::Userns => OF_MANY,
        Rung::UsernsSingle => OF_ONE,
        Rung::Root | Rung::Chroot | Rung::None if is_full_root => OF_ROOT,
        Rung::Root => OF_MANY,
        Rung::Chroot | Rung::None if has_capability(Capability::Chown) => OF_MANY,
        Rung::Chroot | Rung::None => OF_ONE,
    }
}
