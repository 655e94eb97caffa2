//! `forge doctor`: the rung that would be taken is the one that a build takes, and each that is missing has its reason
//! and the command that would mend it.

use serde_json::Value;

use crate::support::{Builder, DOCKERS, Lab, UserNs, json};

fn examined(lab: &Lab) -> Value {
    json(&lab.forge(&["doctor", "--json"]).success())
}

/// A rung's reason and remedy, which must be missing.
#[track_caller]
fn missing(report: &Value, rung: &str) -> String {
    let rungs = report["rungs"].as_array().unwrap();
    let found = rungs.iter().find(|found| found["name"] == rung).unwrap();
    assert_eq!(found["works"], false, "{found}");
    let (reason, remedy) = (found["reason"].as_str().unwrap(), found["remedy"].as_str().unwrap());
    assert!(!remedy.is_empty(), "{found}");
    format!("{reason}\n{remedy}")
}

/// What a build says it runs on; the best rung says nothing.
fn taken(lab: &Lab) -> &'static str {
    lab.add_busybox();
    let outcome = lab.build_text("FROM busybox\nRUN true\n", &[]);
    let names = ["userns-single", "chroot"];
    let said = |name: &&&str| outcome.stderr.contains(&format!("isolation is `{name}`"));
    match (names.iter().find(said), outcome.code) {
        (Some(name), _) => name,
        (None, 0) => "full",
        (None, _) => "none",
    }
}

#[test]
fn root_has_the_best() {
    let lab = Lab::new();
    let report = examined(&lab);
    assert_eq!(report["isolation"], "root");
    assert!(report["rungs"].as_array().unwrap().iter().all(|rung| rung["works"] == true), "{report}");
    for setting in ["user.max_user_namespaces", "cgroups", "capabilities", "kernel.version"] {
        assert_ne!(report["machine"][setting], "absent", "{report}");
    }
    let features: Vec<&str> =
        report["features"].as_array().unwrap().iter().map(|found| found["name"].as_str().unwrap()).collect();
    for feature in ["overlay file system", "fuse-overlayfs", "tun device", "pasta", "slirp4netns", "nftables"]
    {
        assert!(features.contains(&feature), "{features:?}");
    }
    let text = lab.forge(&["doctor"]).success();
    assert!(text.starts_with("isolation: root "), "{text}");
}

#[test]
fn a_container_without_privileges_has_chroot() {
    let lab = Lab::in_pod(DOCKERS);
    let report = examined(&lab);
    assert_eq!((report["isolation"].as_str(), taken(&lab)), (Some("chroot"), "chroot"));
    assert!(missing(&report, "root").contains("CAP_SYS_ADMIN"));
    assert!(missing(&report, "userns").contains("seccomp=unconfined"));
    assert_eq!(report["machine"]["seccomp of this process"], "filtered");

    // Capabilities without leave to use them: the filter still forbids.
    let report = examined(&Lab::in_pod("1ffffffffff"));
    assert_eq!(report["isolation"], "chroot");
    assert!(missing(&report, "root").contains("seccomp profile"), "{report}");

    // Namespaces without leave to mount in them.
    let report = examined(&Lab::in_pod("800001ffffffffff"));
    assert_eq!(report["isolation"], "chroot");
    assert!(missing(&report, "root").contains("apparmor=unconfined"), "{report}");

    // No CAP_SYS_CHROOT either.
    let poor = Lab::in_pod("a80025fb");
    let report = examined(&poor);
    assert_eq!((report["isolation"].as_str(), taken(&poor)), (Some("none"), "none"));
    assert!(missing(&report, "chroot").contains("--cap-add=SYS_CHROOT"));
}

#[test]
fn a_user_has_user_namespaces_as_far_as_ids_go() {
    let lab = Lab::of(Builder::User);
    let report = examined(&lab);
    assert_eq!((report["isolation"].as_str(), taken(&lab)), (Some("userns"), "full"));
    assert!(missing(&report, "root").contains("is not root"));
    assert!(missing(&report, "chroot").contains("CAP_SYS_CHROOT"));

    let mut lab = Lab::of(Builder::User);
    lab.wrapper = ["/usr/bin/env", "PATH=/nowhere"].map(String::from).into();
    let report = examined(&lab);
    assert_eq!((report["isolation"].as_str(), taken(&lab)), (Some("userns-single"), "userns-single"));
    assert!(missing(&report, "userns").contains("apt-get install uidmap"), "{report}");
}

#[test]
fn a_setting_that_forbids_is_named_with_the_command_that_allows() {
    let userns = UserNs::without_others();
    let mut lab = Lab::of(Builder::User);
    lab.wrapper = userns.enter();
    let report = examined(&lab);
    assert_eq!((report["isolation"].as_str(), taken(&lab)), (Some("none"), "none"));
    for rung in ["userns", "userns-single"] {
        let said = missing(&report, rung);
        assert!(said.contains("user.max_user_namespaces is 0"), "{said}");
        assert!(said.contains("sysctl -w user.max_user_namespaces="), "{said}");
    }
    assert_eq!(report["machine"]["user.max_user_namespaces"], "0");
}
