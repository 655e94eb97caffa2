//! Steps whose programs are for another kind of machine.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::{Builder, Lab, tool};

/// Stands for an emulator: it is native, and says what it was given to run.
const EMULATOR: &str = r#"
#include <stdio.h>
int main(int count, char **words) {
    printf("emulated:");
    for (int at = 1; at < count; at++) printf(" %s", words[at]);
    printf("\n");
    return 0;
}
"#;

/// The header of a program for s390x, and nothing else: only an emulator can do anything with it.
fn program() -> Vec<u8> {
    let mut header = vec![0; 64];
    header[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 2, 1]);
    header[16..20].copy_from_slice(&[0, 2, 0, 22]);
    header
}

/// A lab whose `ctx` has such a program; an emulator for it lies in `bin`, if `installed`.
fn lab(builder: Builder, installed: bool) -> Lab {
    let mut lab = Lab::of(builder);
    let dockerfile = "FROM scratch\nCOPY prog /prog\nRUN --network=none [\"/prog\", \"one\"]\n";
    lab.context("ctx", &[("Dockerfile", dockerfile)]);
    fs::write(lab.path("ctx/prog"), program()).unwrap();
    fs::set_permissions(lab.path("ctx/prog"), PermissionsExt::from_mode(0o755)).unwrap();
    fs::create_dir(lab.path("bin")).unwrap();
    if installed {
        let source = lab.file("emulator.c", EMULATOR);
        tool("gcc", &["-static", "-o", &lab.at("bin/qemu-s390x-static"), source.to_str().unwrap()]);
    }
    lab.env.push(("PATH".into(), format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", lab.at("bin"))));
    lab
}

fn build(lab: &Lab, args: &[&str]) -> crate::support::Outcome {
    lab.forge(&[&["build", "--progress=plain", "--platform=linux/s390x"], args, &[&lab.at("ctx")]].concat())
}

#[test]
fn a_user_gets_an_emulator_of_its_own() {
    let lab = lab(Builder::User, true);
    let built = build(&lab, &["-t", "x"]);
    assert!(built.stderr.contains(" emulated: /prog /prog one\n"), "{built}");
    built.success();
    let run = lab.forge(&["run", "--network=none", "--entrypoint=/prog", "x", "two"]);
    assert_eq!(run.success(), "emulated: /prog /prog two");
}

#[test]
fn root_gets_one_in_a_user_namespace() {
    let lab = lab(Builder::Root, true);
    let built = build(&lab, &["--isolation=userns"]);
    assert!(built.stderr.contains(" emulated: /prog /prog one\n"), "{built}");
    built.success();
}

#[test]
fn without_an_emulator_it_is_said_what_to_install_and_where_it_is_needed() {
    for (builder, installed, why) in [
        (Builder::User, false, "no static qemu is installed"),
        (Builder::Root, true, "qemu-s390x-static is installed, but not registered"),
    ] {
        let report = build(&lab(builder, installed), &[]).report(7);
        assert!(
            report.contains("cannot run programs for linux/s390x here") && report.contains(why),
            "{report}"
        );
        assert!(report.contains("Dockerfile:3:1"), "{report}");
        assert!(report.contains("apt-get install qemu-user-static"), "{report}");
    }
}

/// An image may claim what its programs are not.
#[test]
fn a_program_for_this_machine_runs_whatever_the_platform() {
    let lab = Lab::with_busybox();
    lab.build_text("FROM busybox\nRUN --network=none echo runs\n", &["--platform=linux/s390x"]).success();
}
