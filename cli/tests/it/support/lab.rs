//! A directory with a store, contexts and a home, and forge in it: as root, or as an ordinary user.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

use super::base::busybox_rootfs;
use super::{tool, try_tool};

/// The user that tests without root run as.
const USER: &str = "forgetest";

/// The only variables that forge sees, beside HOME.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Who builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builder {
    /// Root of the machine.
    Root,
    /// A user with subordinate ids.
    User,
}

/// One test's place; gone with the value.
pub struct Lab {
    dir: TempDir,
    pub builder: Builder,
    /// A command and its first arguments, which forge is started by.
    pub wrapper: Vec<String>,
    /// Variables beside PATH and HOME.
    pub env: Vec<(String, String)>,
    /// Another forge than the one that is shipped.
    program: Option<PathBuf>,
    /// The store's directory in the lab.
    pub store: String,
}

impl Lab {
    /// With an empty store, as root.
    pub fn new() -> Self {
        Self::of(Builder::Root)
    }

    /// With an empty store.
    pub fn of(builder: Builder) -> Self {
        assert!(rustix::process::geteuid().is_root(), "run these tests as root");
        let dir = tempfile::Builder::new().prefix("forge-e2e-").tempdir().unwrap();
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let lab =
            Self { dir, builder, wrapper: Vec::new(), env: Vec::new(), program: None, store: "store".into() };
        fs::create_dir(lab.path("home")).unwrap();
        if builder == Builder::User {
            // The test's own program may stand where only root can go.
            let copy = lab.path("forge");
            let own = env!("CARGO_BIN_EXE_forge");
            fs::hard_link(own, &copy).or_else(|_| fs::copy(own, &copy).map(drop)).unwrap();
            let (uid, gid) = test_user();
            for dir in [lab.path(""), lab.path("home")] {
                chown(dir, Some(uid), Some(gid)).unwrap();
            }
        }
        lab
    }

    /// With `busybox` in the store, as root.
    pub fn with_busybox() -> Self {
        let lab = Self::new();
        lab.add_busybox();
        lab
    }

