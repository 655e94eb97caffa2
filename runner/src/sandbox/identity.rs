//! Who the step runs as, looked up in the finished tree: the files are the merged ones of the image, whatever layer
//! they lie in.

use std::io;

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::report::{At, Failure, Phase};
use super::spec::User;
use crate::user::{Ids, home_of, read_account_file, resolve_user};

/// Resolves `user`; `/` must already be the sandbox's root.
pub(super) fn of(user: &User) -> Result<Ids, Failure> {
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

fn read(path: &str) -> io::Result<Vec<u8>> {
    let root = openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    read_account_file(&root, path)
}

/// Gives the environment a HOME if it has none.
pub(super) fn add_home(env: &mut Vec<String>, ids: &Ids) {
    if !env.iter().any(|variable| variable.starts_with("HOME=")) {
        env.push(format!("HOME={}", ids.home.as_deref().unwrap_or("/")));
    }
}
