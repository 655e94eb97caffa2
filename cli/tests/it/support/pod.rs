//! Places where forge is not let do what it likes: a container without privileges, a kernel that refuses file systems, a
//! store that overlayfs takes no upper directory on.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::{Builder, Lab, tool};

/// Docker's fourteen capabilities.
pub const DOCKERS: &str = "a80425fb";

impl Lab {
    /// With an empty store, as root of a container with these capabilities, which may make no namespace and no mount.
    pub fn in_pod(capabilities: &str) -> Self {
        let mut lab = Self::new();
        lab.wrapper = vec![compiled("pod").to_str().unwrap().into(), capabilities.into()];
        lab
    }

    /// With an empty store, where the kernel mounts none of these file systems (with commas between).
    pub fn without(file_systems: &str, builder: Builder) -> Self {
        let mut lab = Self::of(builder);
        lab.wrapper = vec![compiled("policy").to_str().unwrap().into(), file_systems.into()];
        lab
    }

    /// With an empty store on a file system that the kernel stacks no writable layer on: an overlay itself.
    pub fn on_overlay() -> Self {
        let mut lab = Self::new();
        for dir in ["store", "disk/up", "disk/work", "disk/low"] {
            fs::create_dir_all(lab.path(dir)).unwrap();
        }
        let disk = lab.at("disk");
        let options = format!("lowerdir={disk}/low,upperdir={disk}/up,workdir={disk}/work");
        let script = format!("mount -t overlay overlay -o {options} {} && exec \"$@\"", lab.at("store"));
        lab.wrapper = ["unshare", "--mount", "sh", "-c", &script, "sh"].map(String::from).into();
        lab
    }
}

/// A program of testdata/sandbox that starts others in a poorer place; made once and kept beside the build's other files.
pub fn compiled(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pod");
    fs::create_dir_all(&dir).unwrap();
    let made = dir.join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/sandbox").join(format!("{name}.c"));
    let lock = File::create(dir.join("lock")).unwrap();
    lock.lock().unwrap();
    let age = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    if age(&made) < age(&source) {
        tool("gcc", &["-O", "-Wall", "-static", "-o", made.to_str().unwrap(), source.to_str().unwrap()]);
    }
    made
}
