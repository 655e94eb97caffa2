//! A token server: signs JWTs that Debian's `docker-registry` believes, or gives plain words to the fake one.

use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

use super::http::{Reply, Request, Server};

/// A key, its certificate, and the programs to sign with it.
pub struct Signer {
    dir: TempDir,
    pub certificate: String,
    x5c: String,
}

impl Signer {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let (key, cert) = (path("key.pem"), path("cert.pem"));
        super::run(
            "openssl",
            &[
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-keyout",
                &key,
                "-out",
                &cert,
                "-subj",
                "/CN=token",
                "-days",
                "2",
            ],
        );
        let certificate = fs::read_to_string(&cert).unwrap();
        let x5c = certificate.lines().filter(|line| !line.starts_with("---")).collect();
        Self { dir, certificate, x5c }
    }

    /// A token for these scopes that lasts so many seconds.
    fn token(&self, scopes: &[String], seconds: u64) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let access: Vec<String> = scopes.iter().filter_map(|scope| access(scope)).collect();
        let header = format!(r#"{{"typ":"JWT","alg":"RS256","x5c":["{}"]}}"#, self.x5c);
        let claims = format!(
            r#"{{"iss":"test-issuer","aud":"test-service","sub":"forge","iat":{now},"nbf":{},"exp":{},"jti":"1","access":[{}]}}"#,
            now - 10,
            now + seconds,
            access.join(",")
        );
        let signed = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
        let (text, signature) = (self.dir.path().join("text"), self.dir.path().join("signature"));
        fs::write(&text, &signed).unwrap();
        let done = Command::new("openssl")
            .args(["dgst", "-sha256", "-sign"])
            .arg(self.dir.path().join("key.pem"))
            .arg("-out")
            .args([&signature, &text])
            .status();
        assert!(done.expect("install openssl").success());
        format!("{signed}.{}", base64url(&fs::read(signature).unwrap()))
    }
}

fn access(scope: &str) -> Option<String> {
    let [kind, name, actions] = scope.splitn(3, ':').collect::<Vec<_>>().try_into().ok()?;
    let actions: Vec<String> = actions.split(',').map(|action| format!("\"{action}\"")).collect();
    Some(format!(r#"{{"type":"{kind}","name":"{name}","actions":[{}]}}"#, actions.join(",")))
}

/// base64url without padding (RFC 4648 §5).
fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let word =
            three.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for n in 0..=three.len() {
            out.push(char::from(DIGITS[(word >> (18 - 6 * n) & 63) as usize]));
        }
    }
    out
}

/// A running token server for `docker-registry` that knows `forge`/`s3cret`.
pub struct TokenServer {
    pub server: Server,
    pub asked: Arc<Mutex<Vec<Request>>>,
}

impl TokenServer {
    pub async fn start(signer: Arc<Signer>, seconds: u64) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        let server = Server::start(Arc::new(move |request: Request| {
            log.lock().unwrap().push(request.clone());
            if request.header("authorization") != Some("Basic Zm9yZ2U6czNjcmV0") {
                return Reply::new(401);
            }
            let scopes = request.query.get("scope").cloned().unwrap_or_default();
            let token = signer.token(&scopes, seconds);
            Reply::new(200).body(format!(r#"{{"token":"{token}","expires_in":{seconds}}}"#))
        }))
        .await;
        Self { server, asked }
    }

    pub fn realm(&self) -> String {
        format!("http://{}/token", self.server.host())
    }
}
