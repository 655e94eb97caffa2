//! What is probed is what is there, and what is missing is named with its remedy.

mod support;

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use support::{Builder, Lab, run_tool};

fn doctor() -> &'static str {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| support::example("doctor")).to_str().unwrap()
}

#[test]
fn root_has_what_sandboxes_need() {
    let said = run_tool(doctor(), &[]);
    for feature in ["root", "user namespaces", "namespaces", "overlay file system", "seccomp"] {
        assert!(said.contains(&format!("yes {feature}: ")), "{said}");
    }
}

#[test]
fn an_ordinary_user_gets_by_with_subordinate_ids() {
    let (uid, _) = support::test_user();
    let said = run_tool("runuser", &["-u", support::USER, "--", doctor()]);
    assert!(said.contains(&format!("no  root: uid {uid}")), "{said}");
    assert!(said.contains("yes subordinate ids: 65536 ids by "), "{said}");
    assert!(said.contains("yes namespaces: mnt, pid, ipc, uts, net"), "{said}");
}

/// The sysctl belongs to the user namespace that it is set in.
fn without_user_namespaces(command: &str) -> Command {
    let script = format!("echo 0 >/proc/sys/user/max_user_namespaces; {command}");
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "sh", "-c", &script]);
    unshare
}

#[test]
fn a_forbidden_namespace_is_explained_by_its_setting() {
    let output = without_user_namespaces(doctor()).output().unwrap();
    let said = support::outcome(&output).success();
    assert!(said.contains("no  user namespaces: user.max_user_namespaces is 0"), "{said}");
    assert!(said.contains("sysctl -w user.max_user_namespaces=15000"), "{said}");

    let lab = Lab::new(Builder::Root);
    let builder = support::builder_program().display();
    let directory = lab.path("");
    let output =
        without_user_namespaces(&format!("{builder} {} single", directory.display())).output().unwrap();
    let said = support::outcome(&output).failure(125);
    assert!(
        said.starts_with("create user namespace: user.max_user_namespaces is 0; as root: sysctl"),
        "{said}"
    );
}