    /// Puts `busybox` into the store.
    pub fn add_busybox(&self) {
        self.add_base("busybox", |to| fs::write(to, busybox_rootfs()).unwrap(), r#"CMD ["sh"]"#);
    }

    /// Makes a base image of a tar, by forge itself; gives its digest.
    pub fn add_base(&self, name: &str, write: impl FnOnce(&Path), config: &str) -> String {
        let dockerfile = format!("FROM scratch\nADD rootfs.tar /\n{config}\n");
        let context =
            self.context(&format!("base-{}", name.replace(':', "-")), &[("Dockerfile", &dockerfile)]);
        write(&context.join("rootfs.tar"));
        let digest = self.build(&context, &["-q", "-t", name]).success();
        fs::remove_dir_all(context).unwrap();
        digest
    }

    /// Makes every forge that follows one without these guards (`runner/src/guard.rs`), and with this command of the
    /// machine's shell run in the middle of each look-up.
    pub fn leave_out(&mut self, guards: &str, meanwhile: &str) {
        self.stand_guard();
        let own = std::env::current_exe().unwrap();
        let built = own.ancestors().nth(2).unwrap().join("examples/forge-unguarded");
        let copy = self.path("forge-unguarded");
        if !copy.exists() {
            fs::hard_link(&built, &copy)
                .or_else(|_| fs::copy(&built, &copy).map(drop))
                .expect("`cargo test --workspace` builds the examples of all packages");
        }
        self.program = Some(copy);
        let variables = [("FORGE_WITHOUT", guards), ("FORGE_MEANWHILE", meanwhile)];
        self.env.extend(variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    /// Makes every forge that follows the one that is shipped.
    pub fn stand_guard(&mut self) {
        self.program = None;
        self.env.retain(|(name, _)| name != "FORGE_WITHOUT" && name != "FORGE_MEANWHILE");
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The same, as text.
    pub fn at(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Writes a file; gives its path.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Makes a directory with these files; gives its path.
    pub fn context(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let dir = self.path(name);
        fs::create_dir_all(&dir).unwrap();
        for (file, text) in files {
            self.file(&format!("{name}/{file}"), text);
        }
        dir
    }

    /// forge with its store, a clean environment and no input, in the lab's directory.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut words = self.wrapper.clone();
        let mut own = env!("CARGO_BIN_EXE_forge").to_owned();
        if self.builder == Builder::User {
            let (uid, gid) = test_user();
            let identity = [format!("--reuid={uid}"), format!("--regid={gid}"), "--init-groups".into()];
            words.push("/usr/bin/setpriv".into());
            words.extend(identity);
            own = self.at("forge");
        }
        if let Some(program) = &self.program {
            own = program.to_str().unwrap().to_owned();
        }
        words.push(own);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg("--root").arg(self.path(&self.store)).args(args);
        command.current_dir(self.path("")).env_clear().env("PATH", PATH).env("HOME", self.path("home"));
        command.envs(self.env.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs forge to its end.
    pub fn forge(&self, args: &[&str]) -> Outcome {
        self.command(args).output().unwrap().into()
    }

    /// Starts forge.
    pub fn start(&self, args: &[&str]) -> Started {
        Started(Some(self.command(args).spawn().unwrap()))
    }

    /// Runs forge to its end, with this on standard input.
    pub fn forge_with_input(&self, args: &[&str], input: &str) -> Outcome {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap().into()
    }

    /// `forge build ARGS CONTEXT`.
    pub fn build(&self, context: &Path, args: &[&str]) -> Outcome {
        self.forge(&[&["build"], args, &[context.to_str().unwrap()]].concat())
    }

    /// `forge build ARGS` of a context that is just this Dockerfile, in the directory `ctx`.
    pub fn build_text(&self, dockerfile: &str, args: &[&str]) -> Outcome {
        self.build(&self.context("ctx", &[("Dockerfile", dockerfile)]), args)
    }

    /// What stands under a name: `forge inspect --config`, read.
    pub fn config(&self, name: &str) -> serde_json::Value {
        super::json(&self.forge(&["inspect", "--config", name]).success())
    }

    /// Runs a command in a container of `image`; gives its standard output.
    #[track_caller]
    pub fn shell(&self, image: &str, script: &str) -> String {
        self.forge(&["run", "--rm", "--network", "none", image, "sh", "-c", script]).success()
    }

    /// What is unfinished in the store: nothing, unless a forge is at work in it.
    pub fn unfinished(&self) -> Vec<PathBuf> {
        let of = |dir: &str| fs::read_dir(self.path("store").join(dir)).into_iter().flatten().flatten();
        of("tmp").chain(of("ingest")).map(|entry| entry.path()).collect()
    }
}

/// A forge under way; killed with the value, so that a test that fails leaves none behind.
pub struct Started(Option<Child>);

impl Started {
    fn child(&mut self) -> &mut Child {
        self.0.as_mut().expect("taken by `finish` only")
    }

    pub fn pid(&mut self) -> u32 {
        self.child().id()
    }

    /// Sends a signal: `-TERM`.
    pub fn send(&mut self, signal: &str) {
        tool("kill", &[signal, &self.pid().to_string()]);
    }

    /// Standard output, while it runs.
    pub fn stdout(&mut self) -> ChildStdout {
        self.child().stdout.take().unwrap()
    }

    /// Standard error, while it runs.
    pub fn stderr(&mut self) -> ChildStderr {
        self.child().stderr.take().unwrap()
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Outcome {
        self.0.take().unwrap().wait_with_output().unwrap().into()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// How a run of forge went.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

impl Outcome {
    /// Standard output, without its last newline, of a run that must have succeeded.
    #[track_caller]
    pub fn success(self) -> String {
        assert_eq!(self.code, 0, "{self}");
        self.stdout.trim_end_matches('\n').to_owned()
    }

    /// Standard error of a run that must have failed with `code` and must have printed no result.
    #[track_caller]
    pub fn failure(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self}");
        assert_eq!(self.stdout, "", "{self}");
        self.stderr
    }

    /// The report at the end of standard error: what follows the progress.
    #[track_caller]
    pub fn report(self, code: i32) -> String {
        let text = self.failure(code);
        let start = text.find("error: ").unwrap_or_else(|| panic!("no report: {text}"));
        text[start..].to_owned()
    }

    /// Labels of the steps that were taken from the cache, and of those that were not.
    pub fn steps(&self) -> (Vec<String>, Vec<String>) {
        let (mut cached, mut done) = (Vec::new(), Vec::new());
        for (number, label) in self.stderr.lines().filter_map(numbered) {
            if !label.starts_with('[') || label.starts_with("[internal]") {
                continue;
            }
            let has =
                |end: &str| self.stderr.lines().any(|line| line.starts_with(&format!("#{number} {end}")));
            let list = if has("CACHED") { &mut cached } else { &mut done };
            if !list.contains(&label.to_owned()) {
                list.push(label.to_owned());
            }
        }
        (cached, done)
    }
}

/// `#5 text`, taken apart.
fn numbered(line: &str) -> Option<(u32, &str)> {
    let (number, text) = line.strip_prefix('#')?.split_once(' ')?;
    Some((number.parse().ok()?, text))
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {}\n-- stdout\n{}-- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}

/// User and group id of the test user, who is made if missing.
fn test_user() -> (u32, u32) {
    static IDS: OnceLock<(u32, u32)> = OnceLock::new();
    *IDS.get_or_init(|| {
        let lock = fs::File::create("/tmp/forge-lab-user.lock").unwrap();
        lock.lock().unwrap();
        let id = |flag: &str| -> Option<u32> {
            String::from_utf8(try_tool("id", &[flag, USER]).stdout).unwrap().trim().parse().ok()
        };
        if id("-u").is_none() {
            tool("useradd", &["--create-home", USER]);
        }
        if !fs::read_to_string("/etc/subuid").unwrap_or_default().contains(USER) {
            tool("usermod", &["--add-subuids", "100000-165535", "--add-subgids", "100000-165535", USER]);
        }
        // Desktops let everyone open these devices, bare machines do not; networks and stacks of a user need them.
        for device in ["/dev/net/tun", "/dev/fuse"].map(Path::new).into_iter().filter(|path| path.exists()) {
            fs::set_permissions(device, PermissionsExt::from_mode(0o666)).unwrap();
        }
        (id("-u").unwrap(), id("-g").unwrap())
    })
}
