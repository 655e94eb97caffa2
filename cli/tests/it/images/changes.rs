//! Layers hold changes, and nothing that a step only touched.

use super::{blob, image};
use crate::support::{Builder, Lab, tool};

/// Each step, and what its layer must hold.
const STEPS: [(&str, &[&str]); 10] = [
    ("true", &[]),
    ("chmod 644 /etc/passwd && chmod 755 /bin /bin/busybox", &[]),
    ("chown 0:0 /etc /etc/passwd && chown -h 0:0 /bin/sh", &[]),
    ("touch -r /etc/passwd /tmp/t && rm /tmp/t && touch -d @1000000000 /tmp", &[]),
    ("mv /etc/passwd /etc/q && mv /etc/q /etc/passwd && touch -d @1000000000 /etc", &[]),
    ("chmod 600 /etc/passwd", &["etc/", "etc/passwd"]),
    (
        "cp -p /etc/passwd /p && echo root:y:0:0::/:/bin/sh > /etc/passwd && touch -r /p /etc/passwd && rm /p",
        &["etc/", "etc/passwd"],
    ),
    ("touch /etc/passwd", &["etc/", "etc/passwd"]),
    ("chmod 700 /root && chmod -R 700 /root", &[]),
    ("mkdir /root/new && chmod 755 /bin/busybox", &["root/", "root/new/"]),
];

fn check(builder: Builder) {
    let lab = Lab::of(builder);
    lab.add_busybox();
    let runs: String = STEPS.iter().map(|(step, _)| format!("RUN {step}\n")).collect();
    let text = format!("FROM busybox\n{runs}");
    lab.build_text(&text, &["-t", "a", "--network", "none", "-o", "type=oci,dest=out/"]).success();
    let (manifest, _) = image(&lab, "out");
    let layers = &manifest["layers"].as_array().unwrap()[1..];
    for (layer, (step, want)) in layers.iter().zip(STEPS) {
        let listed = tool("tar", &["-tzf", &blob(&lab, "out", &layer["digest"])]);
        assert_eq!(listed.lines().collect::<Vec<_>>(), want, "{step}");
    }
    assert_eq!(
        lab.shell("a", "cat /etc/passwd; stat -c %a /root /bin/busybox"),
        "root:y:0:0::/:/bin/sh\n700\n755"
    );
}

#[test]
fn a_step_that_changes_nothing_has_an_empty_layer() {
    check(Builder::Root);
}

#[test]
fn a_users_step_that_changes_nothing_has_an_empty_layer() {
    check(Builder::User);
}
