//! Git repositories, served by git's own daemon.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::soon;

/// A daemon that serves the repositories that are made in it; killed with the value.
pub struct GitDaemon {
    child: Child,
    dir: TempDir,
    host: String,
}

impl GitDaemon {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The port may be taken by someone else between the look and the start: then another is tried.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut command = Command::new("git");
            command.args(["daemon", "--listen=127.0.0.1", "--export-all", "--reuseaddr"]);
            command.arg(format!("--port={port}")).arg(format!("--base-path={}", dir.path().display()));
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            // `git daemon` has a child of its own, which must not outlive it.
            let mut child = command.process_group(0).spawn().expect("cannot run git; install git");
            let host = format!("127.0.0.1:{port}");
            let mut ended = false;
            soon("git daemon listens", || {
                ended = child.try_wait().unwrap().is_some();
                ended || TcpStream::connect(&host).is_ok()
            });
            if !ended {
                return Self { child, dir, host };
            }
        }
        panic!("git daemon does not start");
    }

    /// The address of a repository.
    pub fn url(&self, name: &str) -> String {
        format!("git://{}/{name}.git", self.host)
    }

    /// Makes a repository of one commit, whose files `fill` writes.
    pub fn repository(&self, name: &str, fill: impl FnOnce(&Path)) -> Repository {
        let dir = self.dir.path().join(format!("{name}.git"));
        fs::create_dir(&dir).unwrap();
        let repository = Repository { dir };
        repository.git(&["init", "-q", "--initial-branch=main"]);
        fill(&repository.dir);
        repository.commit("one");
        repository
    }
}

impl Drop for GitDaemon {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

/// One repository, with its files beside it.
pub struct Repository {
    pub dir: PathBuf,
}

impl Repository {
    /// Runs git in it, without the configuration of whoever runs the tests.
    pub fn git(&self, args: &[&str]) -> String {
        let mut command = Command::new("git");
        command.args([
            "-c",
            "user.name=T",
            "-c",
            "user.email=t@example.org",
            "-c",
            "protocol.file.allow=always",
        ]);
        command.args(args).current_dir(&self.dir).env("GIT_CONFIG_GLOBAL", "/dev/null");
        command.env("GIT_CONFIG_NOSYSTEM", "1");
        command
            .env("GIT_COMMITTER_DATE", "2020-01-02T03:04:05Z")
            .env("GIT_AUTHOR_DATE", "2020-01-02T03:04:05Z");
        let output = command.output().expect("cannot run git; install git");
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Commits all that is there; gives the hash.
    pub fn commit(&self, message: &str) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }
}
