//! One run of git, with nothing of its surroundings but what is listed here.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use forge_solver::op::Access;
use forge_solver::{TroubleKind, WorldError};

use super::GitSettings;
use crate::userns::find_program;

/// The most that is read of what git says, in bytes.
const OUTPUT_BYTES_MAX: u64 = 16 << 20;

/// How often a running git is looked at.
const CHECK: Duration = Duration::from_millis(10);

/// Ssh without the user's settings and keys: what it may use comes from the agent in its environment.
const SSH_WITHOUT_KEYS: &str =
    "ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=yes -o IdentityFile=/dev/null";
/// Ssh as the user has it, but never asking.
const SSH_OF_USER: &str = "ssh -o BatchMode=yes";

/// Files of `~/.ssh`, and the options that name them.
const SSH_FILES: [(&str, &str); 5] = [
    ("-F ", "config"),
    ("-o UserKnownHostsFile=", "known_hosts"),
    ("-o IdentityFile=", "id_ed25519"),
    ("-o IdentityFile=", "id_ecdsa"),
    ("-o IdentityFile=", "id_rsa"),
];

/// What git may not do, in its own terms.
const SETTINGS: [(&str, &str); 19] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.autocrlf", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.excludesFile", "/dev/null"),
    ("core.symlinks", "true"),
    ("core.pager", "cat"),
    ("credential.helper", ""),
    ("credential.interactive", "false"),
    ("http.followRedirects", "initial"),
    // A connection on which nothing moves for half a minute is dead.
    ("http.lowSpeedLimit", "1"),
    ("http.lowSpeedTime", "30"),
    ("protocol.version", "2"),
    ("transfer.bundleURI", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("submodule.recurse", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("advice.detachedHead", "false"),
];

/// In a user namespace ssh takes the user for root and looks for root's files: so it is told where the user's are.
fn ssh_of_user(settings: &GitSettings) -> String {
    let home = settings.user.iter().find(|(name, _)| name == "HOME").map(|(_, home)| PathBuf::from(home));
    let dir = home.map(|home| home.join(".ssh"));
    // The command goes through a shell; a home whose name that would take apart is left to ssh itself.
    let plain = |text: &&str| text.chars().all(|c| c.is_alphanumeric() || "/._-".contains(c));
    let Some(dir) = dir.as_deref().and_then(Path::to_str).filter(plain) else { return SSH_OF_USER.into() };
    let there = SSH_FILES.iter().filter(|(_, name)| Path::new(dir).join(name).is_file());
    there.fold(SSH_OF_USER.to_owned(), |command, (option, name)| format!("{command} {option}{dir}/{name}"))
}

/// Git, ready to be run.
pub struct Git {
    program: PathBuf,
    environment: Vec<(OsString, OsString)>,
    settings: Vec<(String, String)>,
    /// The repository, for messages.
    shown: String,
}

impl Git {
    /// Finds git; `shown` names the repository in messages.
    pub fn new(settings: &GitSettings, shown: &str) -> Result<Self, WorldError> {
        let program = find_program("git", &settings.search_path).ok_or_else(|| {
            WorldError::new(
                TroubleKind::System,
                format!("cannot fetch {shown}: there is no git on this machine"),
            )
            .hint("install the package git")
        })?;
        let fixed = [
            ("PATH", settings.search_path.as_str()),
            ("LC_ALL", "C"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_SYSTEM", "/dev/null"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_ALLOW_PROTOCOL", "https:http:ssh:git"),
            ("GIT_PROTOCOL_FROM_USER", "0"),
            ("GIT_LFS_SKIP_SMUDGE", "1"),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
        ];
        let fixed = fixed.into_iter().map(|(name, value)| (name.into(), value.into()));
        Ok(Self {
            program,
            environment: fixed.chain(settings.environment.iter().cloned()).collect(),
            settings: SETTINGS.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
            shown: shown.to_owned(),
        })
    }

    /// Sets one more option of git's.
    pub fn configure(&mut self, key: &str, value: &str) {
        self.settings.push((key.to_owned(), value.to_owned()));
    }

    /// Says whose keys ssh uses, and whose files: without a home there is no `.netrc` to find passwords in.
    pub fn allow_keys(&mut self, access: Access, settings: &GitSettings, agent: Option<&Path>) {
        let mut set = |name: &str, value: OsString| self.environment.push((name.into(), value));
        match access {
            Access::User => {
                set("GIT_SSH_COMMAND", ssh_of_user(settings).into());
                settings.user.iter().for_each(|(name, value)| set(&name.to_string_lossy(), value.clone()));
            }
            Access::Given => {
                set("GIT_SSH_COMMAND", SSH_WITHOUT_KEYS.into());
                set("HOME", "/nonexistent".into());
            }
        }
        if let Some(agent) = agent {
            set("SSH_AUTH_SOCK", agent.into());
        }
    }

    /// Runs git in `dir`; gives what it says on standard output.
    pub fn run(
        &self,
        dir: &Path,
        words: &[&str],
        cancelled: &dyn Fn() -> bool,
    ) -> Result<String, WorldError> {
        let mut command = Command::new(&self.program);
        command.args(words).current_dir(dir).env_clear().envs(self.environment.iter().cloned());
        // Git looks for a repository in `dir` and nowhere above it.
        command.env("GIT_CEILING_DIRECTORIES", dir.parent().unwrap_or(dir));
        command.env("GIT_CONFIG_COUNT", self.settings.len().to_string());
        for (at, (key, value)) in self.settings.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{at}"), key).env(format!("GIT_CONFIG_VALUE_{at}"), value);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        crate::sys::die_with_this_thread(&mut command);
        let failed = |e: std::io::Error| {
            WorldError::new(TroubleKind::System, format!("cannot run {}: {e}", self.program.display()))
        };
        let mut child = command.spawn().map_err(failed)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (status, said, complaints) = std::thread::scope(|scope| {
            let said = scope.spawn(|| read(stdout));
            let complaints = scope.spawn(|| read(stderr));
            let status = wait(&mut child, cancelled);
            (status, said.join().unwrap_or_default(), complaints.join().unwrap_or_default())
        });
        match status.map_err(failed)? {
            None => Err(WorldError::new(TroubleKind::Cancelled, "cancelled")),
            Some(status) if status.success() => Ok(said),
            Some(status) => Err(self.failure(status, &complaints)),
        }
    }

    fn failure(&self, status: ExitStatus, complaints: &str) -> WorldError {
        let words: Vec<&str> = complaints.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let clean: String = words.join("; ").chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let detail: String = clean.chars().take(500).collect();
        let detail = if detail.is_empty() { format!("git ended with {status}") } else { detail };
        let has = |text: &str| complaints.contains(text);
        let error = WorldError::new(TroubleKind::Registry, format!("cannot fetch {}: {detail}", self.shown));
        if has("Permission denied (publickey") {
            error.hint("give the build an agent that has the key: --ssh default")
        } else if has("Host key verification failed") {
            error.hint("add the host to ~/.ssh/known_hosts: ssh-keyscan HOST")
        } else if has("could not read Username") || has("Authentication failed") {
            error.hint("give the build a token: --secret id=GIT_AUTH_TOKEN,env=NAME")
        } else if has("not allowed") {
            error.hint("forge fetches by https, http, ssh and git only, submodules too")
        } else {
            error
        }
    }
}

/// Waits for the end; `None` if it was ended because the build was cancelled.
fn wait(child: &mut Child, cancelled: &dyn Fn() -> bool) -> std::io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if cancelled() {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(CHECK);
    }
}

/// Reads all that is said, and keeps the beginning.
fn read(stream: Option<impl Read>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let mut kept = Vec::new();
    let _ = stream.by_ref().take(OUTPUT_BYTES_MAX).read_to_end(&mut kept);
    // The rest is read too, so that nobody waits for room in the pipe.
    let _ = std::io::copy(&mut stream, &mut std::io::sink());
    String::from_utf8_lossy(&kept).into_owned()
}
