//! A Docker daemon with its containerd, started for one test, and a socket that counts what goes through it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;

use super::{Authority, soon};

/// A running daemon. Its namespaces end with the value, and everything in them.
pub struct Dockerd {
    child: Child,
    dir: TempDir,
}

impl Dockerd {
    pub fn start() -> Self {
        Self::listening(&[])
    }

    /// By TLS besides, on a port of loopback; whoever asks must show a certificate of the authority. Says where.
    pub fn with_tls(authority: &Authority) -> (Self, String) {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("tcp://127.0.0.1:{port}");
        let path = |flag: &str, name: &str| format!("--{flag}={}", authority.path(name));
        let flags = [
            "--tlsverify".to_owned(),
            path("tlscacert", "ca.crt"),
            path("tlscert", "server.crt"),
            path("tlskey", "server.key"),
            format!("--host={host}"),
        ];
        (Self::listening(&flags), host)
    }

    fn listening(more: &[String]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let log = File::create(path("log")).unwrap();
        let own = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "dockerd"];
        let without = ["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs"];
        let child = Command::new("unshare")
            .args(own)
            .args(without)
            .args(more)
            .arg(format!("--data-root={}", path("data").display()))
            .arg(format!("--exec-root={}", path("exec").display()))
            .arg(format!("--pidfile={}", path("pid").display()))
            .arg(format!("--host=unix://{}", path("docker.sock").display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot run unshare: {e}; install util-linux"));
        let engine = Self { child, dir };
        soon("dockerd answers", || UnixStream::connect(engine.socket()).is_ok());
        engine
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    /// The socket of its containerd.
    pub fn containerd(&self) -> String {
        self.dir.path().join("exec/containerd/containerd.sock").display().to_string()
    }

    /// Asks the API; gives the body.
    pub fn get(&self, path: &str) -> serde_json::Value {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        super::json(body)
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A socket before another one. Its threads end with the test's process.
pub struct Counted {
    path: PathBuf,
    bytes: Arc<AtomicU64>,
}

impl Counted {
    pub fn before(socket: PathBuf, at: &Path) -> Self {
        let listener = UnixListener::bind(at).unwrap();
        let bytes = Arc::new(AtomicU64::new(0));
        let count = bytes.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (Ok(server), count) = (UnixStream::connect(&socket), count.clone()) else { continue };
                std::thread::spawn(move || forward(client, server, &count));
            }
        });
        Self { path: at.to_owned(), bytes }
    }

    pub fn host(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// Bytes sent to the engine since this was asked last.
    pub fn sent(&self) -> u64 {
        self.bytes.swap(0, Ordering::SeqCst)
    }
}

fn forward(client: UnixStream, server: UnixStream, count: &AtomicU64) {
    let (mut answers, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = io::copy(&mut answers, &mut back);
        let _ = back.shutdown(Shutdown::Both);
    });
    let mut buffer = vec![0; 64 << 10];
    let (mut client, mut server) = (client, server);
    while let Ok(n @ 1..) = client.read(&mut buffer) {
        count.fetch_add(n as u64, Ordering::SeqCst);
        if server.write_all(&buffer[..n]).is_err() {
            return;
        }
    }
}
