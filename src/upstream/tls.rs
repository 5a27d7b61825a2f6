//! Trust in upstreams: whose certificates are believed.
//!
//! The system's roots, or the ones built in where the system has none; `ca_pem` stands instead of
//! both. ALPN offers one version of HTTP, the one that will be spoken. Roots are read once per process, off the workers.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::error::BoxError;
use crate::snapshot::{ProxyServer, Transport};

/// Whom one connection trusts, and what will be spoken on it.
#[derive(Clone, Copy, Debug)]
pub struct Trust<'a> {
    /// Instead of the system's roots.
    ca_pem: Option<&'a str>,
    skip_verify: bool,
    http2: bool,
}

impl<'a> From<&'a Transport> for Trust<'a> {
    fn from(transport: &'a Transport) -> Self {
        let Transport { ca_pem, skip_verify, wire, .. } = transport;
        Self { ca_pem: ca_pem.as_deref(), skip_verify: *skip_verify, http2: wire.http2 }
    }
}

/// Trust in an upstream is none in a proxy on the way to it.
impl<'a> From<&'a ProxyServer> for Trust<'a> {
    fn from(proxy: &'a ProxyServer) -> Self {
        Self { ca_pem: proxy.ca_pem.as_deref(), skip_verify: false, http2: false }
    }
}

/// The roots of the process; cheap to clone, shared by all workers.
#[derive(Clone, Debug)]
pub struct Tls {
    provider: Arc<CryptoProvider>,
    system: Arc<OnceLock<Arc<ClientConfig>>>,
}

impl Default for Tls {
    fn default() -> Self {
        Self::new()
    }
}

impl Tls {
    pub fn new() -> Self {
        Self { provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()), system: Arc::default() }
    }

    /// The client configuration of one connection. Blocks the task, not the thread, while the
    /// system's roots are read for the first time.
    pub async fn config(&self, trust: Trust<'_>) -> Result<Arc<ClientConfig>, BoxError> {
        let http2 = trust.http2;
        if trust.skip_verify {
            let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider));
            let anybody = Arc::new(TrustAnybody(Arc::clone(&self.provider)));
            let config = builder.with_safe_default_protocol_versions()?.dangerous();
            let config = config.with_custom_certificate_verifier(anybody).with_no_client_auth();
            return Ok(finished(config, http2));
        }
        if let Some(pem) = trust.ca_pem {
            return Ok(finished(self.trusting(roots_of(pem)?)?, http2));
        }
        let config = match self.system.get() {
            Some(config) => config,
            None => {
                let roots = tokio::task::spawn_blocking(system_roots).await?;
                let config = finished(self.trusting(roots)?, false);
                self.system.get_or_init(|| config)
            }
        };
        Ok(if http2 { finished(ClientConfig::clone(config), true) } else { Arc::clone(config) })
    }

    fn trusting(&self, roots: RootCertStore) -> Result<ClientConfig, BoxError> {
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider));
        let config = builder.with_safe_default_protocol_versions()?.with_root_certificates(roots);
        Ok(config.with_no_client_auth())
    }
}

/// What HTTP/2 is called in a handshake.
pub const ALPN_HTTP2: &[u8] = b"h2";

fn finished(mut config: ClientConfig, http2: bool) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![if http2 { ALPN_HTTP2.to_vec() } else { b"http/1.1".to_vec() }];
    Arc::new(config)
}

fn roots_of(pem: &str) -> Result<RootCertStore, BoxError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate?)?;
    }
    if roots.is_empty() {
        return Err("the CA bundle holds no certificate".into());
    }
    Ok(roots)
}

/// One unreadable certificate of the system is no reason to trust none of the others.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

/// The name that the upstream's certificate must bear.
pub fn server_name(host: &str) -> Result<ServerName<'static>, BoxError> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    Ok(ServerName::try_from(bare.to_owned())?)
}

/// `insecure_skip_verify`: any certificate will do, but the handshake must still be signed by it.
#[derive(Debug)]
struct TrustAnybody(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAnybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (host, good) in [("api.example.com", true), ("127.0.0.1", true), ("[::1]", true), ("a b", false)] {
            assert_eq!(server_name(host).is_ok(), good, "{host}");
        }
    }

    #[test]
    fn a_bundle_without_certificates_is_refused() {
        assert!(roots_of("").is_err());
        assert!(roots_of("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err());
    }
}
