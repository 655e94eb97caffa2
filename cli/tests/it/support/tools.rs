//! Programs of others. One that is missing fails the test and says which package has it.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Debian's package of a program, where it has another name.
fn package(program: &str) -> &str {
    match program {
        "newuidmap" => "uidmap",
        "htpasswd" => "apache2-utils",
        "nft" => "nftables",
        "busybox" => "busybox-static",
        "ip" => "iproute2",
        "pasta" => "passt",
        "setpriv" | "unshare" | "nsenter" => "util-linux",
        "mount" | "umount" => "mount",
        other => other,
    }
}

/// Runs a program to its end, without input.
pub fn try_tool(program: &str, args: &[impl AsRef<OsStr>]) -> Output {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    command.output().unwrap_or_else(|e| panic!("cannot run {program}: {e}; install {}", package(program)))
}

/// Runs a program that must succeed; gives its standard output.
#[track_caller]
pub fn tool(program: &str, args: &[impl AsRef<OsStr>]) -> String {
    let output = try_tool(program, args);
    let words: Vec<_> = args.iter().map(AsRef::as_ref).collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {words:?}: {}: {errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Reads JSON that must be some.
#[track_caller]
pub fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("not JSON ({e}): {text}"))
}

/// Runs a program that must succeed, with variables besides; gives its standard output.
#[track_caller]
pub fn tool_with(env: &[(&str, &str)], program: &str, args: &[&str]) -> String {
    let words: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let words: Vec<&str> =
        words.iter().map(String::as_str).chain([program]).chain(args.iter().copied()).collect();
    tool("env", &words)
}
