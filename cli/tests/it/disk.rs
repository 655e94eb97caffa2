//! A disk that is full: said clearly, nothing broken, and builds go on once there is space.

use std::path::PathBuf;

use crate::support::{Lab, tool};

/// A lab whose store is on a small disk of its own.
struct SmallDisk(Lab);

impl SmallDisk {
    fn new(megabytes: u32) -> Self {
        let lab = Lab::new();
        std::fs::create_dir(lab.path("store")).unwrap();
        let options = format!("size={megabytes}m,mode=755");
        tool("mount", &["-t", "tmpfs", "-o", &options, "forge-e2e", &lab.at("store")]);
        Self(lab)
    }

    fn free_bytes(&self) -> u64 {
        let stat = rustix::fs::statvfs(self.0.path("store")).unwrap();
        stat.f_bavail * stat.f_frsize
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        tool("umount", &[self.0.at("store")]);
    }
}

#[test]
fn a_step_that_fills_the_disk() {
    let disk = SmallDisk::new(24);
    disk.0.add_busybox();
    disk.0.build_text("FROM busybox\nRUN true\n", &[]).success();
    let before = disk.free_bytes();
    // The step itself sees ENOSPC, and fails as it likes.
    let text = "FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=64\n";
    let report = disk.0.build_text(text, &[]).report(1);
    assert!(report.contains("did not complete successfully: exit code: 1"), "{report}");
    assert!(before.abs_diff(disk.free_bytes()) < 1 << 20, "what it wrote is gone");
    disk.0.build_text("FROM busybox\nRUN echo small > /small\n", &[]).success();
}

#[test]
fn a_copy_that_fills_the_disk() {
    let disk = SmallDisk::new(24);
    disk.0.add_busybox();
    let context = disk.0.context("ctx", &[("Dockerfile", "FROM busybox\nCOPY big /\n"), ("big", "")]);
    // Bytes that do not compress: the layer goes from the context straight into its blob.
    let mut random = std::fs::File::open("/dev/urandom").unwrap();
    let mut big = std::fs::File::create(context.join("big")).unwrap();
    std::io::copy(&mut std::io::Read::take(&mut random, 40 << 20), &mut big).unwrap();
    let report = disk.0.build(&context, &[]).report(8);
    assert!(report.contains("No space left on device") && report.contains("Dockerfile:2:1\n"), "{report}");
    assert!(report.contains("help: free some space, or move the store with --root DIR"), "{report}");
    assert_eq!(disk.0.unfinished(), Vec::<PathBuf>::new());

    // The store is whole: what it has is used, and what fits is built.
    assert_eq!(disk.0.shell("busybox", "echo well"), "well");
    disk.0.file("ctx/big", "small now");
    disk.0.build(&context, &["-t", "next"]).success();
    assert_eq!(disk.0.shell("next", "cat /big"), "small now");
}

#[test]
fn a_layer_that_cannot_be_packed_for_want_of_space() {
    let disk = SmallDisk::new(24);
    disk.0.add_busybox();
    // The tree fits; its blob, of random bytes that do not compress, does not fit beside it.
    let text = "FROM busybox\nRUN dd if=/dev/urandom of=/big bs=1M count=13 2>/dev/null\n";
    let report = disk.0.build_text(text, &["-t", "big"]).report(8);
    assert!(report.contains("No space left on device") && report.contains("--root DIR"), "{report}");
    assert_eq!(disk.0.unfinished(), Vec::<PathBuf>::new());
    assert!(!disk.0.forge(&["images"]).success().contains("big"));
    disk.0.build_text("FROM busybox\nRUN echo small > /small\n", &[]).success();
}

#[test]
fn an_output_on_a_full_disk() {
    let disk = SmallDisk::new(4);
    let lab = Lab::with_busybox();
    let to = disk.0.at("store");
    for output in [
        format!("type=tar,dest={to}/fs.tar"),
        format!("type=oci,dest={to}/img.tar"),
        format!("type=local,dest={to}/fs"),
    ] {
        // Five megabytes of random bytes, whatever the output packs them in.
        let text = "FROM busybox\nRUN dd if=/dev/urandom of=/big bs=1M count=5 2>/dev/null\n";
        let report = lab.build_text(text, &["-o", &output]).report(8);
        assert!(report.contains("No space left on device") && report.contains("free some space"), "{report}");
        if !output.starts_with("type=local") {
            assert_eq!(std::fs::read_dir(&to).unwrap().count(), 0, "{output}: no half file stays");
        }
    }
}
