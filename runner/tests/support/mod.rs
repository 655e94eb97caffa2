//! A place to try sandboxes in: a rootfs of busybox, the example program as the builder, root or an ordinary user.

#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use forge_runner::spec::{OverlayXattrs, Rootfs, SandboxSpec, Upper};
use tempfile::TempDir;

/// The user that tests without root run as.
pub const USER: &str = "forgetest";
/// Commands of busybox that the rootfs has.
const COMMANDS: [&str; 34] = [
    "sh", "cat", "ls", "id", "mount", "grep", "sed", "stat", "true", "false", "touch", "mkdir", "rm", "mv",
    "ln", "mknod", "head", "tail", "sleep", "hostname", "readlink", "nc", "sort", "awk", "kill", "find",
    "dd", "ps", "chmod", "env", "ip", "umount", "rmdir", "timeout",
];

/// Who builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Builder {
    Root,
    /// An ordinary user with subordinate ids.
    User,
    /// An ordinary user with one id.
    Single,
}

/// One directory with everything a sandbox needs.
pub struct Lab {
    directory: TempDir,
    builder: Builder,
    /// A command and its first arguments, which the builder is started by.
    pub wrapper: Vec<String>,
    /// The program; the example, if nothing else is said.
    pub program: Option<PathBuf>,
    /// Variables for it.
    pub env: Vec<(&'static str, String)>,
}

/// How a run went.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Lab {
    pub fn new(builder: Builder) -> Lab {
        assert!(rustix::process::geteuid().is_root(), "run the runner's tests as root");
        let directory = tempfile::Builder::new().prefix("forge-lab").tempdir_in("/tmp").unwrap();
        fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let lab = Lab { directory, builder, wrapper: Vec::new(), program: None, env: Vec::new() };
        let bin = lab.path("base/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::copy("/bin/busybox", bin.join("busybox")).expect("install busybox-static");
        for command in COMMANDS {
            symlink("busybox", bin.join(command)).unwrap();
        }
        for directory in ["upper", "work"] {
            fs::create_dir(lab.path(directory)).unwrap();
        }
        if builder != Builder::Root {
            let (uid, gid) = test_user();
            for directory in [".", "upper", "work"] {
                chown(lab.path(directory), Some(uid), Some(gid)).unwrap();
            }
        }
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes a directory of the lab; missing parents too.
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Writes a file of the lab.
    pub fn file(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, contents).unwrap();
        path
    }

    /// A sandbox over `lowers` (directories of the lab, topmost first).
    pub fn spec_over(&self, lowers: &[&str], args: &[&str]) -> SandboxSpec {
        let xattrs = if self.builder == Builder::Root { OverlayXattrs::Trusted } else { OverlayXattrs::User };
        let rootfs = Rootfs::Overlay {
            lowers: lowers.iter().map(|name| self.path(name)).collect(),
            upper: Some(Upper { upper: self.path("upper"), work: self.path("work") }),
            xattrs,
        };
        let mut spec = SandboxSpec::new(rootfs, args.iter().map(|arg| (*arg).to_owned()).collect());
        spec.env = vec!["PATH=/bin".into()];
        spec.resolv_conf = Some("nameserver 192.0.2.53\n".into());
        spec.hosts = Some("127.0.0.1 localhost\n".into());
        spec
    }

    pub fn spec(&self, args: &[&str]) -> SandboxSpec {
        self.spec_over(&["base"], args)
    }

    /// A shell script in the base rootfs.
    pub fn script(&self, script: &str) -> SandboxSpec {
        self.spec(&["sh", "-c", script])
    }

    pub fn run(&self, spec: &SandboxSpec) -> Outcome {
        self.run_with(spec, "auto")
    }

    /// Makes every run that follows one without these guards (`runner/src/guard.rs`), and with this command of the
    /// machine's shell run in the middle of each look-up.
    pub fn leave_out(&mut self, guards: &str, meanwhile: &str) {
        self.program = Some(unguarded_program().to_owned());
        self.env = vec![("FORGE_WITHOUT", guards.to_owned()), ("FORGE_MEANWHILE", meanwhile.to_owned())];
    }

    pub fn run_with(&self, spec: &SandboxSpec, backend: &str) -> Outcome {
        let mut child = self.start(spec, backend);
        drop(child.stdin.take());
        outcome(&child.wait_with_output().unwrap())
    }

    /// Starts the builder; its standard input is already written.
    pub fn start(&self, spec: &SandboxSpec, backend: &str) -> Child {
        let isolation = match self.builder {
            Builder::Root => "root",
            Builder::User => "subids",
            Builder::Single => "single",
        };
        let mut words = self.wrapper.clone();
        if self.builder != Builder::Root {
            words.extend(["runuser", "-u", USER, "--"].map(str::to_owned));
        }
        words.push(self.program.as_deref().unwrap_or_else(|| builder_program()).display().to_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).envs(self.env.iter().cloned());
        let mut child = command
            .arg(self.directory.path())
            .args([isolation, backend])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&serde_json::to_vec(spec).unwrap()).unwrap();
        child
    }

