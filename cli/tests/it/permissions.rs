//! Machines that do not let forge make namespaces: it says which setting is in the way, and what to do.

use crate::support::{Builder, Lab, UserNs};

#[test]
fn a_user_on_a_machine_without_user_namespaces_is_told_the_setting() {
    let userns = UserNs::without_others();
    let mut lab = Lab::of(Builder::User);
    lab.wrapper = userns.enter();
    let context = lab.context("ctx", &[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    for args in [&["build", context.to_str().unwrap()][..], &["run", "x"]] {
        let report = lab.forge(args).report(7);
        assert!(report.starts_with("error: cannot build without root: "), "{report}");
        assert!(report.contains("user.max_user_namespaces"), "{report}");
        assert!(report.contains("help: "), "{report}");
    }
    // What needs no namespace works.
    assert_eq!(lab.forge(&["images", "-q"]).success(), "");
}

#[test]
fn a_user_without_subordinate_ids_is_warned_and_can_build_what_has_one_owner() {
    let mut lab = Lab::of(Builder::User);
    // `newuidmap` is not found, as where its package is missing.
    lab.wrapper = ["/usr/bin/env", "PATH=/nowhere"].map(String::from).into();
    let outcome = lab.build_text("FROM scratch\nCOPY Dockerfile /\n", &["-t", "x"]);
    assert!(outcome.stderr.contains("warning: only one user id is available here: "), "{outcome}");
    assert!(outcome.stderr.contains("uidmap"), "{outcome}");
    outcome.success();
}

#[test]
fn a_step_in_a_sandbox_without_leave_to_mount_is_told_so() {
    let mut lab = Lab::with_busybox();
    // Root without CAP_SYS_ADMIN, as in a container.
    lab.wrapper = ["setpriv", "--bounding-set=-sys_admin"].map(String::from).into();
    let report = lab.build_text("FROM busybox\nRUN true\n", &[]).report(7);
    assert!(report.starts_with("error: cannot start a sandbox: "), "{report}");
    assert!(report.contains("Dockerfile:2:1\n"), "{report}");
    assert!(report.contains("help: ") && report.contains("CAP_SYS_ADMIN"), "{report}");
    assert!(lab.unfinished().is_empty());
}
