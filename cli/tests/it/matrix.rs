//! Twenty images in every form, there and back through programs of others: no digest changes on the way.

use std::fs;

use crate::support::{Lab, Registry, json, tool, tool_with};

/// What the images differ in, one Dockerfile each; all are quick to make.
fn dockerfiles() -> Vec<String> {
    let mut all: Vec<String> = [
        "FROM scratch\nCOPY a /a\n",
        "FROM scratch\nCOPY --chmod=4755 a /a\n",
        "FROM scratch\nCOPY --chown=1:2 a /a\n",
        "FROM scratch\nCOPY a /a\nCOPY b /a\n",
        "FROM scratch\nCOPY a b /deep/er/\n",
        "FROM scratch\nCOPY . /all/\n",
        "FROM scratch\nCOPY link /link\n",
        "FROM scratch\nCOPY a /\u{fc}n\u{ef}c\u{f6}d\u{e9}\n",
        "FROM scratch\nWORKDIR /w\nCOPY a .\n",
        "FROM scratch\nCOPY a /a\nENV A=1 B=\"2 3\"\n",
        "FROM scratch\nCOPY a /a\nLABEL a=b c=\"d e\"\nEXPOSE 80 53/udp\nVOLUME /v\n",
        "FROM scratch\nCOPY a /a\nUSER 1:2\nSTOPSIGNAL SIGINT\n",
        "FROM scratch\nCOPY a /a\nENTRYPOINT [\"/a\"]\nCMD [\"b\"]\n",
        "FROM scratch\nCOPY a /a\nHEALTHCHECK --interval=5s CMD true\n",
        "FROM scratch\nCOPY a /a\nONBUILD COPY b /b\nSHELL [\"/sh\", \"-c\"]\n",
        "FROM busybox\nCMD echo hello\n",
        "FROM busybox\nCOPY a /etc/a\nCMD cat /etc/a\n",
    ]
    .map(str::to_owned)
    .into();
    all.push(format!("FROM scratch\nCOPY a /{}/a\n", ["long"; 50].join("-")));
    all.push(format!("FROM scratch\n{}", (0..30).map(|n| format!("COPY a /f{n}\n")).collect::<String>()));
    all.push(format!("FROM scratch\nCOPY a /a\nLABEL big={}\n", "x".repeat(20_000)));
    all
}

const FORMS: [(&str, &str, &str); 6] = [
    ("gzip", "true", "gzip-oci"),
    ("gzip", "false", "gzip-docker"),
    ("zstd", "true", "zstd-oci"),
    ("zstd", "false", "zstd-docker"),
    ("uncompressed", "true", "none-oci"),
    ("uncompressed", "false", "none-docker"),
];

/// Docker's zstd layers, as BuildKit and containerd name them, are no type to skopeo and podman.
fn is_known_to_skopeo(name: &str) -> bool {
    !name.ends_with("zstd-docker")
}

/// Podman's, buildah's and skopeo's storage, for this test alone.
fn own_storage(lab: &Lab) -> String {
    let (graph, run) = (lab.at("graph"), lab.at("run"));
    let conf = format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{graph}\"\nrunroot = \"{run}\"\n");
    lab.file("storage.conf", &conf).display().to_string()
}

#[test]
fn twenty_images_in_six_forms_keep_their_digests() {
    let (lab, ours, theirs) = (Lab::with_busybox(), Registry::open(), Registry::open());
    let files = [("a", "#!/a\n"), ("b", "b\n"), ("sub/c", "c\n"), (".dockerignore", "Dockerfile*\n")];
    let context = lab.context("ctx", &files);
    std::os::unix::fs::symlink("/a", context.join("link")).unwrap();
    let dockerfiles = dockerfiles();
    assert!(dockerfiles.len() >= 20);
    let mut pushed = Vec::new();
    for (n, text) in dockerfiles.iter().enumerate() {
        fs::write(context.join("Dockerfile"), text).unwrap();
        for (compression, oci, form) in FORMS {
            let name = format!("i{n}:{form}");
            let output = format!(
                "type=registry,force-compression=true,compression={compression},oci-mediatypes={oci}"
            );
            let full = format!("{}/{name}", ours.host);
            let digest = lab.build(&context, &["-q", "-t", &full, "-o", &output]).success();
            pushed.push((name, digest));
        }
    }
    // skopeo takes all of them onwards as they are, and forge takes them from there.
    let other = Lab::new();
    for (name, digest) in &pushed {
        let [from, to] = [&ours, &theirs].map(|registry| format!("docker://{}/{name}", registry.host));
        let flags =
            ["copy", "--quiet", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false"];
        match is_known_to_skopeo(name) {
            true => drop(tool("skopeo", &[&flags[..], &[&from, &to]].concat())),
            false => drop(lab.forge(&["copy", "-q", &from, &to]).success()),
        }
        let back = format!("{}/{name}", theirs.host);
        assert_eq!(other.forge(&["pull", "-q", &back]).success(), *digest, "{name}");
    }
    // podman takes all of them.
    let storage = own_storage(&lab);
    let env = [("CONTAINERS_STORAGE_CONF", storage.as_str())];
    for (form, names) in
        FORMS.map(|(_, _, form)| (form, pushed.iter().filter(move |(name, _)| name.ends_with(form))))
    {
        if !is_known_to_skopeo(form) {
            continue;
        }
        let names: Vec<_> = names.collect();
        let full: Vec<String> = names.iter().map(|(name, _)| format!("{}/{name}", ours.host)).collect();
        let mut args = vec!["pull", "--quiet", "--tls-verify=false"];
        args.extend(full.iter().map(String::as_str));
        tool_with(&env, "podman", &args);
        let listed = tool_with(
            &env,
            "podman",
            &["images", "--digests", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.Digest}}"],
        );
        for ((_, digest), full) in names.iter().zip(&full) {
            assert!(
                listed.lines().any(|line| line == format!("{full} {digest}")),
                "{form}: {full} {digest}\n{listed}"
            );
        }
        // What has the same configuration is one image to podman, under the digest that came first.
        tool_with(&env, "podman", &["rmi", "--all", "--force"]);
    }
    // umoci unpacks and runc runs what both know: umoci of Debian knows no zstd.
    for form in ["gzip-oci", "none-oci"] {
        let layout = format!("oci:{}:{form}", lab.at("layout"));
        let from = format!("docker://{}/i16:{form}", ours.host);
        lab.forge(&["copy", "-q", &from, &layout]).success();
        let bundle = lab.at(&format!("bundle-{form}"));
        tool("umoci", &["unpack", "--image", layout.strip_prefix("oci:").unwrap(), &bundle]);
        let config = format!("{bundle}/config.json");
        let mut spec = json(&fs::read_to_string(&config).unwrap());
        spec["process"]["terminal"] = false.into();
        fs::write(&config, spec.to_string()).unwrap();
        let id = format!("matrix-{form}-{}", std::process::id());
        let said = tool("runc", &["--root", &lab.at("runc"), "run", "--bundle", &bundle, &id]);
        assert_eq!(said, "#!/a\n");
    }
}

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
