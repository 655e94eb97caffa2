//! The ladder: how far a step can be set apart from this machine, and how a build gets as high as it can.
//!
//! ```text
//! root            namespaces of the machine's root: everything
//! userns          a user namespace with many ids: everything but the machine's own devices and limits
//! userns-single   a user namespace with one id: every file is root's inside, owners are kept as records
//! chroot          no new namespace and no mount: another root directory, and what can be dropped is dropped
//! none            no steps at all: files are copied, RUN is refused
//! ```
//!
//! [`climb`] tries the rungs from the top and stays on the first that holds. It is called once, while the program has
//! a single thread, because entering a user namespace is for single ones. Everything that a rung lacks is told in its
//! [`Rung::lacks`], and what kept the build from a higher one in [`Climbed::refused`]: nothing is silently less.

mod requirements;

use std::fmt;
use std::io;
use std::str::FromStr;

use crate::sys::{self, Cloned};
use crate::userns::{self, Mapping, Subids};

pub use requirements::{Capability, has_capability};
pub(crate) use requirements::{in_a_child, is_filtered};

/// One rung, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// Namespaces made by root.
    Root,
    /// A user namespace in which many ids exist.
    Userns,
    /// A user namespace in which one id exists.
    UsernsSingle,
    /// `chroot(2)` and nothing else.
    Chroot,
    /// No steps.
    None,
}

impl Rung {
    /// All, the best first.
    pub const ALL: [Rung; 5] = [Rung::Root, Rung::Userns, Rung::UsernsSingle, Rung::Chroot, Rung::None];

    /// Its name, as `--isolation` takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Rung::Root => "root",
            Rung::Userns => "userns",
            Rung::UsernsSingle => "userns-single",
            Rung::Chroot => "chroot",
            Rung::None => "none",
        }
    }

    /// Whether steps get namespaces and mounts of their own.
    #[must_use]
    pub const fn has_namespaces(self) -> bool {
        matches!(self, Rung::Root | Rung::Userns | Rung::UsernsSingle)
    }

    /// What steps do without here, for people; empty if nothing.
    #[must_use]
    pub const fn lacks(self) -> &'static str {
        match self {
            Rung::Root | Rung::Userns => "",
            Rung::UsernsSingle => "only one user id exists: chown to others and USER fail in steps",
            Rung::Chroot => {
                "no own network, processes, host name, /proc, /sys or limits; mounts of RUN are directories that lie \
                 on disk while the step runs; no CAP_SYS_CHROOT, CAP_MKNOD and CAP_NET_RAW"
            }
            Rung::None => "no RUN",
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Rung {
    type Err = ();

    fn from_str(text: &str) -> Result<Rung, ()> {
        Rung::ALL.into_iter().find(|rung| rung.name() == text).ok_or(())
    }
}

/// Why a rung does not hold, and the command that would mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rung}: {reason}")]
pub struct Refusal {
    /// Which.
    pub rung: Rung,
    /// What stands in the way.
    pub reason: String,
    /// What to do, as a command where there is one.
    pub remedy: String,
}

impl Refusal {
    fn new(rung: Rung, reason: impl Into<String>, remedy: impl Into<String>) -> Refusal {
        Refusal { rung, reason: reason.into(), remedy: remedy.into() }
    }
}

/// Where a build stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Climbed {
    /// The rung.
    pub rung: Rung,
    /// The higher ones, each with what kept us from it; empty if this one was asked for.
    pub refused: Vec<Refusal>,
}

impl Climbed {
    /// What the output of a build says about a rung that gives less: once, and only if a step runs. `None` if
    /// nothing is missing.
    #[must_use]
    pub fn remark(&self) -> Option<String> {
        let lacks = self.rung.lacks();
        if lacks.is_empty() {
            return None;
        }
        let mut text = format!("warning: isolation is `{}`: {lacks}", self.rung);
        if let Some(refusal) = self.refused.last() {
            text.push_str(&format!(" ({refusal}; to have more: {})", refusal.remedy));
        }
        Some(text)
    }

    /// Why there are no steps here at all, and how there would be.
    #[must_use]
    pub fn refusal_of_steps(&self) -> (String, String) {
        let reasons: Vec<String> = self.refused.iter().map(Refusal::to_string).collect();
        let reason = match reasons.as_slice() {
            [] => "--isolation=none was asked for".to_owned(),
            reasons => reasons.join("; "),
        };
        let remedy = match self.refused.iter().rev().find(|refusal| !refusal.remedy.is_empty()) {
            Some(refusal) => format!("{}; `forge doctor` shows all ways", refusal.remedy),
            None => "leave --isolation out, or give `auto`".to_owned(),
        };
        (reason, remedy)
    }
}

