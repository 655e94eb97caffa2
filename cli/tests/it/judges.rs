//! What forge writes, read by the programs of others: skopeo, umoci, runc, podman, GNU tar.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::{Value, json as value};

use crate::support::{Lab, json, tool};

/// Something of everything that layers can hold: whiteouts, links, odd modes, names that need extended headers.
const TEXT: &str = r#"FROM busybox
RUN mkdir -p /d/old /opaque/sub && touch /d/old/f /d/gone /opaque/sub/f && echo first > /both
RUN rm -r /d/old /d/gone && rm -r /opaque && mkdir /opaque && touch /opaque/new && echo second > /both
RUN ln /both /hard && ln -s both /soft && mkfifo /fifo && chmod 4755 /hard && chown 1000:50 /opaque/new
RUN n=$(printf %0150d 0) && mkdir -p /long/$n && touch "/long/$n/$n" "/ünï cödé"
COPY --chown=3000000:4000000 Dockerfile /big-ids
WORKDIR /d
USER app
ENV GREETING="hello there"
CMD ["sh", "-c", "echo $GREETING from $(id -un) in $(pwd)"]
"#;
const SAYS: &str = "hello there from app in /d\n";

/// A lab with that image as `judged:1`; gives its digest.
fn judged(outputs: &[&str]) -> (Lab, String) {
    let lab = Lab::with_busybox();
    let outputs: Vec<&str> = outputs.iter().flat_map(|output| ["-o", output]).collect();
    let digest = lab.build_text(TEXT, &[&["-q", "-t", "judged:1"], &outputs[..]].concat()).success();
    (lab, digest)
}

fn inspect(transport: &str) -> Value {
    json(&tool("skopeo", &["inspect", transport]))
}

#[test]
fn skopeo_reads_layouts_and_archives() {
    let outputs = ["type=oci,dest=dir/", "type=oci,dest=oci.tar", "type=docker,dest=docker.tar"];
    let (lab, digest) = judged(&outputs);
    let labels = |what: &Value| (what["Architecture"].clone(), what["Env"].clone(), what["Layers"].clone());
    let dir = inspect(&format!("oci:{}:1", lab.at("dir")));
    let archive = inspect(&format!("oci-archive:{}:1", lab.at("oci.tar")));
    assert_eq!((&dir["Digest"], &archive["Digest"]), (&value!(digest), &value!(digest)));
    assert_eq!(labels(&dir), labels(&archive));
    assert_eq!(dir["Layers"].as_array().unwrap().len(), 7);
    let docker = inspect(&format!("docker-archive:{}:judged:1", lab.at("docker.tar")));
    assert_eq!(docker["RepoTags"], value!([]));
    assert_eq!(docker["Env"], dir["Env"]);
    for from in [format!("oci:{}:1", lab.at("dir")), format!("oci-archive:{}", lab.at("oci.tar"))] {
        let to = tempfile::tempdir_in(lab.path("")).unwrap();
        let to = format!("oci:{}/copy:x", to.path().display());
        tool("skopeo", &["copy", "--quiet", &from, &to]);
        assert_eq!(inspect(&to)["Digest"], digest, "skopeo changes nothing");
    }
    let to = format!("dir:{}", lab.at("as-files"));
    tool("skopeo", &["copy", "--quiet", &format!("docker-archive:{}", lab.at("docker.tar")), &to]);
}

#[test]
fn a_layout_directory_keeps_its_other_images() {
    let (lab, digest) = judged(&["type=oci,dest=dir/"]);
    let other =
        lab.build_text("FROM busybox\n", &["-q", "-t", "other:2", "-o", "type=oci,dest=dir/"]).success();
    assert_eq!(inspect(&format!("oci:{}:1", lab.at("dir")))["Digest"], digest);
    assert_eq!(inspect(&format!("oci:{}:2", lab.at("dir")))["Digest"], other);
    let tags = tool("umoci", &["list", "--layout", &lab.at("dir")]);
    assert_eq!(tags.lines().collect::<BTreeSet<_>>(), BTreeSet::from(["1", "2"]));
}

/// Unpacks by umoci; gives the bundle.
fn bundle(lab: &Lab) -> std::path::PathBuf {
    tool("umoci", &["unpack", "--image", &format!("{}:1", lab.at("dir")), &lab.at("bundle")]);
    lab.path("bundle")
}

#[test]
fn runc_runs_what_umoci_unpacks() {
    let (lab, _) = judged(&["type=oci,dest=dir/"]);
    let bundle = bundle(&lab);
    let file = bundle.join("config.json");
    let mut config = json(&fs::read_to_string(&file).unwrap());
    config["process"]["terminal"] = value!(false);
    fs::write(&file, config.to_string()).unwrap();
    let id = format!("forge-e2e-{}", std::process::id());
    let out = tool("runc", &["--root", &lab.at("runc"), "run", "--bundle", bundle.to_str().unwrap(), &id]);
    assert_eq!(out, SAYS);
}

