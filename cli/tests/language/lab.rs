//! A place where forge and buildah build the same context on the same base.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

use super::name;
use super::outcome::{Outcome, Tree, tree};

/// What buildah's chroot needs as mount points and leaves behind.
const STUBS: [&str; 5] = ["etc/hosts", "etc/hostname", "etc/resolv.conf", "run/.containerenv", "run/secrets"];

/// Stores of both builders with `busybox` in them; gone with the value.
pub struct Lab {
    dir: TempDir,
    base: Tree,
    judge: OnceLock<()>,
}

impl Lab {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("forge-language-").tempdir().unwrap();
        let mut lab = Self { dir, base: Tree::new(), judge: OnceLock::new() };
        let context = lab.at("base");
        lay_out(&context.join("rootfs"));
        let rootfs = context.join("rootfs");
        let fixed = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@1000000000"];
        let tar = context.join("rootfs.tar");
        run(Command::new("tar").arg("-C").arg(&rootfs).arg("-cf").arg(&tar).args(fixed).arg("."));
        fs::write(context.join("Dockerfile"), "FROM scratch\nADD rootfs.tar /\n").unwrap();
        let archive = format!("type=oci,dest={}", lab.at("base-oci.tar").display());
        let args = ["-q", "-t", "busybox", "-o", "type=image", "-o", &archive];
        run(lab.command().arg("build").args(args).arg(&context));
        lab.base = tree(&tar);
        lab
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forge"));
        command.arg("--root").arg(self.at("store"));
        command
    }

    /// A case's context, made ready.
    pub fn context(&self, case: &Path) -> PathBuf {
        let context = self.at("contexts").join(name(case));
        fs::create_dir_all(context.parent().unwrap()).unwrap();
        run(Command::new("cp").arg("-r").arg(case).arg(&context));
        if context.join("setup.sh").exists() {
            run(Command::new("sh").args(["-eu", "setup.sh"]).current_dir(&context));
        }
        for name in ["setup.sh", "args", "expect.json", "why.txt"] {
            let _ = fs::remove_file(context.join(name));
        }
        context
    }

    /// What forge makes of it.
    pub fn forge(&self, context: &Path, case: &Path) -> Outcome {
        let (tag, tar) = (name(case), self.at(&format!("{}.tar", name(case))));
        let mut command = self.command();
        command.args(["build", "-q", "--progress=none", "-t", &tag, "-o", "type=image"]);
        command
            .arg("-o")
            .arg(format!("type=tar,dest={}", tar.display()))
            .args(args(context, case))
            .arg(context);
        let output = output(&mut command);
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            let error = text.lines().find(|line| line.starts_with("error")).unwrap_or(&text);
            return Outcome(serde_json::json!({ "error": error }));
        }
        let config = run(self.command().args(["inspect", "--config", &tag]));
        let tree = tree(&tar);
        fs::remove_file(tar).unwrap();
        Outcome::of_image(&serde_json::from_str(&config).unwrap(), &tree, &self.base)
    }

    /// What buildah makes of it, or what it says if it does not.
    pub fn buildah(&self, context: &Path, case: &Path) -> Result<Outcome, String> {
        self.judge.get_or_init(|| {
            run(self.buildah_command().arg("pull").arg(self.oci_archive()));
        });
        let (tag, tar) = (name(case), self.at(&format!("{}-buildah.tar", name(case))));
        let mut command = self.buildah_command();
        command.args([
            "bud",
            "-q",
            "--isolation=chroot",
            "--layers=false",
            "--pull=never",
            "--format=docker",
        ]);
        command.arg("-o").arg(format!("type=tar,dest={}", tar.display()));
        let output = output(command.args(["-t", &tag]).args(args(context, case)).arg(context));
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let mut tree = tree(&tar);
        tree.retain(|path, _| !STUBS.contains(&path.as_str()));
        fs::remove_file(tar).unwrap();
        let image = run(self.buildah_command().args(["inspect", "--type=image", &tag]));
        let mut image = serde_json::from_str::<Value>(&image).unwrap()["Docker"].take();
        plain(&mut image);
        Ok(Outcome::of_image(&image, &tree, &self.base))
    }

    fn oci_archive(&self) -> String {
        format!("oci-archive:{}", self.at("base-oci.tar").display())
    }

    fn buildah_command(&self) -> Command {
        let mut command = Command::new("buildah");
        command.arg("--storage-driver=vfs").arg("--root").arg(self.at("buildah"));
        command.arg("--runroot").arg(self.at("buildah-run"));
        command
    }
}

/// Evens out what buildah writes in its own way.
fn plain(image: &mut Value) {
    let config = image["config"].as_object_mut().unwrap();
    if let Some(Value::Object(labels)) = config.get_mut("Labels") {
        labels.remove("io.buildah.version");
    }
    // Empty where an image begins with nothing.
    if config.get("WorkingDir").is_none_or(|dir| dir == "") {
        config.insert("WorkingDir".into(), "/".into());
    }
}

fn args(context: &Path, case: &Path) -> Vec<String> {
    let text = fs::read_to_string(case.join("args")).unwrap_or_default();
    text.lines().map(|line| line.replace("CONTEXT", context.to_str().unwrap())).collect()
}

/// The base's tree: busybox, two users and the usual mount points.
fn lay_out(root: &Path) {
    let directories = ["bin", "dev", "etc", "home", "proc", "run", "sys"].map(|name| (name, 0o755));
    for (name, mode) in directories.into_iter().chain([("root", 0o700), ("tmp", 0o1777), ("", 0o755)]) {
        let path = root.join(name);
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("install busybox-static");
    for applet in run(Command::new("/bin/busybox").arg("--list")).lines().filter(|name| *name != "busybox") {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home:/bin/sh\n")
        .unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\napp:x:1000:\nstaff:x:50:app\n").unwrap();
}

fn output(command: &mut Command) -> Output {
    let program = command.get_program().to_string_lossy().into_owned();
    command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("cannot run {program}: {e}; install {program}"))
}

/// Runs a program that must succeed; gives its standard output.
fn run(command: &mut Command) -> String {
    let output = output(command);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {errors}", output.status);
    String::from_utf8(output.stdout).unwrap()
}
