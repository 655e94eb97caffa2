//! Judges that fall for an attack: an input counts once it was seen to do harm somewhere. Debian's podman, whose builder
//! has the holes of its time; and a bare root directory, which is a sandbox with every guard left out.

use std::fs;
use std::process::{Command, Output, Stdio};

use super::Lab;

impl Lab {
    /// Builds by podman, on forge's own busybox.
    pub fn podman_builds(&self, dockerfile: &str) -> Output {
        self.podman_builds_for("300", dockerfile)
    }

    /// Whether podman is not done after 8 s.
    pub fn podman_hangs(&self, dockerfile: &str) -> bool {
        // What timeout(1) says of a command that it had to end.
        matches!(self.podman_builds_for("8", dockerfile).status.code(), Some(124 | 137))
    }

    fn podman_builds_for(&self, seconds: &str, dockerfile: &str) -> Output {
        if !self.path("podman").exists() {
            self.build_text("FROM busybox\n", &["-q", "-o", "type=docker,dest=podman.tar", "-t", "busybox"])
                .success();
            fs::create_dir(self.path("podman")).unwrap();
            let loaded = self.podman("300", &["load", "--quiet", "--input", &self.at("podman.tar")]);
            assert!(loaded.status.success(), "{loaded:?}");
        }
        let context = self.context("podman-ctx", &[("Dockerfile", dockerfile)]);
        let fixed = ["build", "--isolation=chroot", "--network=host", "--pull=never", "--layers=false"];
        self.podman(seconds, &[&fixed[..], &[context.to_str().unwrap()]].concat())
    }

    fn podman(&self, seconds: &str, args: &[&str]) -> Output {
        let at = |name: &str| self.at(&format!("podman/{name}"));
        let mut command = Command::new("timeout");
        command.args(["--kill-after=1", seconds, "podman", "--root", &at("root"), "--runroot", &at("run")]);
        command.args(["--tmpdir", &at("tmp"), "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"]);
        command.args(["--runtime", "runc", "--events-backend", "none"]).args(args).stdin(Stdio::null());
        command.output().unwrap_or_else(|e| panic!("cannot run podman: {e}"))
    }

    /// Runs a script in a plain root directory with busybox, as root, /proc, /sys and /dev being the host's.
    pub fn without_a_sandbox(&self, script: &str) -> Output {
        let root = self.at("bare");
        if !self.path("bare").exists() {
            self.build_text("FROM busybox\n", &["-q", "-o", &format!("type=local,dest={root}")]).success();
            for name in ["proc", "sys", "dev"] {
                fs::create_dir_all(self.path("bare").join(name)).unwrap();
            }
        }
        let mounts =
            "for d in proc sys dev; do mount --rbind /$d $1/$d; done; exec chroot \"$1\" sh -c \"$2\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", mounts, "sh", &root, script]).stdin(Stdio::null());
        command.output().unwrap()
    }
}
