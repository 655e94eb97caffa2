//! Debian's `docker-registry`, started for one test.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{Authority, soon, tool};

/// A running registry; killed with the value.
pub struct Registry {
    child: Child,
    dir: TempDir,
    /// `127.0.0.1:port`.
    pub host: String,
}

impl Registry {
    /// Open to everyone.
    pub fn open() -> Self {
        Self::start("127.0.0.1", "", "")
    }

    /// With TLS; with `asks_clients`, for those only whom the authority knows.
    pub fn with_tls(authority: &Authority, asks_clients: bool) -> Self {
        let [ca, cert, key] = ["ca.crt", "server.crt", "server.key"].map(|name| authority.path(name));
        let clients = if asks_clients { format!("    clientcas: [{ca}]\n") } else { String::new() };
        Self::start("127.0.0.1", &format!("  tls:\n    certificate: {cert}\n    key: {key}\n{clients}"), "")
    }

    /// Open to everyone, at an address that is not loopback (but is this machine's alone).
    pub fn at(address: &str) -> Self {
        Self::start(address, "", "")
    }

    /// For the user `forge` with the password `s3cret`.
    pub fn with_password() -> Self {
        Self::start("127.0.0.1", "", "auth:\n  htpasswd:\n    realm: test\n    path: DIR/htpasswd\n")
    }

    fn start(address: &str, tls: &str, auth: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        if !auth.is_empty() {
            fs::write(dir.path().join("htpasswd"), tool("htpasswd", &["-Bbn", "forge", "s3cret"])).unwrap();
        }
        // The port may be taken by someone else between the look and the start: then another is tried.
        for _ in 0..5 {
            let port = TcpListener::bind((address, 0)).unwrap().local_addr().unwrap().port();
            let host = format!("{address}:{port}");
            if let Some(child) = try_start(dir.path(), &host, &format!("{tls}{auth}")) {
                return Self { child, dir, host };
            }
        }
        panic!("docker-registry: {}", fs::read_to_string(dir.path().join("log")).unwrap());
    }

    /// The sizes of all blobs that are there.
    pub fn blobs(&self) -> Vec<u64> {
        self.files("blobs/sha256/*/*/data")
            .iter()
            .map(|path| fs::metadata(path).map_or(0, |m| m.len()))
            .collect()
    }

    /// Uploads that are neither finished nor given up.
    pub fn uploads(&self, repository: &str) -> Vec<PathBuf> {
        self.files(&format!("repositories/{repository}/_uploads/*"))
    }

    fn files(&self, pattern: &str) -> Vec<PathBuf> {
        let mut found = vec![self.dir.path().join("data/docker/registry/v2")];
        for part in pattern.split('/') {
            let inside = |dir: PathBuf| match part {
                "*" => fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect(),
                name => vec![dir.join(name)],
            };
            found = found.into_iter().flat_map(inside).filter(|path: &PathBuf| path.exists()).collect();
        }
        found
    }

    /// What it was asked so far: `GET /v2/a/blobs/sha256:…`, with the answer's status.
    pub fn requests(&self) -> Vec<(String, u16)> {
        let log = fs::read_to_string(self.dir.path().join("log")).unwrap();
        let request = |line: &str| {
            let mut parts = line.split('"').skip(1);
            let asked = parts.next()?.strip_suffix(" HTTP/1.1")?.to_owned();
            Some((asked, parts.next()?.split_whitespace().next()?.parse().ok()?))
        };
        log.lines().filter_map(request).collect()
    }

    /// What a tag of a repository stands for, as the registry itself wrote it down.
    pub fn digest(&self, repository: &str, tag: &str) -> String {
        let link =
            format!("data/docker/registry/v2/repositories/{repository}/_manifests/tags/{tag}/current/link");
        fs::read_to_string(self.dir.path().join(&link)).unwrap_or_else(|e| panic!("{link}: {e}"))
    }

    /// The file that holds a blob.
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        self.dir.path().join(format!("data/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
    }
}

fn try_start(dir: &Path, host: &str, more: &str) -> Option<Child> {
    let config = format!(
        "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    \
         rootdirectory: DIR/data\nhttp:\n  addr: {host}\n{more}"
    );
    let file = dir.join("config.yml");
    fs::write(&file, config.replace("DIR", dir.to_str().unwrap())).unwrap();
    let log = File::create(dir.join("log")).unwrap();
    let mut child = Command::new("docker-registry")
        .arg("serve")
        .arg(file)
        .env_remove("OTEL_TRACES_EXPORTER")
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|e| panic!("cannot run docker-registry: {e}; install docker-registry"));
    let mut ended = false;
    soon("a registry answers", || {
        ended = child.try_wait().unwrap().is_some();
        ended || TcpStream::connect(host).is_ok()
    });
    (!ended).then_some(child)
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
