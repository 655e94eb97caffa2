//! gzip layers are many members, cut by their content. Every program that reads layers reads all of them, and they are
//! hardly larger than one member would be.

use std::fs;
use std::path::PathBuf;

use super::{blob, image};
use crate::support::{Dockerd, Lab, json, tool, try_tool};

/// An image as `app:1` and in the layout `lay`, whose last layer is of several members; gives that blob's path and
/// the layer's DiffID.
fn made(lab: &Lab) -> (PathBuf, String) {
    let context =
        lab.context("ctx", &[("Dockerfile", "FROM busybox\nCOPY data /data\nCMD tail -n 1 /data/seq\n")]);
    fs::create_dir(context.join("data")).unwrap();
    tool(
        "sh",
        &[
            "-c",
            "cd \"$1\" && seq 1 600000 > seq && cp /bin/busybox b",
            "sh",
            context.join("data").to_str().unwrap(),
        ],
    );
    let outputs = ["-o", "type=oci,dest=lay/", "-o", "type=docker,dest=app.tar", "-o", "type=image"];
    lab.build(&context, &[&["-q", "-t", "app:1"], &outputs[..]].concat()).success();
    let (manifest, config) = image(lab, "lay");
    let layer = blob(lab, "lay", &manifest["layers"][1]["digest"]);
    (layer.into(), config["rootfs"]["diff_ids"][1].as_str().unwrap().to_owned())
}

#[test]
fn every_decompressor_reads_all_members() {
    let lab = Lab::with_busybox();
    let (layer, diff_id) = made(&lab);
    let path = layer.to_str().unwrap();
    let members = "import sys, zlib\nrest, n = open(sys.argv[1], 'rb').read(), 0\nwhile rest:\n  d = zlib.decompressobj(31)\n  \
                   d.decompress(rest)\n  rest, n = d.unused_data, n + 1\nprint(n)";
    let members: u32 = tool("python3", &["-c", members, path]).trim().parse().unwrap();
    assert!(members > 5, "{members} members");
    let python = "python3 -c 'import gzip, shutil, sys; shutil.copyfileobj(gzip.open(sys.argv[1]), sys.stdout.buffer)' \"$1\"";
    for command in
        [python, "gzip -dc \"$1\"", "pigz -dc \"$1\"", "busybox gzip -dc < \"$1\"", "zcat < \"$1\""]
    {
        let sum = tool("sh", &["-c", &format!("{command} | sha256sum"), "sh", path]);
        assert_eq!(format!("sha256:{}", sum.split(' ').next().unwrap()), diff_id, "{command}");
    }
    assert!(try_tool("gzip", &["-t", path]).stderr.is_empty(), "gzip has nothing to say against it");
    assert!(try_tool("pigz", &["-t", path]).stderr.is_empty(), "pigz has nothing to say against it");
    let one: u64 =
        tool("sh", &["-c", "gzip -dc \"$1\" | gzip -6n | wc -c", "sh", path]).trim().parse().unwrap();
    let many = fs::metadata(&layer).unwrap().len();
    assert!(many * 100 <= one * 103, "{many} bytes in {members} members, {one} in one");
}

#[test]
fn skopeo_and_umoci_read_all_members() {
    let lab = Lab::with_busybox();
    let (_, diff_id) = made(&lab);
    let (from, to) = (format!("oci:{}:1", lab.at("lay")), format!("dir:{}", lab.at("plain")));
    tool("skopeo", &["copy", "--quiet", "--dest-decompress", &from, &to]);
    assert!(lab.path("plain").join(&diff_id[7..]).exists(), "what skopeo decompressed is the DiffID");
    tool("umoci", &["unpack", "--image", &format!("{}:1", lab.at("lay")), &lab.at("bundle")]);
    assert!(fs::read_to_string(lab.path("bundle/rootfs/data/seq")).unwrap().ends_with("\n600000\n"));
}

#[test]
fn docker_and_containerd_read_all_members() {
    let (engine, lab) = (Dockerd::start(), Lab::with_busybox());
    let (_, diff_id) = made(&lab);
    let host = format!("unix://{}", engine.socket().display());
    tool("docker", &["--host", &host, "load", "--quiet", "--input", &lab.at("app.tar")]);
    let there = engine.get("/images/app:1/json");
    assert_eq!(there["RootFS"]["Layers"][1], diff_id);
    assert_eq!(there["Id"], json(&lab.forge(&["inspect", "app:1"]).success())[0]["Id"]);
    // Unpacking is what reads a layer to its end there; the files are looked at by a container that is not started.
    let id = tool("docker", &["--host", &host, "create", "--network=none", "app:1"]);
    tool("docker", &["--host", &host, "cp", &format!("{}:/data/seq", id.trim()), &lab.at("seq")]);
    assert!(fs::read_to_string(lab.path("seq")).unwrap().ends_with("\n600000\n"));

    let address = engine.containerd();
    let ctr =
        |args: &[&str]| tool("ctr", &[&["--address", &address, "--namespace", "members"], args].concat());
    ctr(&["images", "import", "--snapshotter", "native", "--digests", &lab.at("app.tar")]);
    // Import unpacks, and what it unpacked has the chain of DiffIDs for its name.
    let snapshots = ctr(&["snapshots", "--snapshotter", "native", "ls"]);
    assert_eq!(snapshots.lines().count(), 3, "{snapshots}");
    assert!(ctr(&["images", "check", "--snapshotter", "native"]).contains("complete"));
}
