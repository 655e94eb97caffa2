//! Bits that rot, databases that are torn, file systems that may only be read: found, said, and mended.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::support::{Lab, Registry, json, tool, try_tool};

/// Flips one bit of a file, in the middle.
fn flip(path: &Path) {
    let mode = fs::metadata(path).unwrap().permissions();
    fs::set_permissions(path, PermissionsExt::from_mode(0o644)).unwrap();
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[byte[0] ^ 1], middle).unwrap();
    fs::set_permissions(path, mode).unwrap();
}

/// The store's entries of a directory, the largest first.
fn largest(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

fn layer_blob(lab: &Lab, image: &str, at: usize) -> PathBuf {
    let manifest = json(&lab.forge(&["inspect", "--raw", image]).success());
    let digest = manifest["layers"][at]["digest"].as_str().unwrap().to_owned();
    lab.path("store/blobs/sha256").join(digest.strip_prefix("sha256:").unwrap())
}

#[test]
fn a_blob_that_rotted_is_never_passed_on() {
    let (lab, registry) = (Lab::with_busybox(), Registry::open());
    let name = format!("{}/app:1", registry.host);
    let text = "FROM busybox\nRUN head -c 100000 /dev/urandom > /a\n";
    lab.build_text(text, &["-t", &name]).success();
    flip(&layer_blob(&lab, &name, 1));
    let report = lab.forge(&["push", &name]).report(4);
    assert!(report.contains("blob sha256:"), "{report}");
    assert!(!layer_blob(&lab, &name, 1).exists(), "it was dropped");

    // It is packed again, and is the same.
    lab.build_text(text, &["-t", &name]).success();
    for output in ["type=oci,dest=out.tar", "type=docker,dest=out.tar", "type=oci,tar=false,dest=out"] {
        flip(&layer_blob(&lab, &name, 1));
        let report = lab.build_text(text, &["-o", output]).report(6);
        assert!(report.contains("damaged") && report.contains("sha256:"), "{output}: {report}");
        assert!(!lab.path("out.tar").exists(), "{output}");
        lab.build_text(text, &["-t", &name]).success();
    }
    lab.forge(&["push", &name]).success();
    assert_eq!(lab.forge(&["store", "verify"]).code, 0);
}

#[test]
fn a_tree_that_rotted_is_not_packed_or_written_out() {
    let lab = Lab::with_busybox();
    let text = "FROM busybox\nRUN seq 1 20000 > /a\n";
    let context = lab.context("ctx", &[("Dockerfile", text)]);
    // Its layer has no blob yet.
    lab.build(&context, &["--print", "json"]).success();
    lab.build(&context, &["-o", "type=local,dest=out"]).success();
    let tree = fs::read_dir(lab.path("store/layers")).unwrap().map(|entry| entry.unwrap().path().join("a"));
    let file = tree.into_iter().find(|path| path.exists()).unwrap();
    for output in ["type=local,dest=out2", "type=tar,dest=out2.tar"] {
        flip(&file);
        let report = lab.build(&context, &["-o", output]).report(6);
        assert!(report.contains("damaged") && report.contains("made anew"), "{output}: {report}");
        assert!(!file.exists(), "{output}: it was dropped");
        lab.build(&context, &["-o", output]).success();
    }
    flip(&file);
    let report = lab.build(&context, &["-t", "app"]).report(6);
    assert!(report.contains("damaged"), "{report}");
    lab.build(&context, &["-t", "app"]).success();
    assert_eq!(lab.shell("app", "tail -n 1 /a"), "20000");
}

#[test]
fn verify_names_what_is_damaged_and_repair_drops_it() {
    let (maker, registry) = (Lab::with_busybox(), Registry::open());
    let name = format!("{}/b:1", registry.host);
    maker.forge(&["tag", "busybox", &name]).success();
    maker.forge(&["push", "-q", &name]).success();
    let lab = Lab::new();
    lab.forge(&["pull", "-q", &name]).success();
    let text = format!("FROM {name}\nRUN echo a > /a\n");
    lab.build_text(&text, &["-t", "app"]).success();
    let said = lab.forge(&["store", "verify"]).success();
    assert!(said.starts_with("verified 6 blobs, 2 layers, ") && said.ends_with(" 0 damaged"), "{said}");

    // A blob, a file of a pulled layer and a file of a built one.
    let blob = layer_blob(&lab, "app", 1);
    flip(&blob);
    let mut files = Vec::new();
    for layer in fs::read_dir(lab.path("store/layers")).unwrap() {
        let layer = layer.unwrap().path();
        let file = [layer.join("a"), layer.join("bin/busybox")].into_iter().find(|path| path.exists());
        flip(file.as_ref().unwrap());
        files.extend(file);
    }
    assert_eq!(files.len(), 2);
    let found = lab.forge(&["store", "verify"]);
    assert_eq!(found.code, 6, "{found}");
    assert!(found.stderr.contains("--repair"), "{found}");
    assert_eq!(found.stdout.lines().filter(|line| line.starts_with("damaged: layer ")).count(), 2, "{found}");
    let hex = blob.file_name().unwrap().to_str().unwrap();
    assert!(found.stdout.contains(&format!("damaged: blob {hex}: its bytes hash to")), "{found}");
    assert!(
        found.stdout.contains("incomplete: image docker.io/library/app:latest: it lacks blob"),
        "{found}"
    );

    let repaired = lab.forge(&["store", "verify", "--repair"]);
    assert_eq!(repaired.code, 6, "an image is still incomplete: {repaired}");
    assert!(!blob.exists() && files.iter().all(|file| !file.exists()));
    lab.build_text(&text, &["-t", "app"]).success();
    assert_eq!(lab.shell("app", "cat /a"), "a");
    lab.forge(&["store", "verify"]).success();
}

/// Ways to lose a database.
fn ruin(how: &str, index: &Path) {
    let length = fs::metadata(index).unwrap().len();
    let file = fs::File::options().write(true).open(index).unwrap();
    match how {
        "garbage" => fs::write(index, vec![0x5a; length as usize]).unwrap(),
        "empty" => file.set_len(0).unwrap(),
        "truncated" => file.set_len(length / 2 / 4096 * 4096).unwrap(),
        "gone" => fs::remove_file(index).unwrap(),
        page => {
            let page: u64 = page.parse().unwrap();
            file.write_all_at(&[0; 4096], page * 4096).unwrap();
        }
    }
}

#[test]
fn a_damaged_index_is_made_anew_and_no_image_is_lost() {
    let lab = Lab::with_busybox();
    let context =
        lab.context("ctx", &[("Dockerfile", "FROM busybox\nCOPY f /\nRUN echo a > /a\n"), ("f", "f")]);
    lab.build(&context, &["-t", "app"]).success();
    let index = lab.path("store/index.db");
    let pages = fs::metadata(&index).unwrap().len() / 4096;
    let ways = ["garbage", "empty", "truncated", "gone"].map(str::to_owned);
    for how in ways.into_iter().chain((0..pages).map(|page| page.to_string())) {
        let images = lab.forge(&["images"]).success();
        ruin(&how, &index);
        let mut said = String::new();
        // Whichever command meets the damage mends it; one that does not need that page is right all the same.
        for words in [&["images"][..], &["store", "verify"], &["images"]] {
            let outcome = lab.forge(words);
            assert_eq!(outcome.code, 0, "{how}, {words:?}: {outcome}");
            if words[0] == "images" {
                assert_eq!(outcome.stdout.trim_end(), images, "{how}: {outcome}");
            }
            said.push_str(&outcome.stderr);
        }
        let was_needed = !how.chars().all(|c| c.is_ascii_digit());
        assert!(said.contains("was made anew from what is on disk: 2 names") || !was_needed, "{how}: {said}");
        assert_eq!(lab.shell("app", "cat /a /f"), "a\nf", "{how}");
        lab.build(&context, &["-t", "app"]).success();
        assert_eq!(lab.forge(&["images", "-q"]).success().lines().count(), 2, "{how}");
    }
}

#[test]
fn a_zeroed_page_costs_little() {
    let lab = Lab::with_busybox();
    let mut text = "FROM busybox\n".to_owned();
    (0..60).for_each(|n| text.push_str(&format!("RUN echo {n} > /{n}\n")));
    lab.build_text(&text, &[]).success();
    let index = lab.path("store/index.db");
    // A leaf of a table without row ids begins with a ten.
    let bytes = fs::read(&index).unwrap();
    let leaf = bytes.chunks(4096).rposition(|page| page[0] == 10).unwrap();
    ruin(&leaf.to_string(), &index);
    lab.forge(&["store", "verify"]).success();
    let (cached, run) = lab.build_text(&text, &[]).steps();
    assert!(
        cached.len() >= 30,
        "most records and trees were kept: {} of {}",
        cached.len(),
        cached.len() + run.len()
    );
}

#[test]
fn a_store_of_a_newer_forge_is_left_alone() {
    let lab = Lab::with_busybox();
    let index = lab.path("store/index.db");
    // `user_version` stands at offset 60 of the header.
    let file = fs::File::options().write(true).open(&index).unwrap();
    file.write_all_at(&99_u32.to_be_bytes(), 60).unwrap();
    let before = fs::read(&index).unwrap();
    for words in
        [&["images"][..], &["prune", "-a", "-f"], &["rmi", "busybox"], &["store", "verify", "--repair"]]
    {
        let report = lab.forge(words).report(9);
        assert!(report.contains("has format 99, newer than") && report.contains("--root"), "{report}");
    }
    lab.build_text("FROM busybox\nRUN true\n", &[]).report(9);
    assert_eq!(fs::read(&index).unwrap(), before);
}

#[test]
fn a_store_that_may_only_be_read() {
    let lab = Lab::with_busybox();
    let text = "FROM busybox\nRUN echo a > /a\n";
    let digest = lab.build_text(text, &["-q", "-t", "app"]).success();
    tool("mount", &["--bind", &lab.at("store"), &lab.at("store")]);
    struct Unmount(String);
    impl Drop for Unmount {
        fn drop(&mut self) {
            tool("umount", &[&self.0]);
        }
    }
    let _unmount = Unmount(lab.at("store"));
    tool("mount", &["-o", "remount,bind,ro", &lab.at("store")]);
    assert!(!try_tool("touch", &[lab.at("store/x")]).status.success());

    assert!(lab.forge(&["images"]).success().contains("app"));
    assert_eq!(json(&lab.forge(&["inspect", "app"]).success())[0]["Digest"], digest.as_str());
    lab.forge(&["du"]).success();
    lab.forge(&["store", "verify"]).success();
    // What is cached is built, and written out.
    assert_eq!(lab.build_text(text, &["-q", "-t", "app"]).success(), digest);
    lab.build_text(text, &["-o", "type=oci,dest=out.tar"]).success();
    for outcome in [
        lab.build_text(text, &["-t", "other"]),
        lab.build_text("FROM busybox\nRUN echo b > /b\n", &[]),
        lab.forge(&["tag", "app", "other"]),
        lab.forge(&["rmi", "app"]),
        lab.forge(&["prune", "-a", "-f"]),
    ] {
        assert_eq!(outcome.code, 9, "{outcome}");
        assert!(outcome.stderr.to_lowercase().replace('-', " ").contains("read only"), "{outcome}");
    }
    assert!(largest(&lab.path("store/blobs/sha256")).exists());
}
