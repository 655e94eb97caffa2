//! A layer that unpacks to more than there is room for does not fill the disk to its last byte.

use crate::support::{Lab, tool};

struct SmallDisk(Lab);

impl Drop for SmallDisk {
    fn drop(&mut self) {
        tool("umount", &[self.0.at("store")]);
    }
}

#[test]
fn unpacking_leaves_space_for_others() {
    let maker = Lab::with_busybox();
    let text = "FROM busybox\nRUN dd if=/dev/zero of=/zeros bs=1M count=120\n";
    let layout = format!("type=oci,dest={}/", maker.at("bomb"));
    maker.build_text(text, &["-t", "b:1", "-o", &layout]).success();

    let disk = SmallDisk(Lab::new());
    let lab = &disk.0;
    std::fs::create_dir(lab.path("store")).unwrap();
    tool("mount", &["-t", "tmpfs", "-o", "size=112m,mode=755", "forge-e2e", &lab.at("store")]);
    let context = format!("b=oci-layout://{}:1", maker.at("bomb"));
    let report = lab.build_text("FROM b\nRUN true\n", &["--build-context", &context]).report(8);
    assert!(report.contains("unpacking would leave less than 7340032 bytes free"), "{report}");
    assert!(lab.unfinished().is_empty());
    // The store is whole, and what fits is built.
    lab.build_text("FROM scratch\nCOPY Dockerfile /\n", &["-t", "small"]).success();
}