    /// Every path that the step left in the layer.
    pub fn layer(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect(&self.path("upper"), Path::new(""), &mut found);
        found.sort();
        found
    }
}

fn collect(root: &Path, below: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(root.join(below)).unwrap() {
        let entry = entry.unwrap();
        let path = below.join(entry.file_name());
        found.push(path.display().to_string());
        if entry.file_type().unwrap().is_dir() {
            collect(root, &path, found);
        }
    }
}

pub fn outcome(output: &Output) -> Outcome {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}

impl Outcome {
    /// Standard output of a run that must have succeeded.
    #[track_caller]
    pub fn success(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }

    /// Standard error of a run that must have failed with `code`.
    #[track_caller]
    pub fn failure(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        self.stderr
    }
}

/// The example program, where an ordinary user can execute it too.
pub fn builder_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| example("sandbox"))
}

/// The same program over a runner whose guards can be left out (`cli/unguarded`).
pub fn unguarded_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| example("sandbox-unguarded"))
}

/// A copy of an example program in a place that everybody can reach, removed by a later test.
pub fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let built = test.parent().unwrap().parent().unwrap().join("examples").join(name);
    let prefix = format!("forge-lab-{name}.");
    for entry in fs::read_dir("/tmp").unwrap().flatten() {
        let file = entry.file_name().into_string().unwrap_or_default();
        let owner = file.strip_prefix(&prefix).map(str::to_owned);
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_file(entry.path());
        }
    }
    let shared = Path::new("/tmp").join(format!("{prefix}{}", std::process::id()));
    assert!(built.exists(), "{name}: `cargo test --workspace` builds the examples of all packages");
    // By another program: a descriptor of ours that is open for writing would be inherited by a child that another
    // thread starts, and the kernel executes no file that anybody may still write to.
    run_tool("install", &["-m", "755", built.to_str().unwrap(), shared.to_str().unwrap()]);
    shared
}

/// User and group id of the test user, who is made if missing.
pub fn test_user() -> (u32, u32) {
    static IDS: OnceLock<(u32, u32)> = OnceLock::new();
    *IDS.get_or_init(|| {
        // Test programs run one after the other, but other users of this machine may do the same.
        let lock = fs::File::create("/tmp/forge-lab-user.lock").unwrap();
        lock.lock().unwrap();
        let id = |flag: &str| -> Option<u32> {
            let output = Command::new("id").args([flag, USER]).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().parse().ok()
        };
        if id("-u").is_none() {
            run_tool("useradd", &["--create-home", USER]);
        }
        if !fs::read_to_string("/etc/subuid").unwrap_or_default().contains(USER) {
            run_tool("usermod", &["--add-subuids", "100000-165535", "--add-subgids", "100000-165535", USER]);
        }
        (id("-u").unwrap(), id("-g").unwrap())
    })
}

/// Runs a tool of the machine that must be there and must succeed.
#[track_caller]
pub fn run_tool(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|_| panic!("install {program}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Compares with a golden file of `testdata/sandbox`; `FORGE_BLESS=1` writes it instead.
#[track_caller]
pub fn golden(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/sandbox").join(name);
    if std::env::var_os("FORGE_BLESS").is_some() {
        fs::write(&path, actual).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(actual, expected, "{} differs; FORGE_BLESS=1 accepts what is", path.display());
}
