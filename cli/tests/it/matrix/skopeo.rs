//! skopeo takes images onwards as they are; forge takes them from there.

use super::{FORMS, Published, forms, is_known_to_skopeo};
use crate::support::{Lab, Registry, tool, try_tool};

#[test]
fn skopeo_keeps_the_digest_of_twenty_images_in_six_forms() {
    let (ours, theirs) = (Published::new(), Registry::open());
    let flags = ["--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false"];
    for form in forms(is_known_to_skopeo) {
        let from = format!("{}/{form}", ours.registry.host);
        tool(
            "skopeo",
            &[&["sync", "--src=docker", "--dest=docker"], &flags[..], &[&from, &theirs.host]].concat(),
        );
    }
    // The refusal is skopeo's, and says of what.
    let refused = |n: usize| {
        let [from, to] = [&ours.registry, &theirs].map(|to| format!("docker://{}/zstd-docker:i{n}", to.host));
        let said = try_tool("skopeo", &[&["copy"], &flags[..], &[&from, &to]].concat());
        assert!(
            !said.status.success(),
            "skopeo takes Docker's zstd now: expect it to, and say so in the guide"
        );
        (String::from_utf8_lossy(&said.stderr).into_owned(), from, to)
    };
    let (said, ..) = refused(0);
    assert!(said.contains("application/vnd.docker.image.rootfs.diff.tar.zstd"), "{said}");
    for n in 0..ours.samples.len() {
        let [from, to] = [&ours.registry, &theirs].map(|to| format!("docker://{}/zstd-docker:i{n}", to.host));
        ours.lab.forge(&["copy", "-q", &from, &to]).success();
    }
    let other = Lab::new();
    for (.., form) in FORMS {
        for n in 0..ours.samples.len() {
            let want = ours.digest(form, n);
            assert_eq!(theirs.digest(form, &format!("i{n}")), want, "{form} {n}");
            let back = format!("{}/{form}:i{n}", theirs.host);
            assert_eq!(other.forge(&["pull", "-q", &back]).success(), want, "{form} {n}");
        }
    }
}
