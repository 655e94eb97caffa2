//! Programs that are not ours decide what is right. One that is missing fails the test that needs it.

#![allow(dead_code, reason = "every test file uses some of them")]

pub mod fixture;

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs a program that must succeed. `package` is what to install when it is not there.
#[track_caller]
pub fn run<S: AsRef<OsStr>>(package: &str, program: &str, args: impl IntoIterator<Item = S>) -> Output {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).env("LC_ALL", "C.UTF-8");
    let output = command.output().unwrap_or_else(|error| panic!("install {package} ({program}: {error})"));
    assert!(
        output.status.success(),
        "{program}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// GNU tar.
#[track_caller]
pub fn tar<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    run("tar", "tar", args)
}

/// Python, with a script and its arguments.
#[track_caller]
pub fn python(script: &str, args: &[&Path]) -> Output {
    let script = [OsStr::new("-c"), OsStr::new(script)];
    run("python3", "python3", script.into_iter().chain(args.iter().map(|arg| arg.as_os_str())))
}

/// Runs the named test of this test binary again as root of a new user namespace.
#[track_caller]
pub fn again_in_user_namespace(test: &str) {
    let binary = std::env::current_exe().unwrap();
    let args = [OsStr::new("-r"), binary.as_os_str(), OsStr::new("--exact"), OsStr::new(test)];
    let output = run("util-linux", "unshare", args);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("1 passed"), "{text}");
}

/// Whether this process has a user namespace of its own: root in it may make no device nodes.
pub fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"]
}

/// Lets this process open as many files as is usual, where the machine would let it open more.
pub fn limit_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let current = Some(limit.current.map_or(1024, |current| current.min(1024)));
    setrlimit(Resource::Nofile, rustix::process::Rlimit { current, ..limit }).unwrap();
}