#[test]
fn podman_loads_and_runs_archives() {
    let (lab, _) = judged(&["type=docker,dest=docker.tar", "type=oci,dest=oci.tar"]);
    let (root, runroot) = (lab.at("podman/root"), lab.at("podman/run"));
    let tmp = lab.at("podman/tmp");
    let podman = |args: &[&str]| {
        let global = [
            "--root",
            &root,
            "--runroot",
            &runroot,
            "--tmpdir",
            &tmp,
            "--storage-driver",
            "vfs",
            "--cgroup-manager",
            "cgroupfs",
            "--runtime",
            "runc",
            "--events-backend",
            "none",
        ];
        tool("podman", &[&global[..], args].concat())
    };
    for archive in ["docker.tar", "oci.tar"] {
        let loaded = podman(&["load", "--quiet", "--input", &lab.at(archive)]);
        let name = loaded.trim().rsplit_once(": ").unwrap().1.to_owned();
        assert!(name.contains("judged:1") || archive == "oci.tar", "{loaded}");
        // Limits that no machine is too small for: podman's own are above what a container of CI may set.
        let run = ["run", "--rm", "--network=none", "--ulimit=nofile=512:512", "--ulimit=nproc=512:512"];
        assert_eq!(podman(&[&run[..], &[&name]].concat()), SAYS, "{archive}");
        podman(&["rmi", "--force", &name]);
    }
}

#[test]
fn gnu_tar_lists_every_layer_and_the_digests_are_those_of_sha256sum() {
    let (lab, digest) = judged(&["type=oci,dest=dir/"]);
    let blob =
        |digest: &str| lab.at(&format!("dir/blobs/sha256/{}", digest.strip_prefix("sha256:").unwrap()));
    let manifest = json(&fs::read_to_string(blob(&digest)).unwrap());
    let config = json(&fs::read_to_string(blob(manifest["config"]["digest"].as_str().unwrap())).unwrap());
    let diff_ids = config["rootfs"]["diff_ids"].as_array().unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    assert_eq!(layers.len(), diff_ids.len());
    let mut names = BTreeSet::new();
    for (layer, diff_id) in layers.iter().zip(diff_ids) {
        let digest = layer["digest"].as_str().unwrap();
        let path = blob(digest);
        assert_eq!(layer["size"], fs::metadata(&path).unwrap().len());
        let sum = |command: &str| {
            let out = tool("sh", &["-c", &format!("{command} | sha256sum"), "sh", &path]);
            format!("sha256:{}", out.split(' ').next().unwrap())
        };
        assert_eq!(sum("cat \"$1\""), digest);
        assert_eq!(sum("gzip -dc \"$1\""), diff_id.as_str().unwrap());
        let listed = tool("tar", &["--quoting-style=literal", "-tzf", &path]);
        let count = listed.lines().count();
        names.extend(listed.lines().map(str::to_owned));
        assert_eq!(listed.lines().collect::<BTreeSet<_>>().len(), count, "no entry is there twice");
        // Extended headers and all: GNU tar has nothing to say against it.
        let said = crate::support::try_tool("tar", &["-tvzf", &path]).stderr;
        assert!(said.is_empty(), "{}", String::from_utf8_lossy(&said));
    }
    for name in ["d/.wh.old", "d/.wh.gone", "opaque/.wh..wh..opq", "opaque/new", "ünï cödé", "fifo"] {
        assert!(names.contains(name), "{name}: {names:?}");
    }
}

/// Paths with kind, mode, owner, size and link target.
fn listing(root: &Path, owners: bool) -> Vec<String> {
    let format = if owners { "%P|%y|%m|%U:%G|%l|" } else { "%P|%y|%m|%l|" };
    let (directories, others) = (format!("{format}\\n"), format!("{format}%s\\n"));
    let args = [
        root.to_str().unwrap(),
        "-mindepth",
        "1",
        "-type",
        "d",
        "-printf",
        &directories,
        "-o",
        "-printf",
        &others,
    ];
    let mut lines: Vec<String> = tool("find", &args).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn files_written_are_those_of_the_image() {
    let outputs = ["type=oci,dest=dir/", "type=local,dest=local", "type=tar,dest=files.tar"];
    let (lab, _) = judged(&outputs);
    let unpacked = bundle(&lab).join("rootfs");
    fs::create_dir(lab.path("tar")).unwrap();
    let tar = ["--numeric-owner", "--same-permissions", "-xf", &lab.at("files.tar"), "-C", &lab.at("tar")];
    tool("tar", &tar);
    assert_eq!(listing(&lab.path("tar"), true), listing(&unpacked, true));
    assert_eq!(fs::read_to_string(lab.path("tar/both")).unwrap(), "second\n");
    let inode = |name: &str| lab.path("tar").join(name).metadata().unwrap().ino();
    assert_eq!(inode("both"), inode("hard"), "hard links stay links");

    // A directory is for the caller: owners are not kept, and nothing in it is set-uid.
    let plain = |lines: Vec<String>| -> Vec<String> {
        lines
            .into_iter()
            .filter(|line| !["both|", "hard|"].iter().any(|name| line.starts_with(name)))
            .collect()
    };
    assert_eq!(plain(listing(&lab.path("local"), false)), plain(listing(&unpacked, false)));
}

#[test]
fn the_stores_own_blobs_are_a_layout_that_skopeo_reads() {
    let (lab, digest) = judged(&[]);
    let manifest = json(&lab.forge(&["inspect", "--raw", "judged:1"]).success());
    let size = lab.forge(&["inspect", "--raw", "judged:1"]).stdout.trim_end().len();
    let index = value!({
        "schemaVersion": 2,
        "manifests": [{ "mediaType": manifest["mediaType"], "digest": digest, "size": size }],
    });
    // The store has no index.json of its own: names are in its database. With one beside it, it is a layout.
    fs::create_dir(lab.path("view")).unwrap();
    std::os::unix::fs::symlink(lab.path("store/blobs"), lab.path("view/blobs")).unwrap();
    fs::copy(lab.path("store/oci-layout"), lab.path("view/oci-layout")).unwrap();
    fs::write(lab.path("view/index.json"), index.to_string()).unwrap();
    assert_eq!(inspect(&format!("oci:{}", lab.at("view")))["Digest"], digest);
}