/// Climbs to `wanted`, or to the first rung that holds. `search_path` is where `newuidmap` is looked for, in the form
/// of `PATH`. The process must have one thread; afterwards it may be root of a namespace of its own.
///
/// # Errors
/// [`Refusal`] of the rung that was asked for.
pub fn climb(wanted: Option<Rung>, search_path: &str) -> Result<Climbed, Refusal> {
    if let Some(rung) = wanted {
        try_rung(rung, search_path)?;
        return Ok(Climbed { rung, refused: Vec::new() });
    }
    let mut refused = Vec::new();
    for rung in Rung::ALL {
        match try_rung(rung, search_path) {
            Ok(()) => return Ok(Climbed { rung, refused }),
            Err(refusal) => refused.push(refusal),
        }
    }
    Ok(Climbed { rung: Rung::None, refused })
}

/// What keeps this process from a rung, found out without moving: for `forge doctor`.
#[must_use]
pub fn inspect(rung: Rung, search_path: &str) -> Option<Refusal> {
    match rung {
        Rung::Root => requirements::of_root().err(),
        Rung::Userns => {
            let mapped = requirements::of_userns(rung).and_then(|()| mapping(search_path));
            mapped.and_then(|mapping| rehearsed(rung, &mapping)).err()
        }
        Rung::UsernsSingle => {
            requirements::of_userns(rung).and_then(|()| rehearsed(rung, &Mapping::Single)).err()
        }
        Rung::Chroot => requirements::of_chroot().err(),
        Rung::None => None,
    }
}

fn try_rung(rung: Rung, search_path: &str) -> Result<(), Refusal> {
    match rung {
        Rung::Root => requirements::of_root(),
        Rung::Userns => {
            requirements::of_userns(rung)?;
            enter(rung, &mapping(search_path)?)
        }
        Rung::UsernsSingle => {
            requirements::of_userns(rung)?;
            enter(rung, &Mapping::Single)
        }
        Rung::Chroot => requirements::of_chroot(),
        Rung::None => Ok(()),
    }
}

/// The ids that a new user namespace can have: subordinate ones for a user, all of its own for root.
fn mapping(search_path: &str) -> Result<Mapping, Refusal> {
    if rustix::process::geteuid().is_root() {
        return userns::own_ranges().map(Mapping::Own).map_err(|reason| {
            Refusal::new(
                Rung::Userns,
                reason,
                "docker run --cap-add=SETUID --cap-add=SETGID, or --privileged",
            )
        });
    }
    Subids::of_this_user(search_path)
        .map(Mapping::Subids)
        .map_err(|error| Refusal::new(Rung::Userns, error.to_string(), error.remedy()))
}

/// Enters a namespace in which nothing may go wrong any more, so the whole way is tried in a clone first.
fn enter(rung: Rung, mapping: &Mapping) -> Result<(), Refusal> {
    // Only these can fail for reasons that the requirements do not know: a helper without its set-uid bit.
    if matches!(mapping, Mapping::Subids(_) | Mapping::Own(_)) {
        rehearsed(rung, mapping)?;
    }
    userns::enter(mapping).map_err(|error| Refusal::new(rung, error.to_string(), error.remedy()))
}

fn rehearsed(rung: Rung, mapping: &Mapping) -> Result<(), Refusal> {
    rehearse(mapping).map_err(|(reason, remedy)| Refusal::new(rung, reason, remedy))
}

/// Enters in a clone of this process and says how that went.
fn rehearse(mapping: &Mapping) -> Result<(), (String, String)> {
    let internal = |error: io::Error| (format!("try a user namespace: {error}"), String::new());
    let (mut from, mut to) = io::pipe().map_err(internal)?;
    match sys::clone_process(0, None).map_err(internal)? {
        Cloned::Child => {
            drop(from);
            if let Err(error) = userns::enter(mapping) {
                let text = format!("{error}\0{}", error.remedy());
                let _ = io::Write::write_all(&mut to, text.as_bytes());
            }
            crate::zygote::leave(0)
        }
        Cloned::Parent { pid, .. } => {
            drop(to);
            let mut said = String::new();
            io::Read::read_to_string(&mut from, &mut said).map_err(internal)?;
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
            match said.split_once('\0') {
                None => Ok(()),
                Some((reason, remedy)) => Err((reason.to_owned(), remedy.to_owned())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rungs_have_names_that_read_back() {
        for rung in Rung::ALL {
            assert_eq!(rung.name().parse(), Ok(rung));
        }
        assert!(Rung::Root < Rung::None && "sideways".parse::<Rung>().is_err());
    }

    #[test]
    fn a_rung_that_gives_less_says_why_and_what_would_give_more() {
        let refused = vec![Refusal::new(Rung::UsernsSingle, "forbidden", "allow it")];
        let climbed = Climbed { rung: Rung::Chroot, refused };
        let remark = climbed.remark().unwrap();
        assert!(
            remark.contains("no own network")
                && remark.ends_with("(userns-single: forbidden; to have more: allow it)")
        );
        assert_eq!(Climbed { rung: Rung::Root, refused: Vec::new() }.remark(), None);
    }
}
