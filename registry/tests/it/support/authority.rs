//! A certificate authority made for one test, and what servers prove themselves with.

use std::fs;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

/// A certificate authority made for one test.
pub struct Authority {
    dir: TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Self { dir };
        let (key, cert) = (authority.path("ca.key"), authority.path("ca.pem"));
        let subject =
            ["-subj", "/CN=test authority", "-days", "2", "-addext", "basicConstraints=critical,CA:TRUE"];
        let make = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            &key,
            "-out",
            &cert,
        ];
        super::run("openssl", &[&make[..], &subject[..]].concat());
        authority
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    pub fn pem(&self) -> Vec<u8> {
        fs::read(self.path("ca.pem")).unwrap()
    }

    /// A certificate and its key for these names; valid from yesterday until so many days after that.
    pub fn issue(&self, names: &str, expired: bool) -> (String, String) {
        let (key, request, cert, extensions) =
            (self.path("key"), self.path("csr"), self.path("cert"), self.path("ext"));
        fs::write(&extensions, format!("subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth\n"))
            .unwrap();
        super::run(
            "openssl",
            &[
                "req",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-keyout",
                &key,
                "-out",
                &request,
                "-subj",
                "/CN=server",
            ],
        );
        let (ca, ca_key) = (self.path("ca.pem"), self.path("ca.key"));
        let base = [
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-CAcreateserial",
            "-out",
            &cert,
            "-extfile",
            &extensions,
        ];
        // A negative number of days ends before it begins: expired.
        let days = if expired { ["-days", "-1"] } else { ["-days", "2"] };
        super::run("openssl", &[&base[..], &days[..]].concat());
        (fs::read_to_string(cert).unwrap(), fs::read_to_string(key).unwrap())
    }

    /// What a server proves itself with, for 127.0.0.1; with `asks`, it wants a certificate of this authority.
    pub fn acceptor(&self, protocols: &[&[u8]], asks: bool) -> TlsAcceptor {
        let (cert, key) = self.issue("IP:127.0.0.1,DNS:localhost", false);
        let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = if asks {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(&self.pem()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}
