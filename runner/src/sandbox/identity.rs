//! Who the step runs as, looked up in the image's tree before anything is mounted over it: the files are the merged
//! ones, whatever layer they lie in, and a mount over `/etc` neither hides nor replaces them.

use std::io;
use std::os::fd::BorrowedFd;

use super::report::{At, Failure, Phase};
use super::spec::User;
use crate::user::{Ids, home_of, read_account_file, resolve_user};

/// Resolves `user` in the image's tree, open as `root`.
pub(super) fn of(user: &User, root: BorrowedFd<'_>) -> Result<Ids, Failure> {
    let read = |path: &str| -> io::Result<Vec<u8>> { read_account_file(root, path) };
    match user {
        User::Ids { uid, gid, groups } => {
            let home = read("etc/passwd").ok().and_then(|passwd| home_of(*uid, &passwd));
            Ok(Ids { uid: *uid, gid: *gid, groups: groups.clone(), home })
        }
        // Nobody was named, so nothing that an image may hold in place of these files keeps root from being root.
        User::Named(name) if name.is_empty() => {
            let home = read("etc/passwd").ok().and_then(|passwd| home_of(0, &passwd));
            Ok(Ids { uid: 0, gid: 0, groups: vec![0], home })
        }
        User::Named(name) => {
            let passwd = read("etc/passwd").at(Phase::User, "/etc/passwd")?;
            let group = read("etc/group").at(Phase::User, "/etc/group")?;
            resolve_user(name, &passwd, &group).map_err(|error| Failure {
                phase: Phase::User,
                object: error.to_string(),
                errno: 0,
            })
        }
    }
}

/// Gives the environment a HOME if it has none.
pub(super) fn add_home(env: &mut Vec<String>, ids: &Ids) {
    if !env.iter().any(|variable| variable.starts_with("HOME=")) {
        env.push(format!("HOME={}", ids.home.as_deref().unwrap_or("/")));
    }
}
