//! TLS of a listener: rustls, with HTTP/2 and HTTP/1.1 offered.

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::snapshot::TlsFiles;

/// Why a certificate and key are of no use. Quotes neither.
#[derive(Debug)]
pub struct TlsError(String);

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TlsError {}

/// The server side of TLS for `files`; shared by all listeners and workers.
pub fn server_config(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(files.cert_pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| TlsError("the certificate file is not PEM".into()))?;
    if chain.is_empty() {
        return Err(TlsError("the certificate file holds no certificate".into()));
    }
    let key = PrivateKeyDer::from_pem_slice(files.key_pem.expose().as_bytes())
        .map_err(|_| TlsError("the key file holds no PEM private key".into()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError(error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        // rustls names what does not fit; it does not print keys.
        .map_err(|error| TlsError(format!("certificate and key do not fit: {error}")))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if let Ok(ticketer) = rustls::crypto::aws_lc_rs::Ticketer::new() {
        config.ticketer = ticketer;
    }
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn files(cert: &str, key: &str) -> TlsFiles {
        TlsFiles { cert_pem: Arc::from(cert), key_pem: Secret::new(key) }
    }

    #[test]
    fn good_and_bad_pairs() {
        let one = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let two = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let (cert, key) = (one.cert.pem(), one.signing_key.serialize_pem());
        let config = server_config(&files(&cert, &key)).unwrap();
        assert_eq!(config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
        for (cert, key, says) in [
            ("", key.as_str(), "no certificate"),
            (cert.as_str(), "", "no PEM private key"),
            (cert.as_str(), cert.as_str(), "no PEM private key"),
            (cert.as_str(), two.signing_key.serialize_pem().as_str(), "do not fit"),
        ] {
            let error = server_config(&files(cert, key)).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
