//! Entering a user namespace: how an ordinary user becomes root over its own files and namespaces.
//!
//! Done once, at the program's start, while it has a single thread. Afterwards the process is uid 0 in a user and a
//! mount namespace of its own, and everything else (overlay, sandboxes, networks) is the same code as for root.
//! The rungs below root: with subordinate ids (images with many owners), with one id (everything belongs to us).

mod subids;

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::Gid;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{Pid, WaitOptions, getegid, geteuid, getpid, waitpid};
use rustix::thread::set_thread_res_gid;

pub use subids::{IdRange, SubidError, Subids};

use crate::sys::{self, Cloned};

/// Which ids exist in the new namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mapping {
    /// Root is the user; 1 and up are the user's subordinate ids.
    Subids(Subids),
    /// Every id that exists here, as itself: for root that may not make other namespaces. First id and count, of
    /// users and of groups.
    Own((Vec<IdRange>, Vec<IdRange>)),
    /// Root is the user, and there is nobody else.
    Single,
}

/// Why no user namespace could be entered.
#[derive(Debug, thiserror::Error)]
pub enum UsernsError {
    /// A setting forbids it.
    #[error("create user namespace: {setting} is {value}; {remedy}")]
    Forbidden {
        /// The sysctl.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The kernel refused, with no setting to blame: too many threads, a container's seccomp filter, a kernel
    /// without them.
    #[error(
        "create user namespace: {0} (a container's seccomp profile, or a kernel without user namespaces)"
    )]
    Refused(io::Error),
    /// The ids could not be mapped.
    #[error("map user ids with {tool}: {message}")]
    Map {
        /// The program or file.
        tool: String,
        /// What it said.
        message: String,
    },
    /// Inside the namespace something was refused.
    #[error("{step} in user namespace: {error}")]
    Inside {
        /// What.
        step: &'static str,
        /// The kernel's error.
        error: io::Error,
    },
}

impl UsernsError {
    /// What to do, as a command where there is one.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            UsernsError::Forbidden { remedy, .. } => (*remedy).to_owned(),
            UsernsError::Refused(_) => {
                "in a container: docker run --security-opt seccomp=unconfined".to_owned()
            }
            UsernsError::Map { tool, .. } if tool.starts_with("/proc") => {
                "docker run --cap-add=SETUID --cap-add=SETGID --cap-add=SETFCAP".to_owned()
            }
            UsernsError::Map { tool, .. } => {
                format!("as root: chmod u+s {tool}, and no `nosuid` mount over it")
            }
            UsernsError::Inside { .. } => {
                "a kernel of version 5.12 or newer, without a policy against it".to_owned()
            }
        }
    }
}

/// Settings that forbid user namespaces: path, the value that forbids, and what to do.
const SETTINGS: [(&str, &str, &str, &str); 3] = [
    (
        "kernel.unprivileged_userns_clone",
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "as root: sysctl -w kernel.unprivileged_userns_clone=1",
    ),
    (
        "user.max_user_namespaces",
        "/proc/sys/user/max_user_namespaces",
        "0",
        "as root: sysctl -w user.max_user_namespaces=15000",
    ),
    (
        "kernel.apparmor_restrict_unprivileged_userns",
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give forge an AppArmor profile \
         with the userns rule",
    ),
];

/// Enters a new user and mount namespace with `mapping`. The process must have one thread; mounts made from here on
/// are invisible outside, while new ones of the host still appear.
///
/// # Errors
/// [`UsernsError`]. After [`UsernsError::Map`] and [`UsernsError::Inside`] the process is in a half-made namespace
/// and good for nothing but saying so.
pub fn enter(mapping: &Mapping) -> Result<(), UsernsError> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    match mapping {
        Mapping::Single => {
            unshare_user()?;
            map_one(uid, gid)?;
        }
        Mapping::Subids(subids) => map_by_helper(&subids.newuidmap.display().to_string(), |target| {
            map(&subids.newuidmap, target, uid, &subids.uids)
                .and_then(|()| map(&subids.newgidmap, target, gid, &subids.gids))
        })?,
        Mapping::Own((uids, gids)) => map_by_helper("/proc/PID/uid_map", |target| {
            write_map(target, "uid_map", uids).and_then(|()| write_map(target, "gid_map", gids))
        })?,
    }
    become_root()?;
    sys::unshare(libc::CLONE_NEWNS).map_err(|error| blame(error, "create mount namespace"))?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM)
        .map_err(|error| UsernsError::Inside { step: "make mounts private", error: error.into() })
}

fn unshare_user() -> Result<(), UsernsError> {
    sys::unshare(libc::CLONE_NEWUSER).map_err(|error| forbidden().unwrap_or(UsernsError::Refused(error)))
}

/// AppArmor lets the namespace be made and takes its power away, which shows only here.
fn blame(error: io::Error, step: &'static str) -> UsernsError {
    forbidden().unwrap_or(UsernsError::Inside { step, error })
}

/// The first setting that stands in the way.
pub(crate) fn forbidden() -> Option<UsernsError> {
    SETTINGS.iter().find_map(|(setting, path, bad, remedy)| {
        let value = fs::read_to_string(path).ok()?.trim().to_owned();
        (value == *bad).then_some(UsernsError::Forbidden { setting, value, remedy })
    })
}

