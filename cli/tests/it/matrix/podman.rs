//! podman pulls every image under its digest, and runs those that hold a program.

use super::{Published, forms, is_known_to_skopeo};
use crate::support::try_tool;

/// Podman with a storage of its own, in the lab.
fn podman(published: &Published, args: &[&str]) -> Result<String, String> {
    let at = |name: &str| published.lab.at(&format!("podman/{name}"));
    let (root, run, tmp) = (at("root"), at("run"), at("tmp"));
    let global = ["--root", &root, "--runroot", &run, "--tmpdir", &tmp, "--storage-driver", "vfs"];
    let fixed = ["--cgroup-manager", "cgroupfs", "--runtime", "runc", "--events-backend", "none"];
    let output = try_tool("podman", &[&global[..], &fixed, args].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[test]
fn podman_pulls_and_runs_twenty_images_in_every_form_that_it_knows() {
    let published = Published::new();
    let podman = |args: &[&str]| podman(&published, args);
    // Limits that no machine is too small for: podman's own are above what a container of CI may set.
    let run = ["run", "--rm", "--network=none", "--ulimit=nofile=512:512", "--ulimit=nproc=512:512"];
    for form in forms(is_known_to_skopeo) {
        let names: Vec<String> = (0..published.samples.len()).map(|n| published.name(form, n)).collect();
        let mut args = vec!["pull", "--quiet", "--tls-verify=false"];
        args.extend(names.iter().map(String::as_str));
        podman(&args).unwrap();
        let format = "{{.Repository}}:{{.Tag}} {{.Digest}}";
        let listed = podman(&["images", "--digests", "--no-trunc", "--format", format]).unwrap();
        for (n, (name, sample)) in names.iter().zip(&published.samples).enumerate() {
            let want = format!("{name} {}", published.digest(form, n));
            assert!(listed.lines().any(|line| line == want), "{want}\n{listed}");
            // What is in an image does not depend on its form, and runc runs the others.
            if let (Some(says), "zstd-oci") = (sample.says, form) {
                assert_eq!(podman(&[&run[..], &[name]].concat()).unwrap(), says, "{name}");
            }
        }
        // What has the same configuration is one image to podman, under the digest that came first.
        podman(&["rmi", "--all", "--force"]).unwrap();
    }
    let said = podman(&["pull", "--tls-verify=false", &published.name("zstd-docker", 0)]).unwrap_err();
    assert!(said.contains("application/vnd.docker.image.rootfs.diff.tar.zstd"), "{said}");
}
