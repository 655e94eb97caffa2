//! Base images, without a registry: busybox from Debian's static binary, Debian by mmdebstrap.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::tool;

/// A root filesystem of busybox, as a tar; made once in each process.
pub fn busybox_rootfs() -> &'static [u8] {
    static TAR: OnceLock<Vec<u8>> = OnceLock::new();
    TAR.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("rootfs");
        lay_out(&root);
        let tar = dir.path().join("rootfs.tar");
        let (root, to) = (root.to_str().unwrap(), tar.to_str().unwrap());
        let fixed = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@1000000000"];
        tool("tar", &[&["-C", root, "-cf", to], &fixed[..], &["."]].concat());
        fs::read(tar).unwrap()
    })
}

fn lay_out(root: &Path) {
    let directories =
        [("", 0o755), ("bin", 0o755), ("etc", 0o755), ("home", 0o755), ("root", 0o700), ("tmp", 0o1777)];
    for (name, mode) in directories {
        let path = root.join(name);
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }
    let busybox = root.join("bin/busybox");
    fs::copy("/bin/busybox", &busybox).expect("install busybox-static");
    for applet in tool("/bin/busybox", &["--list"]).lines().filter(|name| *name != "busybox") {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home:/bin/sh\n")
        .unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\napp:x:1000:\nstaff:x:50:app\n").unwrap();
}

/// A root filesystem of Debian 12, as a tar; made once and kept beside the build's other files.
pub fn debian_rootfs() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bases");
    fs::create_dir_all(&dir).unwrap();
    let made = dir.join("debian-bookworm.tar");
    // Other test processes wait here for the first one.
    let lock = File::create(dir.join("lock")).unwrap();
    lock.lock().unwrap();
    if !made.exists() {
        let aside = dir.join("aside.tar");
        let mut command = Command::new("mmdebstrap");
        command.args(["--quiet", "--variant=minbase", "bookworm"]).arg(&aside);
        let output = command.output().unwrap_or_else(|e| panic!("{e}; install mmdebstrap"));
        assert!(output.status.success(), "mmdebstrap: {}", String::from_utf8_lossy(&output.stderr));
        fs::rename(aside, &made).unwrap();
    }
    made
}
