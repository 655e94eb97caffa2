//! Machines that do not let forge make namespaces: it says which setting is in the way, and what to do.

use crate::support::{Builder, Lab};

#[test]
fn a_user_without_subordinate_ids_is_warned_and_can_build_what_has_one_owner() {
    let mut lab = Lab::of(Builder::User);
    // `newuidmap` is not found, as where its package is missing.
    lab.wrapper = ["/usr/bin/env", "PATH=/nowhere"].map(String::from).into();
    lab.add_busybox();
    let outcome = lab.build_text("FROM busybox\nRUN true\n", &["-t", "x"]);
    assert!(outcome.stderr.contains("isolation is `userns-single`"), "{outcome}");
    assert!(outcome.stderr.contains("uidmap"), "{outcome}");
    outcome.success();
}