fn map_one(uid: u32, gid: u32) -> Result<(), UsernsError> {
    for (file, text) in [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {uid} 1")),
        ("/proc/self/gid_map", format!("0 {gid} 1")),
    ] {
        fs::write(file, text)
            .map_err(|error| UsernsError::Map { tool: file.into(), message: error.to_string() })?;
    }
    Ok(())
}

/// Only a process outside may map more than one id: a child that is cloned first and, when we are inside, maps ours.
fn map_by_helper(tool: &str, map: impl FnOnce(Pid) -> Result<(), String>) -> Result<(), UsernsError> {
    let failed = |message: String| UsernsError::Map { tool: tool.to_owned(), message };
    let (mut ours, mut theirs) = UnixStream::pair().map_err(|error| failed(error.to_string()))?;
    let target = getpid();
    let helper = match sys::clone_process(0, None).map_err(|error| failed(error.to_string()))? {
        Cloned::Parent { pid, .. } => pid,
        Cloned::Child => {
            // Ours must not hold the pipe open, or a parent that dies would leave us waiting.
            drop(ours);
            let _ = answer(&mut theirs, || map(target));
            crate::zygote::leave(0)
        }
    };
    drop(theirs);
    let entered = unshare_user();
    if entered.is_ok() {
        let _ = ours.write_all(b"!");
    }
    let _ = ours.shutdown(std::net::Shutdown::Write);
    let mut message = String::new();
    let _ = ours.read_to_string(&mut message);
    let _ = waitpid(Some(helper), WaitOptions::empty());
    entered?;
    if message == DONE { Ok(()) } else { Err(failed(message)) }
}

const DONE: &str = "done";

/// The helper's side: wait until told, map, say how it went.
fn answer(pipe: &mut UnixStream, map: impl FnOnce() -> Result<(), String>) -> io::Result<()> {
    let mut told = [0_u8; 1];
    if pipe.read(&mut told)? == 0 {
        return Ok(());
    }
    pipe.write_all(map().map_or_else(|message| message, |()| DONE.to_owned()).as_bytes())
}

/// Every id of this namespace as itself.
fn write_map(target: Pid, file: &str, ranges: &[IdRange]) -> Result<(), String> {
    let lines: Vec<String> =
        ranges.iter().map(|range| format!("{0} {0} {1}", range.first, range.count)).collect();
    fs::write(format!("/proc/{}/{file}", target.as_raw_pid()), lines.join("\n"))
        .map_err(|error| error.to_string())
}

/// The ids that exist in this user namespace, of users and of groups.
pub(crate) fn own_ranges() -> Result<(Vec<IdRange>, Vec<IdRange>), String> {
    let read = |file: &str| -> Result<Vec<IdRange>, String> {
        let text = fs::read_to_string(file).map_err(|error| format!("read {file}: {error}"))?;
        let ranges = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let (first, _, count) = (words.next()?, words.next()?, words.next()?);
            Some(IdRange { first: first.parse().ok()?, count: count.parse().ok()? })
        });
        Ok(ranges.collect())
    };
    let (uids, gids) = (read("/proc/self/uid_map")?, read("/proc/self/gid_map")?);
    match uids.iter().map(|range| u64::from(range.count)).sum::<u64>() {
        0 | 1 => Err("only one user id exists here".to_owned()),
        _ => Ok((uids, gids)),
    }
}

/// `newuidmap PID 0 UID 1 1 FIRST COUNT …`
fn map(tool: &Path, target: Pid, own: u32, ranges: &[IdRange]) -> Result<(), String> {
    let mut command = Command::new(tool);
    command.arg(target.as_raw_pid().to_string()).args(["0", &own.to_string(), "1"]);
    let mut inside: u64 = 1;
    for range in ranges {
        command.args([inside.to_string(), range.first.to_string(), range.count.to_string()]);
        inside += u64::from(range.count);
    }
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

fn become_root() -> Result<(), UsernsError> {
    let failed = |error| UsernsError::Inside { step: "become root", error };
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).map_err(|error| failed(error.into()))?;
    sys::set_user_ids(0).map_err(failed)
}

/// Whether this is the first user namespace: there, every id is mapped to itself.
#[must_use]
pub fn is_first() -> bool {
    std::fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.split_whitespace().eq(["0", "0", "4294967295"]))
}

/// The user id that this process has outside its own user namespace.
#[must_use]
pub fn outer_uid() -> u32 {
    let own = rustix::process::getuid().as_raw();
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let ranges = map.lines().filter_map(|line| {
        let numbers: Vec<u32> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        <[u32; 3]>::try_from(numbers).ok()
    });
    let outside = |[inside, outside, count]: [u32; 3]| {
        let at = own.checked_sub(inside).filter(|at| *at < count)?;
        outside.checked_add(at)
    };
    ranges.filter_map(outside).next().unwrap_or(own)
}

/// Finds a program in the directories of `search_path` (the form of `PATH`).
pub(crate) fn find_program(name: &str, search_path: &str) -> Option<PathBuf> {
    search_path
        .split(':')
        .filter(|directory| directory.starts_with('/'))
        .map(|directory| Path::new(directory).join(name))
        .find(|candidate| rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK).is_ok())
}
