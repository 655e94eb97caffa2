//! Judges that fall for an attack: an input counts once it was seen to do harm somewhere. Debian's podman, whose builder
//! has the holes of its time, its containerd too; and a bare root directory, which is a sandbox with every guard left
//! out. A forge without single guards is [`Lab::leave_out`].

use std::fs;
use std::process::{Command, Output, Stdio};

use super::{Lab, soon};

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

    /// Runs a container of an image by Debian's containerd, which looks after containers every second, until
    /// `happened`.
    pub fn containerd_runs(&self, image: &str, happened: impl FnMut() -> bool) {
        let archive = self.at("containerd.tar");
        let text = format!("FROM {image}\nCMD [\"true\"]\n");
        self.build_text(&text, &["-q", "-o", &format!("type=docker,dest={archive}"), "-t", "judged"])
            .success();
        let home = self.context("containerd", &[]).display().to_string();
        let config = format!(
            "version = 2\nroot = \"{home}/root\"\nstate = \"{home}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.snapshotter.v1.btrfs\"]\n\
             [grpc]\naddress = \"{home}/socket\"\n\
             [plugins.\"io.containerd.internal.v1.restart\"]\ninterval = \"1s\"\n"
        );
        self.file("containerd/config.toml", &config);
        let script = "containerd -c \"$1/config.toml\" & \
                      until [ -S \"$1/socket\" ]; do sleep 0.1; done; \
                      ctr -a \"$1/socket\" images import --snapshotter native \"$2\"; \
                      ctr -a \"$1/socket\" run -d --snapshotter native docker.io/library/judged:latest judged true; \
                      wait";
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
            script,
            "sh",
        ]);
        let log = fs::File::create(self.path("containerd/log")).unwrap();
        command.args([&home, &archive]).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot run unshare: {e}"));
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            soon("containerd falls for it", happened)
        }));
        let _ = child.kill();
        let _ = child.wait();
        let log = fs::read_to_string(self.path("containerd/log")).unwrap_or_default();
        assert!(seen.is_ok(), "{log}");
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
