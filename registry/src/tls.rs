//! TLS where it is not a registry that is spoken to: an engine's API. Who is trusted and who we are comes in as PEM.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// Whom to trust, and who we are.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Authorities, PEM. Nobody else is trusted.
    pub authorities: Vec<u8>,
    /// A certificate and its key, PEM.
    pub identity: Option<Vec<u8>>,
    /// Take any server.
    pub skip_verify: bool,
}

/// The settings of connections.
///
/// # Errors
/// What is wrong with the certificates.
pub fn config(trust: &Trust) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().map_err(|e| e.to_string())?;
    let builder = match trust.skip_verify {
        true => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider))),
        false => builder.with_root_certificates(roots(&trust.authorities)?),
    };
    let config = match &trust.identity {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let (chain, key) = chain_and_key(pem)?;
            let bad = |e: Error| format!("the client certificate does not go with its key: {e}");
            builder.with_client_auth_cert(chain, key).map_err(bad)?
        }
    };
    Ok(Arc::new(config))
}

fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|e| format!("the CA certificates are not PEM: {e}"))?;
        roots.add(certificate).map_err(|e| format!("a CA certificate is not to be used: {e}"))?;
    }
    if roots.is_empty() {
        Err("there is no PEM certificate among the CA certificates".into())
    } else {
        Ok(roots)
    }
}

/// A certificate with those above it, and its key.
pub(crate) fn chain_and_key(
    pem: &[u8],
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let bad =
        |e: rustls::pki_types::pem::Error| format!("the client certificate and its key are not PEM: {e}");
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(bad)?;
    Ok((chain, PrivateKeyDer::from_pem_slice(pem).map_err(bad)?))
}

/// Takes any server.
#[derive(Debug)]
pub(crate) struct Anyone(pub Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
