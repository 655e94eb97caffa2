//! Images that others make: forge pulls, verifies and runs them.

use super::own_storage;
use crate::support::{Lab, Registry, json, tool, tool_with};

#[test]
fn what_umoci_and_buildah_make_is_pulled_and_run() {
    let (lab, registry) = (Lab::with_busybox(), Registry::open());
    let (layout, file) = (lab.at("layout"), lab.file("file", "from umoci\n"));
    lab.forge(&["copy", "-q", "busybox", &format!("oci:{layout}:base")]).success();
    let image = format!("{layout}:base");
    tool("umoci", &["insert", "--image", &image, "--tag", "new", file.to_str().unwrap(), "/file"]);
    tool(
        "umoci",
        &["config", "--image", &format!("{layout}:new"), "--config.cmd", "cat", "--config.cmd", "/file"],
    );
    let storage = own_storage(&lab);
    let env = [("CONTAINERS_STORAGE_CONF", storage.as_str())];
    let buildah = |args: &[&str]| tool_with(&env, "buildah", args).trim().to_owned();
    let base = format!("{}/base:1", registry.host);
    lab.forge(&["copy", "-q", "busybox", &format!("docker://{base}")]).success();
    let container = buildah(&["from", "--tls-verify=false", &base]);
    let theirs = lab.file("theirs", "from buildah\n");
    buildah(&["copy", &container, theirs.to_str().unwrap(), "/file"]);
    buildah(&["config", "--cmd", "[\"cat\",\"/file\"]", &container]);
    let name = |path: &str| format!("{}/{path}:1", registry.host);
    for (format, path) in [("oci", "buildah-oci"), ("docker", "buildah-docker")] {
        buildah(&["commit", "--quiet", "--format", format, &container, path]);
        buildah(&["push", "--quiet", "--tls-verify=false", path, &format!("docker://{}", name(path))]);
    }
    let to = format!("docker://{}", name("umoci"));
    tool("skopeo", &["copy", "--quiet", "--dest-tls-verify=false", &format!("oci:{layout}:new"), &to]);
    for (path, said) in [("umoci", "umoci"), ("buildah-oci", "buildah"), ("buildah-docker", "buildah")] {
        let digest = lab.forge(&["pull", "-q", &name(path)]).success();
        let seen = tool("skopeo", &["inspect", "--tls-verify=false", &format!("docker://{}", name(path))]);
        assert_eq!(json(&seen)["Digest"], digest);
        assert_eq!(lab.forge(&["run", "--network=none", &name(path)]).success(), format!("from {said}"));
    }
}
