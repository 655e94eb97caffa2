//! Debian's `docker-registry`, started for one test.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A running registry, killed with the value.
pub struct DockerRegistry {
    child: Child,
    dir: TempDir,
    pub port: u16,
}

impl DockerRegistry {
    /// Without login or TLS.
    pub fn plain() -> Self {
        Self::start("", "", |_| {})
    }

    /// With user names and passwords (`forge`/`s3cret`).
    pub fn with_password() -> Self {
        Self::start("auth:\n  htpasswd:\n    realm: test\n    path: DIR/htpasswd\n", "", |dir| {
            let line = super::run("htpasswd", &["-Bbn", "forge", "s3cret"]);
            fs::write(dir.join("htpasswd"), line).unwrap();
        })
    }

    /// With a token server at `realm` that signs with the key of `certificate` (PEM).
    pub fn with_tokens(realm: &str, certificate: &str) -> Self {
        let auth = format!(
            "auth:\n  token:\n    realm: {realm}\n    service: test-service\n    issuer: test-issuer\n    \
             rootcertbundle: DIR/token.pem\n"
        );
        Self::start(&auth, "", |dir| fs::write(dir.join("token.pem"), certificate).unwrap())
    }

    /// With TLS by this certificate and key (PEM).
    pub fn with_tls(certificate: &str, key: &str) -> Self {
        let tls = "  tls:\n    certificate: DIR/tls.pem\n    key: DIR/tls.key\n";
        Self::start("", tls, |dir| {
            fs::write(dir.join("tls.pem"), certificate).unwrap();
            fs::write(dir.join("tls.key"), key).unwrap();
        })
    }

    fn start(auth: &str, tls: &str, prepare: impl FnOnce(&std::path::Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        // The port may be taken by someone else between the look and the start: then another is tried.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let config = format!(
                "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    \
                 rootdirectory: DIR/data\n  delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:{port}\n{tls}{auth}"
            );
            fs::write(dir.path().join("config.yml"), config.replace("DIR", dir.path().to_str().unwrap()))
                .unwrap();
            let log = File::create(dir.path().join("log")).unwrap();
            let mut child = Command::new("docker-registry")
                .arg("serve")
                .arg(dir.path().join("config.yml"))
                .env_remove("OTEL_TRACES_EXPORTER")
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .spawn()
                .unwrap_or_else(|e| panic!("cannot run docker-registry: {e}; install docker-registry"));
            if answers(&mut child, port) {
                return Self { child, dir, port };
            }
        }
        let log = fs::read_to_string(dir.path().join("log")).unwrap();
        panic!("docker-registry does not start: {log}");
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Files that the registry keeps.
    pub fn has_blob(&self, hex: &str) -> bool {
        let path = format!("data/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
        self.dir.path().join(path).exists()
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn answers(child: &mut Child, port: u16) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return true;
        }
        sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    false
}
