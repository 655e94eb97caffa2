//! A layer that unpacks to more than there is room for does not fill the disk to its last byte.

use crate::support::{Lab, tool};

/// A lab whose store lies on a file system of its own.
pub struct SmallDisk(pub Lab);

impl SmallDisk {
    pub fn of_mebibytes(size: u32) -> Self {
        let disk = Self(Lab::new());
        std::fs::create_dir(disk.0.path("store")).unwrap();
        let options = format!("size={size}m,mode=755");
        tool("mount", &["-t", "tmpfs", "-o", &options, "forge-e2e", &disk.0.at("store")]);
        disk
    }
}

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

    let disk = SmallDisk::of_mebibytes(112);
    let lab = &disk.0;
    let context = format!("b=oci-layout://{}:1", maker.at("bomb"));
    let report = lab.build_text("FROM b\nRUN true\n", &["--build-context", &context]).report(8);
    assert!(report.contains("unpacking would leave less than 7340032 bytes free"), "{report}");
    assert!(lab.unfinished().is_empty());
    // The store is whole, and what fits is built.
    lab.build_text("FROM scratch\nCOPY Dockerfile /\n", &["-t", "small"]).success();
}
