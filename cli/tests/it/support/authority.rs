//! A certificate authority made for one test, by openssl.

use std::fs;

use tempfile::TempDir;

use super::tool;

/// The authority, a certificate for 127.0.0.1 and `registry.test`, and one for a client; all with their keys.
pub struct Authority(TempDir);

impl Authority {
    pub fn new() -> Self {
        let authority = Self(tempfile::tempdir().unwrap());
        let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let of =
            |name: &str| (authority.path(&format!("{name}.key")), authority.path(&format!("{name}.crt")));
        let (ca_key, ca) = of("ca");
        let own = ["-keyout", &ca_key, "-out", &ca, "-subj", "/CN=test authority", "-days", "2"];
        tool("openssl", &[&["req", "-x509"][..], &new_key, &own].concat());
        for (name, usage) in [("server", "serverAuth"), ("client", "clientAuth")] {
            let (key, cert) = of(name);
            let (request, more) = (authority.path("csr"), authority.path("ext"));
            fs::write(
                &more,
                format!("subjectAltName=IP:127.0.0.1,DNS:registry.test\nextendedKeyUsage={usage}\n"),
            )
            .unwrap();
            let own = ["-keyout", &key, "-out", &request, "-subj", "/CN=one"];
            tool("openssl", &[&["req"][..], &new_key, &own].concat());
            let sign = ["x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial"];
            tool("openssl", &[&sign[..], &["-out", &cert, "-extfile", &more, "-days", "2"]].concat());
        }
        authority
    }

    /// `ca.crt`, `server.crt`, `server.key`, `client.crt` or `client.key`.
    pub fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }
}
